use super::*;

fn wrong(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Config::parse(""), Ok(Config::default()));
    assert_eq!(
        Config::parse("# nothing\n[retention]\n"),
        Ok(Config::default())
    );
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = Config::parse("[checkpoints]\nquiet = \"off\"\nbulk = 3\n").unwrap();
    let expected = Checkpoints {
        quiet: None,
        bulk: 3,
        ..Checkpoints::default()
    };
    assert_eq!(config.checkpoints, expected);
    assert_eq!(config.retention, Retention::default());
}

#[test]
fn what_is_in_force_can_be_written_as_a_file() {
    let text = "[components]\n\"a b\" = [\"web/**\"]\n[retention]\nmax_size = \"1536M\"\nkeep_for = \"1w2d\"\n[hooks]\nafter_snap = \"echo \\\"x\\\"\"\n";
    for config in [Config::default(), Config::parse(text).unwrap()] {
        let written = config.to_text();
        assert_eq!(Config::parse(&written), Ok(config), "{written}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    assert_eq!(
        wrong("[retention]\nkeep_lsat = 3\n"),
        "line 2, column 1: unknown field `keep_lsat`, expected one of `keep_last`, `keep_for`, `hourly`, `daily`, `keep_tagged`, `max_size`, `applies_to`"
    );
    assert_eq!(
        wrong("[checkpoints]\nevery = \"10m\"\nquiet = \"soon\"\n"),
        "line 3, column 9: expected a time such as 45s, 10m, 1h30m or 7d, not \"soon\"; \"off\" is for none"
    );
    assert_eq!(
        wrong("[components]\nok = [\"a\"]\nweb = [\"[a\"]\n"),
        "line 3, column 1: component \"web\": \"[a\" is no pattern: unclosed character class; missing ']'"
    );
    for (text, place) in [
        ("[rentention]\n", "line 1, column 2: unknown field"),
        ("\n  x = \n", "line 2, column 7"),
        ("[hooks]\nä = 1", "line 2, column 1"),
        (
            "[checkpoints]\nbulk = -1\n",
            "line 2, column 8: invalid value",
        ),
        (
            "[retention]\napplies_to = \"some\"\n",
            "line 2, column 14: unknown variant",
        ),
    ] {
        assert!(wrong(text).starts_with(place), "{text}: {}", wrong(text));
    }
    assert!(wrong(&"#".repeat(TEXT_MAX + 1)).contains("at most 65536 bytes"));
}

#[test]
fn times_and_sizes() {
    let span = |text: &str| text.parse::<Span>().map(|span| span.get().as_secs());
    assert_eq!(span("1h30m"), Ok(5400));
    assert_eq!(span("2w1d"), Ok(15 * 24 * 3600));
    for bad in [
        "",
        "0s",
        "10",
        "m",
        "5m1h",
        "1m1m",
        "-1s",
        "1.5h",
        "99999999999999999w",
        "4000w1000000d",
    ] {
        assert!(span(bad).is_err(), "{bad}");
    }
    let size = |text: &str| text.parse::<Size>().map(|size| size.0);
    assert_eq!(
        (size("500"), size("2k"), size("20GiB")),
        (Ok(500), Ok(2048), Ok(20 << 30))
    );
    for bad in ["", "G", "1X", "-1", "99999999999T"] {
        assert!(size(bad).is_err(), "{bad}");
    }
    assert_eq!(Span::from_secs(3661).to_string(), "1h1m1s");
    assert_eq!(
        (Size(3 << 30).to_string(), Size(1000).to_string()),
        ("3G".to_owned(), "1000".to_owned())
    );
}

#[test]
fn what_nobody_asked_for() {
    let meta = |reason: Option<&str>, by: Option<&str>| SnapMeta {
        reason: reason.map(str::to_owned),
        created_by: by.map(str::to_owned),
        ..SnapMeta::default()
    };
    assert!(is_automatic(&meta(Some("automatic"), None)));
    assert!(is_automatic(&meta(Some("pre-change"), Some("codex"))));
    for asked in [
        meta(None, None),
        meta(None, Some("me")),
        meta(Some("manual"), Some("mcp")),
        meta(Some("pre-change"), None),
    ] {
        assert!(!is_automatic(&asked), "{asked:?}");
    }
}
