//! Completion in shells, and manual pages.

use std::process::Command;

use llctl::protocol::{ErrorKind, Listing, Response};

use super::fake::{Fake, finish, llctl, snap};

/// What a shell gets for these words, of which the last one is being typed.
fn completed(fake: &Fake, words: &[&str]) -> Vec<String> {
    let mut command = llctl();
    let socket = fake.dir.join("sock");
    command
        .current_dir(&fake.dir)
        .env("LLCTL_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words.len() + 2).to_string())
        .arg("--")
        .args(["llctl", "--socket"])
        .arg(socket)
        .args(words);
    let run = finish(command);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}");
    run.stdout.lines().map(str::to_owned).collect()
}

fn with_snapshots() -> Fake {
    let names = ["alpha", "beta", "alpine", "a$(reboot)"];
    Fake::new(vec![
        Response::List(Listing {
            snapshots: names.map(snap).to_vec(),
            discarded: Vec::new(),
        }),
        Response::ListEnd,
    ])
}

#[test]
fn names_of_snapshots_are_completed_the_newest_first() {
    let fake = with_snapshots();
    assert_eq!(completed(&fake, &["show", "al"]), ["alpine", "alpha"]);
    assert_eq!(
        completed(&fake, &["delete", "beta", ""])[..3],
        ["alpine", "beta", "alpha"]
    );
    assert_eq!(completed(&fake, &["revert", "b"]), ["beta"]);
    assert_eq!(completed(&fake, &["revert", "@b"]), ["@base"]);
    assert_eq!(completed(&fake, &["diff", "alpha", "@l"]), ["@live"]);
    assert_eq!(
        completed(&fake, &["revert", "--checkpoint", "be"]),
        ["beta"]
    );
    assert_eq!(completed(&fake, &["history", "bet"]), ["beta"]);
    // What is to be new is not what there is.
    assert!(!completed(&fake, &["snap", "al"]).contains(&"alpha".to_owned()));
    assert!(!completed(&fake, &["rename", "alpha", "al"]).contains(&"alpha".to_owned()));
}

#[test]
fn commands_and_options_are_completed() {
    let fake = with_snapshots();
    assert_eq!(completed(&fake, &["rev"]), ["revert"]);
    assert_eq!(completed(&fake, &["watch", "--aft"]), ["--after"]);
    assert_eq!(completed(&fake, &["completions", "z"]), ["zsh"]);
    let all = completed(&fake, &[""]);
    for command in ["snap", "metrics", "watch", "man"] {
        assert!(all.iter().any(|c| c == command), "{command}: {all:?}");
    }
}

#[test]
fn without_a_mount_nothing_is_completed_and_nothing_said() {
    let fake = Fake::failing(ErrorKind::Internal);
    assert_eq!(completed(&fake, &["show", "al"]), [""; 0]);
}

#[test]
fn each_shell_has_its_script() {
    for (shell, word) in [
        ("bash", "complete "),
        ("zsh", "#compdef llctl"),
        ("fish", "complete "),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let mut command = llctl();
        command.args(["completions", shell]);
        let run = finish(command);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{shell}");
        assert!(run.stdout.contains(word), "{shell}: {}", run.stdout);
        assert!(run.stdout.contains("LLCTL_COMPLETE"), "{shell}");
    }
    let mut command = llctl();
    command.args(["completions", "tcsh"]);
    assert_eq!(finish(command).code, 2);
}

#[test]
fn bash_completes_with_the_script() {
    let fake = with_snapshots();
    let script = "\
source <(llctl completions bash) || exit 9
COMP_WORDS=(llctl --socket \"$1\" revert alpi) COMP_CWORD=4 COMP_TYPE=9
_clap_complete_llctl llctl alpi revert
printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut command = Command::new("bash");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_llctl"));
    let path = std::env::var("PATH").unwrap();
    command
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .current_dir(&fake.dir)
        .args(["--norc", "-c", script, "bash"])
        .arg(fake.dir.join("sock"));
    let run = finish(command);
    assert_eq!(
        (run.code, run.stdout.trim()),
        (0, "alpine"),
        "{}",
        run.stderr
    );
}

#[test]
fn there_is_a_page_for_each_command_and_man_takes_it() {
    let fake = Fake::new(Vec::new());
    let dir = fake.dir.join("man1");
    let said = fake.output(&["man", "man1"]);
    let mut pages: Vec<String> = (std::fs::read_dir(&dir).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert_eq!(said, format!("{} manual pages in man1\n", pages.len()));
    for page in [
        "llctl.1",
        "llctl-snap.1",
        "llctl-watch.1",
        "llctl-hook-install.1",
    ] {
        assert!(pages.iter().any(|p| p == page), "{page}: {pages:?}");
    }
    let help = fake.output(&["help"]);
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let named: Vec<&str> = (commands)
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for command in named {
        let page = format!("llctl-{command}.1");
        assert!(pages.contains(&page), "{page} is missing");
    }
    for page in &pages {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(text.contains(part), "{page} has no {part}");
        }
        // groff says what it does not understand.
        let checked = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(dir.join(page))
            .output();
        match checked {
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                assert!(done.status.success() && said.is_empty(), "{page}: {said}");
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

/// Whether a shell is there. Bash must be; CI has the others (`tests/packages`).
fn has(shell: &str) -> bool {
    let found = Command::new(shell).args(["-c", "exit 0"]).output();
    let found = found.is_ok_and(|done| done.status.success());
    assert!(found || shell != "bash", "there is no bash");
    if !found {
        eprintln!("{shell} is not installed: its completion was NOT tested");
    }
    found
}

/// A shell that finds this llctl.
fn in_shell(shell: &str, fake: &Fake) -> Command {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_llctl"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(shell);
    command
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env("HOME", &fake.dir)
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(&fake.dir);
    command
}

#[test]
fn fish_completes_with_the_script() {
    if !has("bash") || !has("fish") {
        return;
    }
    let fake = with_snapshots();
    let mut command = in_shell("fish", &fake);
    let script = "llctl completions fish | source; or exit 9
complete -C 'llctl --socket sock revert al'; echo ===; complete -C 'llctl watch --aft'; echo ===; complete -C 'llctl rev'";
    command.args(["--no-config", "-c", script]);
    let run = finish(command);
    let answers: Vec<Vec<&str>> = (run.stdout.split("===\n"))
        .map(|part| {
            part.lines()
                .filter_map(|line| line.split('\t').next())
                .collect()
        })
        .collect();
    assert_eq!(
        answers,
        [vec!["alpine", "alpha"], vec!["--after"], vec!["revert"]],
        "{run:?}"
    );
}

#[test]
fn zsh_completes_with_the_script() {
    if !has("bash") || !has("zsh") {
        return;
    }
    let fake = with_snapshots();
    // As somebody types it: on a terminal, with a TAB.
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || std::process::Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = in_shell("zsh", &fake);
    command
        .args(["-f", "-i"])
        .stdin(slave())
        .stdout(slave())
        .stderr(slave());
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(terminal.slave);
    let mut master = std::fs::File::from(terminal.master);
    let mut reader = master.try_clone().unwrap();
    let (sender, pieces) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(got @ 1..) = std::io::Read::read(&mut reader, &mut piece) {
            if sender.send(piece[..got].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut seen = Vec::new();
    let mut until = |what: &str| {
        let begun = std::time::Instant::now();
        while !String::from_utf8_lossy(&seen).contains(what) {
            let left = std::time::Duration::from_secs(60).checked_sub(begun.elapsed());
            let piece = left.and_then(|left| pieces.recv_timeout(left).ok());
            let Some(piece) = piece else {
                panic!("no {what:?} in {:?}", String::from_utf8_lossy(&seen));
            };
            seen.extend(piece);
        }
        seen.clear();
    };
    let mut say = |text: &str| std::io::Write::write_all(&mut master, text.as_bytes()).unwrap();
    say(
        "autoload -U compinit; compinit -u -D; unsetopt zle_bracketed_paste; source <(llctl completions zsh); PS1='ready''> '\n",
    );
    until("ready> ");
    // One that fits is completed; the rest of the line shows what it became.
    say("llctl --socket sock show alpi\t");
    until("alpine");
    say("\n");
    until("ready> ");
    say("llctl watch --aft\t");
    until("--after");
    say("\n");
    until("ready> ");
    say("exit\n");
    child.wait().unwrap();
}
