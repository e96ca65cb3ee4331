//! A bar for long operations, on terminals.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llctl::escape::escaped_text;
use llctl::protocol::{Progress, ProgressUnit};

/// Shows how far an operation is. Elsewhere than on a terminal it shows nothing.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(wanted: bool) -> Self {
        let target = if wanted && io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self(ProgressBar::with_draw_target(None, target))
    }

    pub(crate) fn show(&self, progress: &Progress) {
        let counts = match progress.unit {
            ProgressUnit::Bytes => "{bytes}/{total_bytes}",
            ProgressUnit::Items => "{pos}/{len}",
        };
        let template = match progress.total {
            Some(_) => format!("{{bar:30}} {counts} {{wide_msg}}"),
            None => "{spinner} {wide_msg}".to_owned(),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.0.set_style(style);
        }
        if let Some(total) = progress.total {
            self.0.set_length(total);
        }
        self.0.set_position(progress.done);
        self.0.set_message(escaped_text(&progress.what));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
