//! What the user is told: lines as they come, or one JSON object at the end.

use std::io::Write;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use llctl::escape::{Shown, escaped, escaped_text};
use llctl::exit;
use llctl::protocol::{BytePath, Finding, UnixNanos, VerifySummary};
use serde_json::{Map, Value, json};

use super::Order;
use super::account::Account;
use crate::store;
use crate::supervisor::trouble::Trouble;
use crate::tree::Time;

/// The report, as far as it is.
pub(super) struct Report<'a> {
    order: &'a Order,
    object: Map<String, Value>,
    findings: Vec<Finding>,
    /// Something is wrong that no finding tells.
    unsound: bool,
}

impl<'a> Report<'a> {
    pub fn new(order: &'a Order) -> Self {
        let mut object = Map::new();
        object.insert("store".into(), json!(BytePath::from(order.store.as_path())));
        object.insert(
            "directory".into(),
            json!(BytePath::from(order.base.as_path())),
        );
        let report = Self {
            order,
            object,
            findings: Vec::new(),
            unsound: false,
        };
        report.line("store", &order.store.shown());
        report
    }

    fn line(&self, name: &str, text: &str) {
        if !self.order.json {
            // What nobody reads is still done.
            drop(writeln!(std::io::stdout(), "{name:<11}{text}"));
        }
    }

    pub fn flush(&mut self) {
        drop(std::io::stdout().flush());
    }

    /// The superblock cannot be used.
    pub fn superblock(&mut self, damage: &store::OpenError) {
        self.unsound = true;
        self.object
            .insert("superblock".into(), json!(damage.to_string()));
        self.line("damaged", &damage.to_string());
    }

    /// There is a new one.
    pub fn superblock_renewed(&mut self) {
        self.unsound = false;
    }

    /// What journal and images hold.
    pub fn account(&mut self, account: &Account) {
        self.object
            .insert("last_record".into(), json!(account.last));
        self.object
            .insert("last_change".into(), json!(account.last_time.map(nanos)));
        let names: Vec<&String> = account.snapshots.iter().map(|(name, _)| name).collect();
        self.object.insert("snapshots".into(), json!(names));
        self.line("directory", &account.superblock.base_path.shown());
        self.line(
            "journal",
            &format!("up to record {}{}", account.last, of(account.last_time)),
        );
        self.line("snapshots", &account.snapshots.len().to_string());
        if let Some(damage) = &account.damage {
            self.unsound = true;
            self.object.insert(
                "damage".into(),
                json!({"segment": damage.segment, "offset": damage.offset, "what": damage.what}),
            );
            self.object.insert("lost".into(), json!(account.lost));
        }
        if let Some(why) = &account.unreadable {
            self.unsound = true;
            self.object.insert("unreadable".into(), json!(why));
            self.line("damaged", &escaped_text(why));
        }
        if account.damage.is_some() && !account.has_state {
            self.line(
                "damaged",
                "nothing lies before the damage: there is no state to go on with",
            );
        }
    }

    /// Something that is wrong.
    pub fn finding(&mut self, finding: Finding) {
        let mut text = String::new();
        if let Some(path) = &finding.path {
            text.push_str(&format!("{path}: "));
        }
        text.push_str(&escaped_text(&finding.what));
        if !finding.states.is_empty() {
            let states = finding.states.iter().map(|state| escaped(state.as_bytes()));
            text.push_str(&format!(" (in {})", states.collect::<Vec<_>>().join(", ")));
        }
        self.line("damaged", &text);
        self.findings.push(finding);
    }

    /// Everything was read.
    pub fn scrubbed(&mut self, summary: &VerifySummary) {
        self.object.insert("verified".into(), json!(summary));
        self.line(
            "read",
            &format!(
                "{} of {} files, in {}",
                HumanBytes(summary.bytes),
                summary.files,
                HumanDuration(Duration::from_millis(summary.took_ms))
            ),
        );
    }

    /// What a repair does, or would do.
    pub fn would(&mut self, repairs: &[String]) {
        if let Some(Value::Array(before)) = self.object.get_mut("repairs") {
            before.extend(repairs.iter().map(|r| json!(r)));
        } else {
            self.object.insert("repairs".into(), json!(repairs));
        }
        let head = if self.order.repair {
            "This repair will"
        } else {
            "With --repair, llfs check would"
        };
        if !self.order.json {
            drop(writeln!(std::io::stdout(), "{head}"));
        }
        for repair in repairs {
            self.line("  -", repair);
        }
    }

    pub fn is_sound(&self) -> bool {
        !self.unsound && self.findings.is_empty()
    }

    /// The end, with nothing repaired.
    pub fn end(mut self) -> Result<u8, Trouble> {
        let sound = self.is_sound();
        self.object.insert("repaired".into(), json!(false));
        self.last(sound);
        match sound {
            true => self.line("verdict", "no damage"),
            false => self.line("verdict", "damaged"),
        }
        Ok(if sound { exit::OK } else { exit::DAMAGED })
    }

    /// The end, after a repair that put these files aside.
    pub fn repaired(mut self, aside: &[String]) -> Result<u8, Trouble> {
        self.object.insert("repaired".into(), json!(true));
        self.object.insert("aside".into(), json!(aside));
        // Damaged content stays damaged.
        let whole = self.findings.iter().all(is_of_history);
        self.last(whole);
        for path in aside {
            self.line("aside", path);
        }
        self.line(
            "verdict",
            if whole {
                "repaired: it can be mounted"
            } else {
                "repaired: it can be mounted; what is damaged in files stays an error there"
            },
        );
        Ok(if whole { exit::OK } else { exit::DAMAGED })
    }

    fn last(&mut self, sound: bool) {
        self.object.insert("sound".into(), json!(sound));
        self.object.insert("findings".into(), json!(self.findings));
        if self.order.json {
            let object = Value::Object(std::mem::take(&mut self.object));
            drop(writeln!(std::io::stdout(), "{object}"));
        }
    }
}

/// Whether the finding is of journal or images, which a repair puts aside.
fn is_of_history(finding: &Finding) -> bool {
    let path = finding.path.as_ref().map_or(&b""[..], |path| &path.0);
    finding.states.is_empty() && (path.starts_with(b"journal/") || path.starts_with(b"images/"))
}

fn nanos(time: Time) -> UnixNanos {
    let nanos = time.sec.saturating_mul(1_000_000_000);
    UnixNanos(nanos.saturating_add(i64::from(time.nsec)))
}

/// A time for people, in the local time zone.
pub(super) fn local(time: Time) -> String {
    let zoned = nanos(time)
        .timestamp()
        .to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// ` of 2026-11-21 11:44:02`.
pub(super) fn of(time: Option<Time>) -> String {
    time.map(|time| format!(" of {}", local(time)))
        .unwrap_or_default()
}
