//! Commands as people type them at an agent: `rollback session feature-auth-001 to dor-checkpoint`.
//!
//! A small grammar, no guessing: each phrase is either one command of `llctl` or not understood. Words that only make it polite
//! (`please`, `the`, `a`, …) are skipped, case does not matter but in names, and names may be quoted.

use crate::name::{SnapName, StateRef};

/// What a phrase means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    /// The arguments of `llctl`, the command first.
    pub args: Vec<String>,
    /// The session that the snapshot that is named must be of.
    pub session: Option<String>,
}

/// A phrase that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not understood: {why}")]
pub struct NotUnderstood {
    /// The phrase.
    pub text: String,
    /// What stopped it.
    pub why: String,
}

/// What would be understood, for people.
pub const EXAMPLES: &str = "\
rollback to checkpoint NAME [session SESSION]
rollback session SESSION to NAME
rollback session SESSION            undo what that session did, and keep the rest
rollback NAME                       (or: revert, restore, go back to)
rollback src/*.rs to NAME           only these paths
checkpoint NAME [session SESSION]   (or: snap, snapshot, save, take a snapshot named NAME)
list [session SESSION]              (or: show checkpoints)
diff [NAME [to NAME]]               (or: what changed since NAME)
undo [NUMBER]
redo [NUMBER]
status";

/// Words without a meaning of their own.
const FILLERS: [&str; 10] = [
    "please",
    "the",
    "my",
    "me",
    "all",
    "now",
    "everything",
    "llctl",
    "of",
    "in",
];
const KINDS: [&str; 4] = ["checkpoint", "checkpoints", "snapshot", "snapshots"];
/// An article is one before these only: elsewhere it is a name.
const ARTICLES: [&str; 2] = ["a", "an"];
const AFTER_ARTICLES: [&str; 9] = [
    "new",
    "checkpoint",
    "snapshot",
    "session",
    "message",
    "diff",
    "status",
    "list",
    "step",
];

/// The words that are left.
struct Words<'a> {
    text: &'a str,
    left: std::vec::IntoIter<Word>,
}

#[derive(Clone, Debug)]
struct Word {
    text: String,
    /// It was quoted, and so is a name whatever it says.
    quoted: bool,
}

impl Word {
    fn is(&self, word: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(word)
    }

    fn any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }
}

/// What a phrase means.
///
/// # Errors
/// It is none of [`EXAMPLES`].
pub fn parse(text: &str) -> Result<Phrase, NotUnderstood> {
    let mut words = Words {
        text,
        left: split(text).into_iter(),
    };
    words.fillers();
    let Some(first) = words.left.next() else {
        return Err(words.stuck("it says nothing"));
    };
    let verb = first.text.to_lowercase();
    let phrase = match verb.as_str() {
        "rollback" | "revert" | "restore" => revert(&mut words)?,
        "roll" | "go" | "get" if words.take(&["back"]) => revert(&mut words)?,
        "snap" | "snapshot" | "checkpoint" | "save" => snap(&mut words)?,
        "take" | "make" | "create" => {
            words.fillers();
            words.skip(&["new"]);
            if !words.take(&KINDS) {
                return Err(words.stuck(&format!("{verb} what? A checkpoint is what can be made")));
            }
            snap(&mut words)?
        }
        "list" | "ls" => list(&mut words)?,
        "show" => {
            words.fillers();
            if words.take(&["diff", "changes"]) {
                diff(&mut words)?
            } else if words.take(&["status"]) {
                plain("status")
            } else if words.take(&["checkpoints", "snapshots"]) {
                list(&mut words)?
            } else {
                words.skip(&KINDS);
                let name = words.name("show which checkpoint?")?;
                args(["show", &name])
            }
        }
        "diff" | "compare" => diff(&mut words)?,
        "what" if words.take(&["changed", "has"]) => {
            words.skip(&["changed"]);
            diff(&mut words)?
        }
        "undo" | "redo" => steps(&verb, &mut words)?,
        "status" => plain("status"),
        _ => return Err(words.stuck(&format!("no command begins with {:?}", first.text))),
    };
    words.fillers();
    match words.left.next() {
        None => Ok(phrase),
        Some(word) => Err(words.stuck(&format!("{:?} is too much", word.text))),
    }
}

fn args<const N: usize>(args: [&str; N]) -> Phrase {
    Phrase {
        args: args.map(str::to_owned).to_vec(),
        session: None,
    }
}

fn plain(command: &str) -> Phrase {
    args([command])
}

/// Behind `rollback`: where to, of which session, which paths, in any order.
fn revert(words: &mut Words<'_>) -> Result<Phrase, NotUnderstood> {
    let (mut to, mut session, mut paths) = (None, None, Vec::new());
    loop {
        words.fillers();
        words.skip(&["to", "for", "from", "only", "and"]);
        words.fillers();
        if words.take(&["session"]) {
            session = Some(words.text("which session?")?);
            continue;
        }
        words.skip(&KINDS);
        let Some(word) = words.left.next() else { break };
        // A pattern cannot be a name, or a name cannot be a pattern.
        let path = !word.quoted && word.text.contains(['/', '*', '?', '[', '{']);
        if path {
            paths.push(word.text);
        } else if to.is_none() {
            to = Some(words.checked(word.text)?);
        } else {
            return Err(words.stuck(&format!("{:?} is too much", word.text)));
        }
    }
    let mut args = vec!["revert".to_owned()];
    let session = match (to, session) {
        (Some(to), session) => {
            args.push(to);
            session
        }
        (None, Some(session)) => {
            args.extend(["--session".to_owned(), session]);
            None
        }
        (None, None) => {
            return Err(words.stuck(
                "roll back to which checkpoint? (a name that is a word as well can be quoted)",
            ));
        }
    };
    for path in paths {
        args.extend(["--path".to_owned(), path]);
    }
    Ok(Phrase { args, session })
}

/// Behind `checkpoint`: name, session and message, all of which may be missing.
fn snap(words: &mut Words<'_>) -> Result<Phrase, NotUnderstood> {
    let mut args = vec!["snap".to_owned()];
    loop {
        words.fillers();
        words.skip(&["as", "named", "called", "for", "to", "with"]);
        words.fillers();
        words.skip(&KINDS);
        if words.take(&["session"]) {
            args.extend(["--session".to_owned(), words.text("which session?")?]);
        } else if words.take(&["message", "saying"]) {
            args.extend(["--message".to_owned(), words.text("which message?")?]);
        } else if words.left.as_slice().is_empty() {
            break;
        } else if args.len() == 1 {
            let name = words.name("which name?")?;
            let name = SnapName::new(name).map_err(|why| words.stuck(&why.to_string()))?;
            args.push(name.into());
        } else {
            break;
        }
    }
    Ok(Phrase {
        args,
        session: None,
    })
}

fn list(words: &mut Words<'_>) -> Result<Phrase, NotUnderstood> {
    words.fillers();
    words.skip(&KINDS);
    words.fillers();
    words.skip(&["for", "from"]);
    if words.take(&["session"]) {
        let session = words.text("which session?")?;
        return Ok(args(["list", "--session", &session]));
    }
    Ok(plain("list"))
}

fn diff(words: &mut Words<'_>) -> Result<Phrase, NotUnderstood> {
    let mut found = vec!["diff".to_owned()];
    loop {
        words.fillers();
        words.skip(&["since", "from", "between", "and", "to", "with", "against"]);
        words.fillers();
        words.skip(&KINDS);
        if words.left.as_slice().is_empty() || found.len() == 3 {
            break;
        }
        found.push(words.name("which checkpoint?")?);
    }
    Ok(Phrase {
        args: found,
        session: None,
    })
}

fn steps(command: &str, words: &mut Words<'_>) -> Result<Phrase, NotUnderstood> {
    words.fillers();
    words.skip(&["last", "that", "it", "revert", "rollback"]);
    let number = words.next_if(|word| word.text.parse::<u32>().is_ok());
    words.skip(&["steps", "step", "times", "time", "reverts"]);
    Ok(match number {
        Some(number) => args([command, &number.text]),
        None => plain(command),
    })
}

impl Words<'_> {
    fn next_if(&mut self, is: impl FnOnce(&Word) -> bool) -> Option<Word> {
        if is(self.left.as_slice().first()?) {
            self.left.next()
        } else {
            None
        }
    }

    /// Goes past all of these words that come.
    fn skip(&mut self, words: &[&str]) {
        while self.take(words) {}
    }

    /// Goes past words without a meaning of their own.
    fn fillers(&mut self) {
        loop {
            let article = match self.left.as_slice() {
                [word, next, ..] => word.any(&ARTICLES) && next.any(&AFTER_ARTICLES),
                _ => false,
            };
            if article {
                self.left.next();
            } else if !self.take(&FILLERS) {
                return;
            }
        }
    }

    /// Goes past one of these words, if it comes.
    fn take(&mut self, words: &[&str]) -> bool {
        self.next_if(|word| word.any(words)).is_some()
    }

    fn text(&mut self, question: &str) -> Result<String, NotUnderstood> {
        match self.left.next() {
            Some(word) => Ok(word.text),
            None => Err(self.stuck(question)),
        }
    }

    fn name(&mut self, question: &str) -> Result<String, NotUnderstood> {
        let text = self.text(question)?;
        self.checked(text)
    }

    /// A snapshot's name, or another state.
    fn checked(&self, text: String) -> Result<String, NotUnderstood> {
        match text.parse::<StateRef>() {
            Ok(_) => Ok(text),
            Err(why) => Err(self.stuck(&format!("{text:?}: {why}"))),
        }
    }

    fn stuck(&self, why: &str) -> NotUnderstood {
        NotUnderstood {
            text: self.text.to_owned(),
            why: why.to_owned(),
        }
    }
}

/// Words; what is between quotes is one.
fn split(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return words;
        };
        let quote = matches!(first, '"' | '\'').then_some(first);
        let end = match quote {
            Some(quote) => rest[1..].find(quote).map(|at| at + 1),
            None => None,
        };
        let (word, quoted, after) = match end {
            Some(end) => (&rest[1..end], true, &rest[end + 1..]),
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (&rest[..end], false, &rest[end..])
            }
        };
        // A sentence may end in a full stop, a name hardly.
        let plain = match quoted {
            true => word,
            false => word.trim_end_matches(['.', ',', '!', '?', ';']),
        };
        if !plain.is_empty() || quoted {
            words.push(Word {
                text: plain.to_owned(),
                quoted,
            });
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_mean_commands() {
        for (text, command, session) in [
            (
                "rollback to checkpoint dor-checkpoint session feature-auth-001",
                "revert dor-checkpoint",
                Some("feature-auth-001"),
            ),
            (
                "rollback session feature-auth-001 to dor-checkpoint",
                "revert dor-checkpoint",
                Some("feature-auth-001"),
            ),
            ("rollback dor-checkpoint", "revert dor-checkpoint", None),
            ("Please roll back to the snapshot Dor.", "revert Dor", None),
            ("go back to @base", "revert @base", None),
            ("rollback a", "revert a", None),
            ("rollback to an", "revert an", None),
            ("rollback to a checkpoint a", "revert a", None),
            ("go back to 'the'", "revert the", None),
            ("rollback to checkpoint a session b", "revert a", Some("b")),
            ("snap a", "snap a", None),
            ("diff a b", "diff a b", None),
            ("compare a with an", "diff a an", None),
            ("show a", "show a", None),
            ("show a diff", "diff", None),
            ("restore @10m", "revert @10m", None),
            ("rollback session s-1", "revert --session s-1", None),
            (
                "rollback src/*.rs and docs/ to before",
                "revert before --path src/*.rs --path docs/",
                None,
            ),
            ("revert to 'session'", "revert session", None),
            ("snap", "snap", None),
            ("snap before-upgrade", "snap before-upgrade", None),
            ("take a snapshot named x", "snap x", None),
            (
                "create a new checkpoint called x for session s message \"all tests pass\"",
                "snap x --session s --message all tests pass",
                None,
            ),
            ("checkpoint", "snap", None),
            ("list", "list", None),
            ("list all checkpoints", "list", None),
            ("show my checkpoints of session s", "list --session s", None),
            ("show checkpoint x", "show x", None),
            ("diff", "diff", None),
            ("what changed since monday?", "diff monday", None),
            ("compare monday with friday", "diff monday friday", None),
            ("diff between a1 and b1", "diff a1 b1", None),
            ("undo", "undo", None),
            ("undo the last revert", "undo", None),
            ("undo 3 steps", "undo 3", None),
            ("Redo 2", "redo 2", None),
            ("status", "status", None),
        ] {
            let phrase = parse(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(phrase.args.join(" "), command, "{text}");
            assert_eq!(phrase.session.as_deref(), session, "{text}");
        }
    }

    #[test]
    fn what_is_no_command_is_not_guessed() {
        for text in [
            "",
            "  ",
            "delete everything",
            "rollback",
            "rollback to",
            "rollback to one or two",
            "rollback -rf",
            "rollback to @nowhere",
            "rollback session",
            "snap ../x",
            "snap x y",
            "list of friends",
            "diff a1 b1 c1",
            "undo x",
            "take a walk",
            "status quo",
            "go forth",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
