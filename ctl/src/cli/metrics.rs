//! `llctl metrics`: counts and times, printed once or served over HTTP.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llctl::{Client, ClientError, exit, prometheus};

use super::args::Global;
use super::output::Output;
use super::{Fail, Outcome, connect};

/// How long a client may take for all of its request, and for each write.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request, in bytes.
const REQUEST_MAX: u64 = 8 << 10;
/// Requests at the same time; more are turned away.
const AT_ONCE: usize = 8;

/// What `metrics` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Counts begin at 0 when the daemon's worker begins (llfs_worker_restarts_total counts those). Times of FUSE operations are of \
every 64th. With --listen, GET /metrics answers as long as this runs; it is for this machine only, and a mount that is away is llfs_up 0.

Examples:
  llctl metrics
  llctl metrics --json
  llctl metrics --listen 127.0.0.1:9309")]
pub struct MetricsArgs {
    /// Serve them over HTTP at this loopback address; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    pub listen: Option<SocketAddr>,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address: SocketAddr =
        (text.parse()).map_err(|_| "an address and a port, such as 127.0.0.1:9309".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "{} can be reached by others; only loopback addresses are served, such as 127.0.0.1:{}",
            address.ip(),
            address.port()
        ));
    }
    Ok(address)
}

/// `llctl metrics`
pub fn run(global: &Global, args: &MetricsArgs, out: &mut Output) -> Outcome {
    if let Some(address) = args.listen {
        return serve(global, address);
    }
    let metrics = connect(global)?.metrics()?;
    match out.json {
        true => out.object(&metrics)?,
        false => out.raw(prometheus::text(Some(&metrics)).as_bytes())?,
    }
    Ok(exit::OK)
}

fn serve(global: &Global, address: SocketAddr) -> Outcome {
    // One that is not there now is a mistake; one that goes away later may come back.
    connect(global)?;
    let listener = TcpListener::bind(address).map_err(|error| at(address, &error))?;
    let address = listener.local_addr()?;
    eprintln!("llctl: serving http://{address}/metrics");
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            // Such as too many open files: the next one may be luckier.
            Err(error) => {
                eprintln!("llctl: no connection at {address}: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if busy.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            busy.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (busy, global) = (busy.clone(), global.clone());
        let done = busy.clone();
        let started = thread::Builder::new().spawn(move || {
            // A client that does not listen is its own trouble.
            answer(&stream, || connect(&global)).unwrap_or_default();
            done.fetch_sub(1, Ordering::SeqCst);
        });
        if let Err(error) = started {
            busy.fetch_sub(1, Ordering::SeqCst);
            eprintln!("llctl: no thread for a connection at {address}: {error}");
        }
    }
    Ok(exit::OK)
}

fn at(address: SocketAddr, error: &io::Error) -> Fail {
    Fail::Refused {
        code: exit::FAILED,
        kind: "io",
        message: format!("cannot serve at {address}: {error}"),
        hint: None,
    }
}

/// A client that is read from until some time, however slowly it writes.
struct Limited<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl Read for Limited<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(into)
    }
}

/// One request, one answer, and the end of the connection.
fn answer(stream: &TcpStream, connect: impl FnOnce() -> Result<Client, Fail>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let until = Instant::now() + PATIENCE;
    let mut reader = BufReader::new(Limited { stream, until }.take(REQUEST_MAX));
    let line = text_line(&mut reader)?;
    let mut host = None;
    loop {
        let header = text_line(&mut reader)?;
        // The end of the stream is an end of the headers, too: the answer says what is wrong.
        if header.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("host")
        {
            host = Some(value.trim().to_owned());
        }
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let (status, body) = match words[..] {
        // A page in a browser must not read this under a name of its own.
        _ if !host.as_deref().is_none_or(is_local) => ("403 Forbidden", "not for others\n".into()),
        ["GET" | "HEAD", path, version] if version.starts_with("HTTP/1.") => {
            match path.split('?').next() {
                Some("/metrics") => match connect().and_then(|mut client| Ok(client.metrics()?)) {
                    Ok(metrics) => ("200 OK", prometheus::text(Some(&metrics))),
                    Err(Fail::Client(error)) if !is_away(&error) => {
                        // It is there, and has no seat, for one.
                        ("503 Service Unavailable", format!("{error}\n"))
                    }
                    Err(_) => ("200 OK", prometheus::text(None)),
                },
                _ => ("404 Not Found", "see /metrics\n".to_owned()),
            }
        }
        [_, _, version] if version.starts_with("HTTP/1.") => {
            ("405 Method Not Allowed", "only GET\n".to_owned())
        }
        _ => ("400 Bad Request", "this is HTTP\n".to_owned()),
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        prometheus::CONTENT_TYPE,
        body.len()
    );
    if words.first() != Some(&"HEAD") {
        answer.push_str(&body);
    }
    (&mut &*stream).write_all(answer.as_bytes())
}

/// Whether nobody serves the mount.
fn is_away(error: &ClientError) -> bool {
    use ClientError::{Locate, Lost, Unreachable};
    matches!(error, Locate(_) | Unreachable { .. } | Lost(_))
}

/// A line, whatever is in it; empty at the end.
fn text_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Whether a `Host` is a name of this machine that no other can have.
fn is_local(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.is_loopback();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name) == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served() {
        for good in ["127.0.0.1:0", "[::1]:9309", "127.9.9.9:1", "localhost:9309"] {
            assert!(loopback(good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0:1",
            "[::]:1",
            "192.168.0.1:1",
            "example.org:1",
            "9309",
        ] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_of_other_names_are_not_local() {
        for good in [
            "localhost",
            "localhost:1",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:1",
            "[::1]",
        ] {
            assert!(is_local(good), "{good}");
        }
        for bad in [
            "evil.org",
            "evil.org:1",
            "10.0.0.1:1",
            "localhost.evil.org",
            "",
        ] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
