//! What is in force, and what the file in the tree says.

use std::sync::Arc;

use llctl::config::{Config, ConfigError, FILE, TEXT_MAX};
use llctl::protocol::{BytePath, ConfigInfo, ErrorKind, Failure, FileState};

use super::cat;
use super::states::View;
use crate::engine::Engine;
use crate::engine::rules::InForce;

/// Why nothing is known of them.
const UNREAD: &str = "the rules that were trusted cannot be read";

/// What is in force, and how the file in the tree compares with that.
///
/// # Errors
/// What is in force cannot be read.
pub(super) fn info(engine: &Engine, automatic: bool) -> Result<ConfigInfo, Failure> {
    let rules = read(engine)?;
    let trusted = rules.trusted.as_ref();
    let (file, error) = compare(engine, &rules);
    Ok(ConfigInfo {
        rules: rules.config.clone(),
        text: trusted.map(|t| t.text.clone()),
        hash: trusted.map(|t| t.hash.clone()),
        trusted: trusted.map(|t| t.at),
        file,
        error,
        automatic,
    })
}

/// What is in force, for what is not to be done by defaults that stand in for it.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(engine: &Engine) -> Result<Arc<InForce>, Failure> {
    let rules = engine.rules();
    match rules.unread {
        false => Ok(rules),
        true => Err(Failure::new(ErrorKind::Io, UNREAD).with_hint("the log says why")),
    }
}

/// Puts a text in force.
pub(super) fn trust(engine: &Engine, text: &str) -> Result<(), Failure> {
    let config = Config::parse(text).map_err(|error| {
        Failure::new(ErrorKind::Invalid, format!("{FILE}: {error}")).with_hint(
            "what was in force still is; `llctl config check` says whether a file is right",
        )
    })?;
    engine
        .trust(text, config)
        .map_err(|error| Failure::io("the rules could not be kept", &error))
}

/// What a user should know of the file in the tree, in a sentence.
pub(super) fn warning(engine: &Engine) -> Option<String> {
    let rules = engine.rules();
    if rules.unread {
        return Some(format!("{UNREAD}: the defaults are in force"));
    }
    let (file, error) = compare(engine, &rules);
    match (file, error) {
        (FileState::Untrusted, _) => Some(format!(
            "{FILE} is not what is in force: `llctl config trust` shows it and puts it in force"
        )),
        (FileState::Gone, _) => Some(format!(
            "{FILE} is gone, and what it said is still in force: `llctl config trust` brings the defaults back"
        )),
        (FileState::Broken, Some(error)) => Some(format!("{FILE} is not in force: {error}")),
        _ => None,
    }
}

fn compare(engine: &Engine, rules: &InForce) -> (FileState, Option<ConfigError>) {
    let broken = |message: String| {
        let error = ConfigError::whole(message);
        (FileState::Broken, Some(error))
    };
    let text = match live(engine) {
        Ok(Some(text)) => text,
        Ok(None) if rules.trusted.is_some() => return (FileState::Gone, None),
        Ok(None) => return (FileState::None, None),
        Err(failure) => return broken(failure.message),
    };
    let Ok(text) = String::from_utf8(text) else {
        return broken("it is not UTF-8".to_owned());
    };
    let in_force = &rules.config;
    let rules = |config: &Config| Config {
        components: Default::default(),
        ..config.clone()
    };
    match Config::parse(&text) {
        // Components are read by clients: they need no trust.
        Ok(config) if rules(&config) == rules(in_force) => (FileState::InForce, None),
        Ok(_) => (FileState::Untrusted, None),
        Err(error) => (FileState::Broken, Some(error)),
    }
}

/// The file of the live tree; not more of it than is too long.
fn live(engine: &Engine) -> Result<Option<Vec<u8>>, Failure> {
    let mut text = Vec::new();
    let view = View::of(engine, &llctl::StateRef::Live)?;
    let read = cat::send(
        engine,
        &view,
        &BytePath::from(FILE.as_bytes()),
        0,
        &mut |piece| {
            text.extend(piece);
            match text.len() > TEXT_MAX {
                true => Err(std::io::ErrorKind::FileTooLarge.into()),
                false => Ok(()),
            }
        },
    );
    match read {
        Ok(()) => Ok(Some(text)),
        Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}
