//! The user's consent to a repair.

use std::io::{self, BufRead, IsTerminal, Write};

use llctl::exit;

use super::Order;
use super::report::Report;
use crate::supervisor::trouble::Trouble;

/// Asks, on a terminal; elsewhere `--yes` must have been given.
pub(super) fn confirm(order: &Order, report: &mut Report<'_>) -> Result<(), Trouble> {
    if order.yes {
        return Ok(());
    }
    let refused = |why: &str| {
        let trouble = Trouble::new(why).hint("nothing was changed; --yes repairs without asking");
        Err(trouble.code(exit::REFUSED))
    };
    if order.json || !io::stdin().is_terminal() {
        return refused("a repair needs a confirmation");
    }
    report.flush();
    eprint!("Repair? [y/N] ");
    let mut answer = String::new();
    io::stderr()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Trouble::because("cannot ask", error))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => refused("not repaired"),
    }
}
