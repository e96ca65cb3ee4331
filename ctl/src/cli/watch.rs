//! `llctl watch`: what happens, as it happens.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use llctl::escape::{escaped, escaped_text};
use llctl::protocol::{Act, Deal, Event, EventKind, Happening, Stage};
use llctl::{Client, ClientError, exit};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::fitted::Line;
use super::output::{Output, Style};
use super::{Fail, Outcome, history, units};

/// How long a line that is being written may take when this is to end.
const LAST_LINE: Duration = Duration::from_secs(1);

/// What `watch` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends when the mount ends, at Ctrl-C, or when nobody reads its output. It goes on by itself when the daemon's worker dies.

With --json each line is one event: {\"seq\", \"at\", \"event\", ...}, of an act also \"stage\" (started, finished, failed) and \"act\", the \
object that `llctl history --json` prints. The first line is a `watching`. Each event has the number after the one before it; the daemon \
keeps the last 512, so that --after shows what came meanwhile. Where events are missing there is a `gap`. docs/EVENTS.md has the \
fields.

Examples:
  llctl watch
  llctl watch --event revert --event undo --json
  llctl watch --json --after 1868876542648328")]
pub struct WatchArgs {
    /// Begin with what came after the event of this number
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Only events of this kind, such as snap, revert, apply, restarted, low_space; may be given several times. A gap is always told
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub event: Vec<EventKind>,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

fn kind(text: &str) -> Result<EventKind, String> {
    let acts = Deal::ALL.map(EventKind::Act);
    let own = Happening::ALL.map(EventKind::Own);
    let mut all = acts.into_iter().chain(own);
    all.clone()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| {
            let names: Vec<_> = all.by_ref().map(EventKind::as_str).collect();
            format!("one of {}", names.join(", "))
        })
}

/// `llctl watch`
pub fn run(client: &mut Client, args: WatchArgs, out: &mut Output) -> Outcome {
    let writing = Arc::new(Mutex::new(()));
    end_when_told(writing.clone())?;
    let mut left = args.count;
    let watched = client.watch(args.after, |event| {
        let wanted = args.event.is_empty() || args.event.contains(&event.event);
        let about_the_stream = matches!(
            event.event,
            EventKind::Own(Happening::Watching | Happening::Gap)
        );
        if !wanted && !about_the_stream {
            return Ok(());
        }
        {
            let _whole_lines = writing.lock();
            match out.json {
                true => out.object(&event)?,
                false => line(&event, out)?,
            }
            out.flush()?;
        }
        if let Some(left) = left.as_mut().filter(|_| !about_the_stream) {
            *left -= 1;
            if *left == 0 {
                return Err(io::ErrorKind::Other.into());
            }
        }
        Ok(())
    });
    match watched {
        Err(ClientError::Sink(_)) if left == Some(0) => Ok(exit::OK),
        watched => watched.map(|()| exit::OK).map_err(Fail::from),
    }
}

/// Ends this program at SIGINT and SIGTERM, and when whoever read its output has left, although there is no event to find that out with.
/// A line that is being written is written to its end.
fn end_when_told(writing: Arc<Mutex<()>>) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    let wait = move || {
        let out = io::stdout();
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            // Errors and hang-ups come without being asked for.
            PollFd::new(out.as_fd(), PollFlags::empty()),
        ];
        while poll(&mut fds, PollTimeout::NONE).is_err() {}
        let begun = std::time::Instant::now();
        while writing.try_lock().is_err() && begun.elapsed() < LAST_LINE {
            thread::sleep(Duration::from_millis(5));
        }
        std::process::exit(i32::from(exit::OK));
    };
    thread::Builder::new().spawn(wait)?;
    Ok(())
}

fn line(event: &Event, out: &mut Output) -> io::Result<()> {
    let mut line = Line::default();
    line.add("", Style::Dim, units::local(event.at));
    match &event.act {
        Some(act) => of_act(event.stage, act, &mut line),
        None => own(event, &mut line),
    }
    line.print(history::INDENT, out)
}

fn of_act(stage: Option<Stage>, act: &Act, line: &mut Line) {
    for (at, piece) in history::pieces(act).into_iter().enumerate() {
        line.add(if at == 0 { "  " } else { " " }, Style::Bold, piece);
    }
    let who = match act.command.as_str() {
        "" => format!("process {}", act.pid),
        command => escaped(command.as_bytes()),
    };
    let figures = history::figures(act);
    match stage {
        Some(Stage::Started) => {
            line.add(" ", Style::Plain, "started");
            line.add("  ", Style::Plain, format!("(user {}:", act.uid));
            line.text(" ", Style::Plain, format!("{who})"));
        }
        Some(Stage::Failed) => {
            let why = act.error.as_deref().unwrap_or("it is not known why");
            let failed = format!("failed: {}", escaped_text(why));
            words(Style::Bad, " ", &failed, line);
            line.add("  ", Style::Plain, format!("({figures})"));
        }
        Some(Stage::Finished) | None => {
            line.add("  ", Style::Plain, format!("({figures};"));
            line.add(" ", Style::Plain, format!("user {}:", act.uid));
            line.text(" ", Style::Plain, format!("{who})"));
        }
    }
}

fn own(event: &Event, line: &mut Line) {
    let EventKind::Own(what) = event.event else {
        line.add(
            "  ",
            Style::Plain,
            "something that this llctl does not know",
        );
        return;
    };
    let said = event.text.as_deref().map(escaped_text);
    let said = said.map_or(String::new(), |text| format!(": {text}"));
    let (style, text) = match what {
        Happening::Watching => (Style::Dim, format!("watching after {}", event.seq)),
        Happening::Gap => {
            let missed = event.missed.map(|n| units::count(n, "event"));
            let missed = missed.unwrap_or_else(|| "events".to_owned());
            (Style::Notice, format!("{missed} missing here"))
        }
        Happening::Restarted => (
            Style::Notice,
            "the daemon's worker died, the next one serves".to_owned(),
        ),
        Happening::LowSpace | Happening::StoreLimit => {
            (Style::Notice, format!("space is scarce{said}"))
        }
        Happening::SpaceBack => (Style::Good, "there is space again".to_owned()),
        Happening::ReadOnly => (Style::Bad, format!("the mount is read-only{said}")),
        Happening::Unmounting => (Style::Bold, "the mount ends".to_owned()),
    };
    words(style, "  ", &text, line);
}

/// A text that is broken between its words.
fn words(style: Style, before: &'static str, text: &str, line: &mut Line) {
    for (at, word) in text.split(' ').enumerate() {
        line.add(if at == 0 { before } else { " " }, style, word);
    }
}
