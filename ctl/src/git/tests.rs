//! Repositories that git made, and some that it would not.

use super::*;

use std::fs;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("llctl-git-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn git(&self, dir: &str, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.0.join(dir))
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn read(&self, dir: &str) -> Option<GitState> {
        read(&self.0.join(dir), &self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn on(head: &str, branch: &str) -> Option<GitState> {
    Some(GitState {
        head: Some(head.to_owned()),
        branch: Some(branch.to_owned()),
        dirty: None,
    })
}

#[test]
fn head_and_branch_are_what_git_says() {
    let s = Scratch::new("repo");
    assert_eq!(s.read(""), None);
    fs::create_dir(s.0.join("repo")).unwrap();
    s.git("repo", &["init", "-q"]);
    let unborn = GitState {
        branch: Some("main".to_owned()),
        ..GitState::default()
    };
    assert_eq!(s.read("repo"), Some(unborn));
    s.git("repo", &["commit", "-qm", "one", "--allow-empty"]);
    s.git("repo", &["checkout", "-qb", "feature/a"]);
    let head = s.git("repo", &["rev-parse", "HEAD"]);
    assert_eq!(s.read("repo"), on(&head, "feature/a"));
    fs::create_dir_all(s.0.join("repo/src/deep")).unwrap();
    assert_eq!(s.read("repo/src/deep"), on(&head, "feature/a"));
    assert_eq!(read(&s.0.join("repo/src"), &s.0.join("repo/src")), None);
    s.git("repo", &["pack-refs", "--all"]);
    assert!(!s.0.join("repo/.git/refs/heads/feature/a").exists());
    assert_eq!(s.read("repo"), on(&head, "feature/a"));
    s.git("repo", &["commit", "-qm", "two", "--allow-empty"]);
    let second = s.git("repo", &["rev-parse", "HEAD"]);
    assert_eq!(
        s.read("repo"),
        on(&second, "feature/a"),
        "loose goes before packed"
    );
    s.git("repo", &["checkout", "-q", "--detach", "main"]);
    let detached = s.read("repo").unwrap();
    assert_eq!((detached.head, detached.branch), (Some(head), None));
}

#[test]
fn a_linked_worktree_has_its_own_head_and_the_repositorys_branches() {
    let s = Scratch::new("linked");
    fs::create_dir(s.0.join("repo")).unwrap();
    s.git("repo", &["init", "-q"]);
    s.git("repo", &["commit", "-qm", "one", "--allow-empty"]);
    s.git("repo", &["worktree", "add", "-q", "-b", "side", "../side"]);
    s.git("side", &["commit", "-qm", "two", "--allow-empty"]);
    let (main, side) = (
        s.git("repo", &["rev-parse", "HEAD"]),
        s.git("side", &["rev-parse", "HEAD"]),
    );
    assert_ne!(main, side);
    assert_eq!(s.read("repo"), on(&main, "main"));
    assert_eq!(s.read("side"), on(&side, "side"));
    s.git("repo", &["pack-refs", "--all"]);
    assert_eq!(s.read("side"), on(&side, "side"));
}

#[test]
fn git_says_whether_it_is_dirty() {
    let s = Scratch::new("dirty");
    assert_eq!(dirty(&s.0.join("no such")), None);
    fs::create_dir(s.0.join("repo")).unwrap();
    s.git("repo", &["init", "-q"]);
    let repo = s.0.join("repo");
    fs::write(repo.join("file"), "one").unwrap();
    assert_eq!(dirty(&repo), Some(true), "untracked");
    s.git("repo", &["add", "file"]);
    assert_eq!(dirty(&repo), Some(true), "staged");
    s.git("repo", &["commit", "-qm", "one"]);
    assert_eq!(dirty(&repo), Some(false));
    fs::write(repo.join("file"), "two").unwrap();
    assert_eq!(dirty(&repo), Some(true), "changed");
}

#[test]
fn what_is_no_repository_is_none_and_is_not_waited_for() {
    let s = Scratch::new("hostile");
    let git = s.0.join(".git");
    fs::create_dir(&git).unwrap();
    let commit = "0123456789012345678901234567890123456789";
    fs::write(s.0.join("outside"), commit).unwrap();
    for head in [
        "",
        "ref: ../outside",
        "ref: refs/heads/../../../outside",
        "ref: /etc/passwd",
        "not a commit",
        "\u{1}ref: refs/heads/a\u{1b}b",
    ] {
        fs::write(git.join("HEAD"), head).unwrap();
        assert_eq!(s.read(""), None, "{head:?}");
    }
    fs::create_dir_all(git.join("refs/heads")).unwrap();
    fs::write(git.join("refs/heads/a"), "ref: refs/heads/a").unwrap();
    fs::write(git.join("HEAD"), "ref: refs/heads/a").unwrap();
    assert_eq!(s.read(""), None, "a circle");
    fs::remove_file(git.join("HEAD")).unwrap();
    nix::unistd::mkfifo(&git.join("HEAD"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(s.read(""), None, "a pipe that nobody writes to");
}
