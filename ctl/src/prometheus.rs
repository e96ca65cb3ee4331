//! Metrics in the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use crate::protocol::{BOUNDS_US, MetricsInfo, Times};

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of a mount; of one whose daemon does not answer only that.
pub fn text(metrics: Option<&MetricsInfo>) -> String {
    let mut out = Text(String::new());
    let up = u64::from(metrics.is_some());
    out.family("llfs_up", "gauge", "Whether the daemon answers");
    out.sample("llfs_up", &[], up);
    if let Some(metrics) = metrics {
        out.all(metrics);
    }
    out.0
}

struct Text(String);

impl Text {
    fn all(&mut self, m: &MetricsInfo) {
        let mountpoint = String::from_utf8_lossy(&m.mountpoint.0);
        self.family("llfs_info", "gauge", "The daemon and its mount");
        let labels = [
            ("version", m.version.as_str()),
            ("mountpoint", &*mountpoint),
        ];
        self.sample("llfs_info", &labels, 1);
        for (name, help, value) in gauges(m) {
            self.family(name, "gauge", help);
            self.sample(name, &[], value);
        }
        if let Some(limit) = m.store_limit {
            let help = "Bytes that the store may take";
            self.family("llfs_store_limit_bytes", "gauge", help);
            self.sample("llfs_store_limit_bytes", &[], limit);
        }
        let name = "llfs_store_bytes";
        self.family(name, "gauge", "Bytes that the store takes, by part");
        for (part, bytes) in [
            ("layers", m.layer_bytes),
            ("journal", m.journal_bytes),
            ("images", m.image_bytes),
            ("notes", m.note_bytes),
            ("reserve", m.reserve_bytes),
        ] {
            self.sample(name, &[("part", part)], bytes);
        }
        for (name, help, value) in [
            (
                "llfs_worker_restarts_total",
                "Workers that died or were exchanged since the mount was made",
                m.restarts,
            ),
            (
                "llfs_events_total",
                "Events since the mount was made",
                m.events,
            ),
        ] {
            self.family(name, "counter", help);
            self.sample(name, &[], value);
        }
        self.acts(m);
        self.operations(m);
    }

    fn acts(&mut self, m: &MetricsInfo) {
        let name = "llfs_acts_total";
        let help = "Snapshots, reverts and so on, by kind and outcome";
        self.family(name, "counter", help);
        for act in &m.acts {
            for (outcome, count) in [("finished", act.finished), ("failed", act.failed)] {
                let labels = [("act", act.act.as_str()), ("outcome", outcome)];
                self.sample(name, &labels, count);
            }
        }
        let name = "llfs_act_duration_seconds";
        self.family(name, "histogram", "How long those took that were done");
        for act in &m.acts {
            self.histogram(name, ("act", act.act.as_str()), &act.times);
        }
    }

    fn operations(&mut self, m: &MetricsInfo) {
        let name = "llfs_fuse_operations_total";
        self.family(name, "counter", "Requests of the kernel, by kind");
        for operation in &m.operations {
            let labels = [("operation", operation.operation.as_str())];
            self.sample(name, &labels, operation.count);
        }
        let name = "llfs_fuse_operation_duration_seconds";
        let help = "How long every 64th request took, from its reading to its answer";
        self.family(name, "histogram", help);
        for operation in &m.operations {
            let label = ("operation", operation.operation.as_str());
            self.histogram(name, label, &operation.times);
        }
        let name = "llfs_fuse_errors_total";
        let help = "Errors that the kernel was answered, by kind";
        self.family(name, "counter", help);
        for error in &m.errors {
            self.sample(name, &[("errno", &error.errno)], error.count);
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.push(format_args!("{name}"));
        for (number, (label, text)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            self.push(format_args!("{open}{label}=\"{}\"", escaped(text)));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{close} {value}\n"));
    }

    fn histogram(&mut self, name: &str, label: (&str, &str), times: &Times) {
        let bucket = format!("{name}_bucket");
        let mut so_far = 0;
        for (number, count) in times.counts.iter().enumerate() {
            so_far += count;
            let bound = match BOUNDS_US.get(number) {
                Some(us) => format!("{}", *us as f64 / 1e6),
                None => "+Inf".to_owned(),
            };
            self.sample(&bucket, &[label, ("le", &bound)], so_far);
        }
        let sum = times.sum_ns as f64 / 1e9;
        self.sample(&format!("{name}_sum"), &[label], sum);
        self.sample(&format!("{name}_count"), &[label], so_far);
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(text)
            .expect("a string takes what it is given");
    }
}

fn gauges(m: &MetricsInfo) -> [(&'static str, &'static str, u64); 9] {
    [
        (
            "llfs_uptime_seconds",
            "Seconds since the daemon's worker started",
            m.uptime_secs,
        ),
        (
            "llfs_read_only",
            "Whether the store cannot be written",
            u64::from(m.read_only),
        ),
        ("llfs_watchers", "Those who watch the mount now", m.watchers),
        ("llfs_snapshots", "Snapshots", m.snapshots),
        (
            "llfs_discarded_states",
            "Discarded states that undo or redo can bring back",
            m.discarded,
        ),
        (
            "llfs_changed_inodes",
            "Files and directories that differ from the base",
            m.changed_inodes,
        ),
        ("llfs_layers", "Layer files in the store", m.layers),
        (
            "llfs_garbage_bytes",
            "Bytes that were given up and not taken back yet, about",
            m.garbage_bytes,
        ),
        (
            "llfs_store_free_bytes",
            "Bytes free on the store's disk",
            m.store_free,
        ),
    ]
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
