//! What went wrong, as the user is told it.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use llctl::escape::{Shown, escaped_text};
use llctl::{ClientError, exit};
use serde::{Deserialize, Serialize};

use crate::fuse::{MountError, UnmountError};

/// An error on its way to the terminal: what failed, what to do about it, and the exit code (see [`llctl::exit`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
}

impl Trouble {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: exit::FAILED,
        }
    }

    /// What could not be done, and why.
    pub(crate) fn because(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(format!("{what}: {why}"))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Tells the user, in the form of `llctl`: on stderr, and with `json` on stdout too. Gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if json {
            let account = serde_json::json!({"kind": self.kind(), "message": self.message, "hint": self.hint});
            println!("{}", serde_json::json!({"error": account}));
        }
        eprintln!("llfs: error: {}", lines(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", lines(hint));
        }
        ExitCode::from(self.code)
    }

    /// The exit code, for programs that read JSON.
    fn kind(&self) -> &'static str {
        match self.code {
            exit::NO_MOUNT => "no_mount",
            exit::REFUSED => "refused",
            exit::DAMAGED => "damaged",
            exit::NO_WRITE => "no_space",
            _ => "failed",
        }
    }
}

/// `path` as an argument that can be pasted into a shell.
pub(crate) fn argument(path: &Path) -> String {
    let text = path.shown();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.+,@%".contains(&b);
    if text.bytes().all(plain) {
        return text;
    }
    match text.contains('\\') {
        // The escapes are those of the shells' `$'...'`.
        true => format!("$'{}'", text.replace('\'', "\\'")),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Our own line ends stay; escape sequences from names do not reach the terminal.
fn lines(text: &str) -> String {
    text.split('\n')
        .map(escaped_text)
        .collect::<Vec<_>>()
        .join("\n")
}

impl From<MountError> for Trouble {
    fn from(error: MountError) -> Self {
        let trouble = Self::new(error.to_string());
        match error.hint() {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        }
    }
}

/// More programs than this are not listed one by one.
const USERS_SHOWN: usize = 8;

impl From<UnmountError> for Trouble {
    fn from(error: UnmountError) -> Self {
        let mut message = error.to_string();
        match &error {
            UnmountError::Busy { users, .. } => {
                for user in users.iter().take(USERS_SHOWN) {
                    message.push_str(&format!("\n  {user}"));
                }
                if users.len() > USERS_SHOWN {
                    message.push_str(&format!("\n  and {} more", users.len() - USERS_SHOWN));
                }
                let hint = if users.is_empty() {
                    "a program of another user, or another mount below it, keeps it busy"
                } else {
                    "end these programs, or have them leave the directory, and try again"
                };
                Self::new(message).hint(hint).code(exit::REFUSED)
            }
            UnmountError::NotMounted(_) => Self::new(message).code(exit::NO_MOUNT),
            UnmountError::NotPermitted(_) => Self::new(message)
                .hint("whoever mounted it may, and root")
                .code(exit::REFUSED),
            UnmountError::Failed { .. } => Self::new(message),
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        let trouble = Self::new(error.to_string()).code(exit::of_client(&error));
        match error.hint() {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::users::{Use, User};

    #[test]
    fn a_busy_mount_names_who_keeps_it_so() {
        let user = |pid| User {
            pid,
            name: "bash".into(),
            what: Use::Cwd("/r/sub".into()),
        };
        let users: Vec<User> = (1..=USERS_SHOWN as u32 + 2).map(user).collect();
        let trouble = Trouble::from(UnmountError::Busy {
            path: "/r".into(),
            users,
        });
        assert!(
            trouble
                .message
                .starts_with("/r is in use\n  bash (pid 1) stands in /r/sub\n")
        );
        assert!(trouble.message.ends_with("\n  and 2 more"));
        assert_eq!(trouble.code, exit::REFUSED);
    }

    #[test]
    fn a_path_in_a_hint_can_be_pasted() {
        assert_eq!(argument(Path::new("/srv/repo-1")), "/srv/repo-1");
        assert_eq!(argument(Path::new("/srv/a b")), "'/srv/a b'");
        assert_eq!(argument(Path::new("/it's")), "'/it'\\''s'");
        assert_eq!(argument(Path::new("/a'\n\\")), r"$'/a\'\n\\'");
    }

    #[test]
    fn what_a_name_holds_does_not_reach_the_terminal_raw() {
        assert!(!lines("a\u{1b}[31m\nb").contains('\u{1b}'));
        assert_eq!(lines("a\nb"), "a\nb");
    }
}
