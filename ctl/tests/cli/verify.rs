//! `llctl verify`.

use llctl::protocol::{
    BytePath, Finding, FindingKind, Progress, ProgressUnit, Response, VerifySummary,
};

use super::fake::Fake;

fn answer(findings: Vec<Finding>) -> Vec<Response> {
    let progress = Progress {
        what: "layer 1".to_owned(),
        done: 1,
        total: Some(2),
        unit: ProgressUnit::Bytes,
    };
    let summary = VerifySummary {
        files: 12,
        bytes: 4096,
        snapshots: 1,
        findings: findings.len() as u64,
        took_ms: 1200,
    };
    [Response::Progress(progress)]
        .into_iter()
        .chain(findings.into_iter().map(Response::Finding))
        .chain([Response::Verified(summary)])
        .collect()
}

fn finding() -> Finding {
    Finding {
        kind: FindingKind::Content,
        what: "block 3 does not have its checksum".to_owned(),
        path: Some(BytePath::from("src/a\x1bb")),
        states: vec!["monday".to_owned(), "@live".to_owned()],
    }
}

#[test]
fn no_damage_is_success() {
    let fake = Fake::new(answer(Vec::new()));
    assert_eq!(
        fake.output(&["verify"]),
        "Checked 12 files, 1 snapshot and 4.0 KiB in 1.2 s: no damage.\n"
    );
}

#[test]
fn damage_has_its_exit_code() {
    let fake = Fake::new(answer(vec![finding()]));
    let run = fake.run(&["verify"]);
    assert_eq!((run.code, run.stderr.as_str()), (7, ""));
    assert_eq!(
        run.stdout,
        "\
damaged content: src/a\\x1bb: block 3 does not have its checksum (in monday, @live)
Checked 12 files, 1 snapshot and 4.0 KiB in 1.2 s: 1 finding.
"
    );
    let run = fake.run(&["verify", "--json"]);
    assert_eq!(run.code, 7);
    let lines: Vec<serde_json::Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["finding"]["kind"], "content");
    assert_eq!(lines[1]["summary"]["findings"], 1);
}
