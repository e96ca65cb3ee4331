//! `docs/GUIDE.md` says what happens: its commands are run, and print what it shows.
//!
//! `LLFS_GUIDE=write` writes what they print into the guide instead.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use llfs_tests::mounted::Mounted;

/// What stands between the outputs of two commands.
const MARK: &str = "@@@@ next";

/// A text in which figures, their units and runs of spaces are all alike: they differ from run to run.
fn alike(text: &str) -> String {
    let mut out = String::new();
    let mut figure = false;
    // A commit has another number each time, since it holds the time.
    let is_commit = |word: &&str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let mut text = text.to_owned();
    let commits: Vec<String> = (text.split_whitespace().filter(is_commit))
        .map(str::to_owned)
        .collect();
    for commit in commits {
        text = text.replace(&commit, "0");
    }
    for c in text.trim_end().chars() {
        let next = c.is_ascii_digit() || (figure && c == '.');
        let again = if next {
            figure
        } else {
            c == ' ' && out.ends_with(' ')
        };
        if !again {
            out.push(if next { '#' } else { c });
        }
        figure = next;
    }
    for unit in ["µs", "ms", "s", "B", "KiB", "MiB", "GiB", "TiB"] {
        for end in [",", ".", ")", " ", "\n", ";"] {
            out = out.replace(&format!("# {unit}{end}"), &format!("# unit{end}"));
        }
    }
    out
}

/// The commands of the guide, in order: all lines of `console` blocks that begin with a dollar.
fn commands(guide: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in guide.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if inside => found.extend(line.strip_prefix("$ ")),
            _ => {}
        }
    }
    found
}

/// The guide with what `outputs` says behind each command.
fn with_outputs(guide: &str, outputs: &[&str]) -> String {
    let mut outputs = outputs.iter();
    let mut text = String::new();
    let mut inside = false;
    for line in guide.lines() {
        inside = match line {
            "```console" => true,
            "```" => false,
            _ => inside,
        };
        let command = inside && line.starts_with("$ ");
        if !inside || command || line == "```console" {
            writeln!(text, "{line}").unwrap();
        }
        if command {
            text.push_str(outputs.next().expect("as many outputs as commands"));
        }
    }
    text
}

#[test]
fn the_guide_shows_what_its_commands_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/GUIDE.md");
    let guide = fs::read_to_string(&path).unwrap();
    let commands = commands(&guide);
    assert!(commands.len() > 20, "the guide has commands");

    let mut place = Mounted::prepare("guide");
    place.allow(std::time::Duration::from_secs(120));
    let work = place.base().join("..");
    let programs = format!(
        "{}:{}",
        llfs_tests::binaries::directory().display(),
        std::env::var("PATH").unwrap()
    );
    let mut script = String::from("exec 2>&1 </dev/null\n");
    for command in &commands {
        writeln!(script, "{command}\necho '{MARK}'").unwrap();
    }
    script.push_str("[ ! -e shop/.llfs/start ] || llfs unmount ./shop\n");
    let ran = place
        .program("bash")
        .arg("-c")
        .arg(&script)
        .env("PATH", programs)
        .env("LC_ALL", "C.UTF-8")
        .env("NO_COLOR", "1")
        .dir(&work)
        .ok();
    let scratch = fs::canonicalize(&work).unwrap();
    let printed = ran.out().replace(scratch.to_str().unwrap(), "/home/ada");
    let mark = format!("{MARK}\n");
    let outputs: Vec<&str> = printed.split(mark.as_str()).collect();
    assert_eq!(outputs.len(), commands.len() + 1, "{printed}");

    let now = with_outputs(&guide, &outputs);
    if std::env::var_os("LLFS_GUIDE").is_some_and(|v| v == "write") {
        fs::write(&path, now).unwrap();
        return;
    }
    assert_eq!(
        alike(&guide),
        alike(&now),
        "{} is out of date",
        path.display()
    );
}
