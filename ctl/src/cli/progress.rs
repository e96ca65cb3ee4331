//! A progress bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use llctl::escape::escaped;
use llctl::protocol::{Progress, ProgressUnit};

/// A bar that appears with the first progress; nothing at all where no terminal would show it.
pub struct Bar {
    bar: Option<ProgressBar>,
    /// Whether the bar counts towards a total.
    bounded: Option<bool>,
}

impl Bar {
    /// No bar yet; none ever if the output is JSON.
    pub fn new(json: bool) -> Self {
        Self {
            bar: (!json).then(ProgressBar::no_length),
            bounded: None,
        }
    }

    /// Shows how far it is.
    pub fn show(&mut self, progress: &Progress) {
        let Some(bar) = &self.bar else {
            return;
        };
        let bounded = progress.total.is_some();
        if self.bounded != Some(bounded) {
            self.bounded = Some(bounded);
            bar.set_style(style(progress.unit, bounded));
        }
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_position(progress.done);
        bar.set_message(escaped(progress.what.as_bytes()));
    }

    /// Prints something else without disturbing the bar.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(unit: ProgressUnit, bounded: bool) -> ProgressStyle {
    let template = match (unit, bounded) {
        (ProgressUnit::Bytes, true) => {
            "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {wide_msg}"
        }
        (ProgressUnit::Bytes, false) => "{spinner} {binary_bytes} {wide_msg}",
        (ProgressUnit::Items, true) => "{bar:30} {pos}/{len} {wide_msg}",
        (ProgressUnit::Items, false) => "{spinner} {pos} {wide_msg}",
    };
    ProgressStyle::with_template(template).expect("the templates above are valid")
}
