//! The history: what was done, by whom, and what became of it, through a real mount.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::io::Write;

use llfs_tests::mounted::Mounted;
use serde_json::Value;

fn acts(mounted: &Mounted, args: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["history"].iter().chain(args).copied().collect();
    mounted.json(&all)["acts"].as_array().unwrap().clone()
}

fn kinds(acts: &[Value]) -> Vec<&str> {
    acts.iter().map(|a| a["what"].as_str().unwrap()).collect()
}

#[test]
fn every_act_is_kept_with_who_and_why_and_its_end() {
    let mounted = Mounted::over("history", |base| fs::write(base.join("f"), "0").unwrap());
    mounted
        .llctl(&["snap", "a", "-m", "the message"])
        .finish()
        .ok();
    fs::write(mounted.path("f"), "1").unwrap();
    let because = ["revert", "a", "--why", "it was wrong"];
    mounted.llctl(&because).finish().ok();
    mounted.undo();
    mounted.redo();
    mounted.llctl(&["rename", "a", "b"]).finish().ok();
    assert_ne!(mounted.llctl(&["revert", "gone"]).finish().code(), 0);
    mounted.llctl(&["tag", "b", "x"]).finish().ok();
    mounted.delete("b");
    let all = acts(&mounted, &[]);
    let expected = [
        "snap", "revert", "undo", "redo", "rename", "revert", "describe", "delete",
    ];
    assert_eq!(kinds(&all), expected);
    assert_eq!(
        (&all[0]["targets"][0], &all[0]["why"]),
        (&"a".into(), &"the message".into())
    );
    assert_eq!(
        (&all[1]["files"], &all[1]["why"]),
        (&1.into(), &"it was wrong".into())
    );
    assert_eq!(all[4]["targets"], serde_json::json!(["a", "b"]));
    for act in &all {
        assert!(act["command"].as_str().unwrap().contains("llctl"), "{act}");
        assert!(act["pid"].as_u64().unwrap() > 1, "{act}");
        assert_eq!(act["uid"], nix::unistd::geteuid().as_raw());
    }
    let failed = acts(&mounted, &["--failed"]);
    assert_eq!(kinds(&failed), ["revert"]);
    assert_eq!(failed[0]["error_kind"], "not_found");
    assert!(failed[0]["error"].as_str().unwrap().contains("gone"));
    assert_eq!(
        kinds(&acts(&mounted, &["b"])),
        ["rename", "describe", "delete"]
    );
    let some = acts(&mounted, &["--what", "revert", "--what", "undo", "-n", "2"]);
    assert_eq!(kinds(&some), ["undo", "revert"]);
    assert_eq!(acts(&mounted, &["--until", "1h"]).len(), 0);
    assert_eq!(acts(&mounted, &["--since", "1h"]).len(), expected.len());
    mounted.kill9();
    mounted.mount();
    assert_eq!(acts(&mounted, &[]), all, "after kill -9");
    let text = mounted
        .llctl(&["history", "--what", "revert"])
        .finish()
        .ok()
        .out();
    assert!(text.contains("why: it was wrong"), "{text}");
    assert!(
        text.contains("failed: there is no snapshot named"),
        "{text}"
    );
}

#[test]
fn a_torn_or_damaged_history_hinders_nothing() {
    let mounted = Mounted::over("history-torn", |_| {});
    mounted.snap("a");
    mounted.snap("b");
    mounted.unmount();
    let file = mounted.store.join("history/00000001.acts");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    mounted.mount();
    assert_eq!(
        kinds(&acts(&mounted, &[])),
        ["snap"],
        "the torn act is gone"
    );
    mounted.snap("c");
    assert_eq!(acts(&mounted, &[]).len(), 2);
    mounted.unmount();
    let mut garbage = fs::OpenOptions::new().append(true).open(&file).unwrap();
    garbage.write_all(&[0xff; 4096]).unwrap();
    let second = mounted.store.join("history/00000002.acts");
    let mut bytes = fs::read(&second).unwrap();
    bytes[20] ^= 1;
    fs::write(&second, bytes).unwrap();
    mounted.mount();
    mounted.snap("d");
    let left = acts(&mounted, &[]);
    assert_eq!(kinds(&left), ["snap", "snap"]);
    assert_eq!(left[1]["targets"][0], "d");
    let names = mounted.json(&["list"]);
    assert_eq!(names["snapshots"].as_array().unwrap().len(), 4);
    mounted.verify();
}
