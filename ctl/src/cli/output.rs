//! Standard output: text with or without colors, or JSON.

use std::env;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use super::args::ColorWhen;
use super::pager::Pager;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Headings and names.
    Bold,
    /// What matters less.
    Dim,
    /// What is new or well.
    Good,
    /// What is gone or wrong.
    Bad,
    /// What is changed or needs attention.
    Notice,
    /// Where in a file.
    Place,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Notice => "\x1b[33m",
            Self::Place => "\x1b[36m",
        }
    }
}

/// Where results go.
pub struct Output {
    writer: BufWriter<Box<dyn Write>>,
    pager: Option<Pager>,
    /// Whether results are JSON.
    pub json: bool,
    /// Whether a terminal shows them, which must not be sent control characters of others.
    pub terminal: bool,
    /// Characters in a line of that terminal.
    pub width: Option<usize>,
    color: bool,
}

impl Output {
    /// Standard output in the form that was asked for.
    pub fn new(json: bool, when: ColorWhen) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let color = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                terminal
                    && !set("NO_COLOR")
                    && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self {
            writer: BufWriter::new(Box::new(stdout)),
            pager: None,
            json,
            terminal,
            width: terminal.then(columns).flatten(),
            color,
        }
    }

    /// What follows may be long: on a terminal it goes through a pager.
    pub fn page(&mut self) {
        if self.terminal
            && !self.json
            && self.pager.is_none()
            && let Some((pager, input)) = Pager::start()
        {
            self.writer = BufWriter::new(Box::new(input));
            self.pager = Some(pager);
        }
    }

    /// `text` in `style`, if there are colors.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.color && style != Style::Plain {
            format!("{}{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// Prints one line of any bytes in `style`.
    pub fn styled(&mut self, style: Style, bytes: &[u8]) -> io::Result<()> {
        let painted = self.color && style != Style::Plain;
        if painted {
            self.raw(style.code().as_bytes())?;
        }
        self.raw(bytes)?;
        self.raw(if painted { b"\x1b[0m\n" } else { b"\n" })
    }

    /// Prints one line.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.raw(text.as_ref().as_bytes())?;
        self.raw(b"\n")
    }

    /// Prints bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// Prints one JSON object on its line.
    pub fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.raw(b"\n")
    }

    /// Prints one JSON object with a single key.
    pub fn keyed(&mut self, key: &str, value: &impl Serialize) -> io::Result<()> {
        self.object(&std::collections::BTreeMap::from([(key, value)]))
    }

    /// Lets go of what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Lets go of what is buffered, and waits until the pager has shown it.
    pub fn finish(&mut self) -> io::Result<()> {
        let flushed = self.writer.flush();
        let Some(pager) = self.pager.take() else {
            return flushed;
        };
        // The pager ends with its input.
        self.writer = BufWriter::new(Box::new(io::stdout()));
        pager.wait()?;
        flushed
    }
}

/// How wide the terminal on standard output is, if it says so.
fn columns() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    (width.0 > 0).then_some(width.0.into())
}

fn set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// `text` in `style` for standard error, if that is a terminal and may have colors.
pub fn on_stderr(style: Style, text: &str) -> String {
    if io::stderr().is_terminal() && !set("NO_COLOR") {
        format!("{}{text}\x1b[0m", style.code())
    } else {
        text.to_owned()
    }
}
