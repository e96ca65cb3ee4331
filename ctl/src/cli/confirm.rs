//! Questions before what undo cannot bring back.

use std::io::{self, Write};

use llctl::exit;

use super::fail::Fail;
use super::output::Output;

/// Asks, if there is somebody to ask: `Err` is a no. `needs` says why nothing is done where nobody can be asked, and `hint` what
/// to do then.
pub fn ask(out: &Output, question: &str, needs: &str, hint: &str) -> Result<(), Fail> {
    let refused = |message: &str, hint: Option<&str>| Fail::Refused {
        code: exit::REFUSED,
        kind: "refused",
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
    };
    if out.json || !super::interactive() {
        return Err(refused(needs, Some(hint)));
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
        Ok(())
    } else {
        Err(refused("nothing was done", None))
    }
}
