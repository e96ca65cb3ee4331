//! The base: whether what the overlay relies on is still there.

use llctl::protocol::{BytePath, Finding, FindingKind};

use super::{Scrub, Step};
use crate::base::What;
use crate::engine::Engine;
use crate::engine::open::fact;
use crate::engine::service::states::View;
use crate::tree::Ino;

/// Compares every place with what was recorded of it.
pub(super) fn check(engine: &Engine, scrub: &mut Scrub<'_>) -> Step {
    let recorded: Vec<_> = {
        let state = engine.state.read();
        (state.places.iter())
            .map(|(ino, place)| (*ino, fact(&place.fact)))
            .collect()
    };
    let drifts = engine.base.check_all(recorded);
    if drifts.is_empty() {
        return Ok(());
    }
    let views = View::all(engine);
    for drift in drifts {
        let what = match drift.what {
            What::Missing => "the base's file is gone".to_owned(),
            What::Replaced => "the base's file was replaced by another".to_owned(),
            What::Changed { recorded, found } if recorded.size != found.size => format!(
                "the base's file was changed behind the mount: it had {} bytes, it has {}",
                recorded.size, found.size
            ),
            What::Changed { .. } => "the base's file was changed behind the mount".to_owned(),
            What::Unreadable(errno) => {
                format!("the base's file cannot be looked at: {}", errno.desc())
            }
        };
        scrub.found(Finding {
            kind: FindingKind::Base,
            what,
            path: Some(BytePath::from(drift.path)),
            states: relying(&views, drift.ino),
        })?;
    }
    Ok(())
}

/// The states that show the object with changes of their own. Without any, all that show it show the base's.
fn relying(views: &[View], ino: Ino) -> Vec<String> {
    let has = |view: &&View| view.root.inode(ino).is_some_and(|i| i.nlink > 0);
    views.iter().filter(has).map(|v| v.name.clone()).collect()
}
