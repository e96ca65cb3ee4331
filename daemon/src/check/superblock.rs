//! A superblock that is damaged or gone. What it alone knows is which directory the store is of, which the user has named,
//! and the store's number, which every journal segment has too.

use super::report::Report;
use super::{Order, ask};
use crate::base::Base;
use crate::engine::OpenError;
use crate::store::{self, Disk, Superblock};
use crate::supervisor::trouble::Trouble;
use llctl::escape::Shown;

/// What is wrong with the superblock, if that could be put right.
pub(super) fn missing(disk: &dyn Disk) -> Option<store::OpenError> {
    match Superblock::read(disk) {
        Err(error @ (store::OpenError::BadSuperblock(_) | store::OpenError::Foreign)) => {
            Some(error)
        }
        Ok(None) => Some(store::OpenError::NoSuperblock),
        _ => None,
    }
}

/// Writes a new one, with the user's consent; whether it did. The old one is kept aside.
pub(super) fn renew(
    order: &Order,
    disk: &dyn Disk,
    report: &mut Report<'_>,
) -> Result<bool, Trouble> {
    let uuid = store::uuid_of_journal(disk)
        .map_err(|error| Trouble::because("the journal cannot be read", error))?;
    let Some(uuid) = uuid else {
        return Ok(false);
    };
    report.would(&[format!(
        "write a new superblock for {}, with the store's number from its journal; the old one is kept aside",
        order.base.shown()
    )]);
    if !order.repair {
        return Ok(false);
    }
    ask::confirm(order, report)?;
    let base = Base::open(&order.base).map_err(OpenError::from)?;
    let identity = base.identity();
    let made = Superblock::new(identity.path.clone(), identity.dev, identity.ino);
    let superblock = Superblock {
        uuid,
        ..made.map_err(|error| Trouble::because("no new superblock", error))?
    };
    store::replace_superblock(disk, &superblock).map_err(|error| super::trouble(order, error))?;
    report.superblock_renewed();
    Ok(true)
}
