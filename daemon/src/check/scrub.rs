//! Everything stored is read and compared with its checksums, as `llctl verify` does it in a mount.

use llctl::client::VerifyEvent;

use super::Order;
use super::report::Report;
use crate::base::Base;
use crate::control::Service;
use crate::engine::service::Host;
use crate::engine::{Engine, OpenError, OpenOptions, Terms};
use crate::relay::Relay;
use crate::supervisor::progress::Bar;
use crate::supervisor::trouble::Trouble;

/// Reads, and tells the report what is wrong.
pub(super) fn scrub(order: &Order, report: &mut Report<'_>) -> Result<(), Trouble> {
    let options = OpenOptions {
        base: order.base.clone(),
        store: order.store.clone(),
        fresh: false,
    };
    let terms = Terms {
        read_only: true,
        any_base: true,
        moved: false,
        ..Terms::default()
    };
    let base = Base::open(&order.base).map_err(OpenError::from)?;
    let relay = Relay::new().map_err(OpenError::Relay)?;
    let (engine, _lock) = Engine::open_as(&options, &terms, base, relay, None)?;
    let host = Host::new(engine, order.base.clone(), Box::new(|| ()));
    let bar = Bar::new(!order.json);
    let summary = host.verify(&mut |event| {
        match event {
            VerifyEvent::Progress(progress) => bar.show(&progress),
            VerifyEvent::Finding(finding) => report.finding(finding),
        }
        Ok(())
    });
    drop(bar);
    let summary =
        summary.map_err(|failure| Trouble::because("the store cannot be read", failure.message))?;
    report.scrubbed(&summary);
    Ok(())
}
