//! `llctl metrics`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use llctl::protocol::{
    ActMetrics, BOUNDS_US, BytePath, Deal, ErrorKind, ErrorMetrics, MetricsInfo, OperationMetrics,
    PROTOCOL_VERSION, Request, Response, Times,
};
use prometheus_parse::{Scrape, Value};

use super::fake::Fake;

fn times(of: &[(usize, u64)], sum_ns: u64) -> Times {
    let mut counts = vec![0; BOUNDS_US.len() + 1];
    for (place, count) in of {
        counts[*place] = *count;
    }
    Times { counts, sum_ns }
}

fn metrics() -> MetricsInfo {
    MetricsInfo {
        mountpoint: BytePath::from("/a \"b\\c\nd"),
        version: "0.1.0".to_owned(),
        uptime_secs: 7,
        restarts: 2,
        acts: vec![ActMetrics {
            act: Deal::Snap,
            finished: 3,
            failed: 1,
            times: times(&[(9, 2), (23, 1)], 61_002_000_000),
        }],
        operations: vec![OperationMetrics {
            operation: "lookup".to_owned(),
            count: 640,
            times: times(&[(2, 9), (3, 1)], 47_000),
        }],
        errors: vec![ErrorMetrics {
            errno: "ENOSPC".to_owned(),
            count: 4,
        }],
        snapshots: 5,
        layers: 2,
        layer_bytes: 1 << 20,
        journal_bytes: 4096,
        store_limit: Some(1 << 30),
        store_free: 1 << 40,
        ..MetricsInfo::default()
    }
}

fn fake() -> Fake {
    Fake::new(vec![Response::Metrics(Box::new(metrics()))])
}

fn parsed(text: &str) -> Scrape {
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn number(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let found = scrape.samples.iter().find(|sample| {
        sample.metric == name && labels.iter().all(|(k, v)| sample.labels.get(k) == Some(v))
    });
    match found.map(|sample| &sample.value) {
        Some(Value::Counter(n) | Value::Gauge(n) | Value::Untyped(n)) => *n,
        other => panic!("{name} {labels:?}: {other:?}"),
    }
}

#[test]
fn a_parser_of_the_format_reads_what_was_counted() {
    let fake = fake();
    let text = fake.output(&["metrics"]);
    assert_eq!(fake.requests(), [Request::Metrics]);
    let scrape = parsed(&text);
    for (name, labels, expected) in [
        ("llfs_up", &[][..], 1.0),
        ("llfs_uptime_seconds", &[], 7.0),
        ("llfs_worker_restarts_total", &[], 2.0),
        ("llfs_snapshots", &[], 5.0),
        ("llfs_layers", &[], 2.0),
        ("llfs_read_only", &[], 0.0),
        ("llfs_store_limit_bytes", &[], 1_073_741_824.0),
        ("llfs_store_free_bytes", &[], 1_099_511_627_776.0),
        ("llfs_store_bytes", &[("part", "layers")], 1_048_576.0),
        ("llfs_store_bytes", &[("part", "journal")], 4096.0),
        (
            "llfs_acts_total",
            &[("act", "snap"), ("outcome", "finished")],
            3.0,
        ),
        (
            "llfs_acts_total",
            &[("act", "snap"), ("outcome", "failed")],
            1.0,
        ),
        (
            "llfs_fuse_operations_total",
            &[("operation", "lookup")],
            640.0,
        ),
        ("llfs_fuse_errors_total", &[("errno", "ENOSPC")], 4.0),
    ] {
        assert_eq!(number(&scrape, name, labels), expected, "{name} {labels:?}");
    }
    let histogram = |name: &str| {
        let found = scrape.samples.iter().find(|s| s.metric == name);
        match found.map(|s| &s.value) {
            Some(Value::Histogram(buckets)) => buckets
                .iter()
                .map(|b| (b.less_than, b.count))
                .collect::<Vec<_>>(),
            other => panic!("{name}: {other:?}"),
        }
    };
    let snaps = histogram("llfs_act_duration_seconds");
    assert_eq!(snaps.len(), BOUNDS_US.len() + 1);
    assert!(
        snaps.contains(&(0.0005, 0.0)) && snaps.contains(&(0.001, 2.0)),
        "{snaps:?}"
    );
    assert_eq!(snaps.last(), Some(&(f64::INFINITY, 3.0)));
    let lookups = histogram("llfs_fuse_operation_duration_seconds");
    assert!(lookups.contains(&(0.000_005, 9.0)) && lookups.contains(&(0.000_01, 10.0)));
    for line in [
        "# TYPE llfs_acts_total counter",
        "# TYPE llfs_act_duration_seconds histogram",
        "llfs_info{version=\"0.1.0\",mountpoint=\"/a \\\"b\\\\c\\nd\"} 1",
        "llfs_act_duration_seconds_sum{act=\"snap\"} 61.002",
        "llfs_act_duration_seconds_count{act=\"snap\"} 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    // Each family is described once, before its samples.
    let mut families: Vec<&str> = (text.lines())
        .filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all);
}

#[test]
fn json_has_the_same() {
    let text = fake().output(&["metrics", "--json"]);
    let back: MetricsInfo = serde_json::from_str(&text).unwrap();
    assert_eq!(back, metrics());
}

/// A server that was started, and where it is.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(fake: &Fake) -> Serving {
        let mut command = fake.command(&["metrics", "--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        let address = line.strip_prefix("llctl: serving http://").unwrap();
        let address = address.strip_suffix("/metrics\n").unwrap().to_owned();
        Serving { child, address }
    }

    /// What it answers to these bytes.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn they_are_served_to_this_machine() {
    let fake = fake();
    let serving = Serving::start(&fake);
    let answer = serving.ask("GET /metrics HTTP/1.1\r\nHost: localhost:9\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{head}"
    );
    assert_eq!(number(&parsed(body), "llfs_up", &[]), 1.0);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        ("hello\r\n\r\n", "400"),
        ("\0\u{fffd}\r\n\r\n", "400"),
    ] {
        let answer = serving.ask(request);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{request}: {answer}");
    }
    let head = serving.ask("HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    // Somebody who says nothing keeps nobody from asking.
    let silent = TcpStream::connect(&serving.address).unwrap();
    assert!(
        serving
            .ask("GET /metrics HTTP/1.1\r\n\r\n")
            .contains("llfs_up 1")
    );
    drop(silent);
    // The daemon goes away.
    std::fs::remove_file(fake.dir.join("sock")).unwrap();
    let away = serving.ask("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(away.starts_with("HTTP/1.1 200 OK"), "{away}");
    assert!(away.ends_with("\nllfs_up 0\n"), "{away}");
}

/// A mount of which all seats are taken is not away.
#[test]
fn a_daemon_that_is_busy_is_not_told_to_be_away() {
    let fake = fake();
    let serving = Serving::start(&fake);
    let busy = Fake::refusing(
        ErrorKind::Busy,
        "64 clients are connected",
        PROTOCOL_VERSION,
    );
    std::fs::rename(busy.dir.join("sock"), fake.dir.join("sock")).unwrap();
    let answer = serving.ask("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("64 clients are connected"), "{answer}");
    assert!(!answer.contains("llfs_up"), "{answer}");
}

#[test]
fn they_are_not_served_to_others() {
    let run = fake().run(&["metrics", "--listen", "0.0.0.0:9309"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("only loopback"), "{}", run.stderr);
}

#[test]
fn garbage_and_crowds_keep_nobody_from_asking_for_long() {
    let fake = fake();
    let serving = Serving::start(&fake);
    // No text, no end, and more than a request may have.
    for garbage in [&b"\xff\xfe\0\n\n"[..], &[b'x'; 100_000], b"GET "] {
        let mut stream = TcpStream::connect(&serving.address).unwrap();
        // It may have been answered before all of it was sent.
        stream.write_all(garbage).unwrap_or_default();
        stream
            .shutdown(std::net::Shutdown::Write)
            .unwrap_or_default();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_default();
    }
    // Those who say a little now and then, and so never let a read wait for long.
    let ends = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let (ends, address) = (ends.clone(), serving.address.clone());
            std::thread::spawn(move || {
                while !ends.load(std::sync::atomic::Ordering::SeqCst) {
                    let Ok(mut stream) = TcpStream::connect(&address) else {
                        continue;
                    };
                    stream
                        .write_all(b"GET /metrics HTTP/1.1\r\n")
                        .unwrap_or_default();
                    for _ in 0..2000 {
                        if stream.write_all(b"x: y\r\n").is_err()
                            || ends.load(std::sync::atomic::Ordering::SeqCst)
                        {
                            break;
                        }
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                }
            })
        })
        .collect();
    // Once they are all there nobody else is let in; but they are ended after five seconds each, and somebody who asks again and
    // again is answered.
    let begun = std::time::Instant::now();
    let mut crowded = false;
    loop {
        let mut stream = TcpStream::connect(&serving.address).unwrap();
        let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        let answered = asked.is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.contains("llfs_up 1");
        if answered && crowded {
            break;
        }
        crowded |= !answered;
        assert!(begun.elapsed().as_secs() < 120, "nobody else is answered");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ends.store(true, std::sync::atomic::Ordering::SeqCst);
    slow.into_iter().for_each(|one| one.join().unwrap());
}
