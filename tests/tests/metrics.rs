//! `llctl metrics` of a real mount: what is done is counted.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;

use llfs_tests::killer::kill_worker;
use llfs_tests::mounted::Mounted;
use prometheus_parse::{Scrape, Value};

fn scrape(mounted: &Mounted) -> Scrape {
    let text = mounted.llctl(&["metrics"]).finish().ok().out();
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn number(scrape: &Scrape, name: &str, label: Option<(&str, &str)>) -> u64 {
    let found: Vec<_> = (scrape.samples.iter())
        .filter(|s| s.metric == name && label.is_none_or(|(k, v)| s.labels.get(k) == Some(v)))
        .collect();
    match found.first().map(|sample| &sample.value) {
        Some(Value::Counter(n) | Value::Gauge(n) | Value::Untyped(n)) => *n as u64,
        // The last bucket has all.
        Some(Value::Histogram(buckets)) => buckets.last().unwrap().count as u64,
        other => panic!("{name} {label:?}: {other:?}"),
    }
}

fn operation(scrape: &Scrape, name: &str) -> u64 {
    number(
        scrape,
        "llfs_fuse_operations_total",
        Some(("operation", name)),
    )
}

#[test]
fn what_is_done_is_counted() {
    let mounted = Mounted::over("metrics", |base| fs::write(base.join("f"), "0").unwrap());
    let before = scrape(&mounted);
    assert_eq!(number(&before, "llfs_snapshots", None), 0);
    mounted.snap("a");
    for number in 0..100 {
        fs::write(mounted.path(&format!("new{number}")), "1").unwrap();
    }
    fs::File::open(mounted.path("f"))
        .unwrap()
        .sync_all()
        .unwrap();
    mounted.revert("a");
    mounted.undo();
    assert_ne!(mounted.llctl(&["revert", "gone"]).finish().code(), 0);
    let long = mounted.path(&"x".repeat(300));
    assert!(fs::write(long, "").is_err());
    assert!(fs::remove_dir(mounted.path("f")).is_err());
    fs::create_dir(mounted.path("full")).unwrap();
    fs::write(mounted.path("full/f"), "").unwrap();
    assert!(fs::remove_dir(mounted.path("full")).is_err());
    let after = scrape(&mounted);
    let grown = |what: &str| operation(&after, what) - operation(&before, what);
    assert_eq!(grown("mknod"), 101);
    assert!(grown("write") >= 100);
    assert!(grown("lookup") >= 100);
    assert_eq!(grown("fsync"), 1);
    assert_eq!(grown("rmdir"), 1, "the other was refused by the kernel");
    let timed = "llfs_fuse_operation_duration_seconds";
    let timed = number(&after, timed, Some(("operation", "mknod")));
    assert_eq!(timed, 2, "the first and the 65th");
    let fsync = number(
        &after,
        "llfs_fuse_operation_duration_seconds",
        Some(("operation", "fsync")),
    );
    assert_eq!(fsync, 1);
    let errors = number(
        &after,
        "llfs_fuse_errors_total",
        Some(("errno", "ENOTEMPTY")),
    );
    assert_eq!(errors, 1);
    let acts = |what, outcome| {
        let all = after.samples.iter();
        let found = all.filter(|s| s.metric == "llfs_acts_total");
        let mut found = found.filter(|s| {
            (s.labels.get("act"), s.labels.get("outcome")) == (Some(what), Some(outcome))
        });
        match found.next().unwrap().value {
            Value::Counter(n) => n as u64,
            _ => panic!("no counter"),
        }
    };
    assert_eq!((acts("snap", "finished"), acts("snap", "failed")), (1, 0));
    assert_eq!(
        (acts("revert", "finished"), acts("revert", "failed")),
        (1, 1)
    );
    assert_eq!(acts("undo", "finished"), 1);
    assert_eq!(number(&after, "llfs_snapshots", None), 1);
    assert!(number(&after, "llfs_changed_inodes", None) >= 101);
    assert!(number(&after, "llfs_events_total", None) >= 7);
    assert!(number(&after, "llfs_layers", None) >= 1);

    assert_eq!(number(&after, "llfs_worker_restarts_total", None), 0);
    kill_worker(mounted.pid());
    mounted.snap("b");
    let next = scrape(&mounted);
    assert_eq!(number(&next, "llfs_worker_restarts_total", None), 1);
    assert!(number(&next, "llfs_events_total", None) > number(&after, "llfs_events_total", None));
}
