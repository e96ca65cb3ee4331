//! What went wrong, as the user gets it.

use std::io;

use llctl::protocol::Conflict;
use llctl::{ClientError, exit};
use serde::Serialize;

use super::output::{Output, Style};

/// Why a command failed.
#[derive(Debug)]
pub enum Fail {
    /// The client or the daemon.
    Client(ClientError),
    /// Standard output.
    Output(io::Error),
    /// This program refuses.
    Refused {
        /// Its exit code.
        code: u8,
        /// The kind, for JSON.
        kind: &'static str,
        /// What it refuses and why.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
}

impl From<ClientError> for Fail {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Sink(error) => Self::Output(error),
            other => Self::Client(other),
        }
    }
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[derive(Serialize)]
struct Account {
    kind: &'static str,
    message: String,
    hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Conflict>,
}

impl Fail {
    /// Whether the reader of standard output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Tells the user, and gives the exit code.
    pub fn report(self, out: &mut Output) -> u8 {
        let (code, account) = match self {
            Self::Client(error) => (
                exit::of_client(&error),
                Account {
                    kind: error.kind(),
                    message: error.to_string(),
                    hint: error.hint(),
                    conflicts: match error {
                        ClientError::Failure(failure) => failure.conflicts,
                        _ => Vec::new(),
                    },
                },
            ),
            Self::Output(error) => (
                exit::FAILED,
                Account {
                    kind: "output",
                    message: format!("cannot write the output: {error}"),
                    hint: None,
                    conflicts: Vec::new(),
                },
            ),
            Self::Refused {
                code,
                kind,
                message,
                hint,
            } => (
                code,
                Account {
                    kind,
                    message,
                    hint,
                    conflicts: Vec::new(),
                },
            ),
        };
        if out.json {
            // Standard output may be what failed; stderr follows in any case.
            drop(out.keyed("error", &account));
        }
        drop(out.finish());
        let message = llctl::escape::escaped_text(&account.message);
        eprintln!(
            "llctl: {} {message}",
            super::output::on_stderr(Style::Bad, "error:")
        );
        for conflict in &account.conflicts {
            let why = llctl::escape::escaped_text(&conflict.why);
            eprintln!("  {}  {why}", conflict.path);
        }
        if let Some(hint) = account.hint {
            eprintln!(
                "{} {}",
                super::output::on_stderr(Style::Bold, "hint:"),
                llctl::escape::escaped_text(&hint)
            );
        }
        code
    }
}
