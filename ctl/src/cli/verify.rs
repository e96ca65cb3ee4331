//! `llctl verify`: what is damaged, if anything.

use std::time::Duration;

use llctl::client::VerifyEvent;
use llctl::escape::{escaped, escaped_text};
use llctl::protocol::{Finding, FindingKind};
use llctl::{Client, exit};

use super::Outcome;
use super::output::{Output, Style};
use super::progress::Bar;
use super::units;

/// `llctl verify`
pub fn run(client: &mut Client, out: &mut Output) -> Outcome {
    let mut bar = Bar::new(out.json);
    let summary = client.verify(|event| match event {
        VerifyEvent::Progress(progress) => {
            bar.show(&progress);
            Ok(())
        }
        VerifyEvent::Finding(finding) if out.json => {
            out.keyed("finding", &finding).and_then(|()| out.finish())
        }
        VerifyEvent::Finding(finding) => {
            let text = describe(&finding, out);
            bar.suspend(|| out.line(text).and_then(|()| out.finish()))
        }
    });
    bar.clear();
    let summary = summary?;
    if out.json {
        out.keyed("summary", &summary)?;
    } else {
        let verdict = match summary.findings {
            0 => out.paint(Style::Good, "no damage"),
            n => out.paint(Style::Bad, &units::count(n, "finding")),
        };
        out.line(format!(
            "Checked {}, {} and {} in {}: {verdict}.",
            units::count(summary.files, "file"),
            units::count(summary.snapshots, "snapshot"),
            units::size(summary.bytes),
            units::took(Duration::from_millis(summary.took_ms)),
        ))?;
    }
    Ok(if summary.findings == 0 {
        exit::OK
    } else {
        exit::DAMAGED
    })
}

fn describe(finding: &Finding, out: &Output) -> String {
    let kind = match finding.kind {
        FindingKind::Content => "damaged content",
        FindingKind::Missing => "missing",
        FindingKind::Metadata => "damaged metadata",
        FindingKind::Base => "changed below the mount",
        FindingKind::Inconsistent => "inconsistent",
        FindingKind::Other => "wrong",
    };
    let mut text = out.paint(Style::Bad, kind);
    if let Some(path) = &finding.path {
        text.push_str(&format!(": {path}"));
    }
    text.push_str(&format!(": {}", escaped_text(&finding.what)));
    if !finding.states.is_empty() {
        let states: Vec<String> = finding
            .states
            .iter()
            .map(|state| escaped(state.as_bytes()))
            .collect();
        text.push_str(&format!(" (in {})", states.join(", ")));
    }
    text
}
