//! `llfs check`: looks at a store that is not mounted, tells what is damaged in it and what a repair would give up, and
//! does that when the user says so.
//!
//! Looking writes nothing but the process id into the store's lock. A repair never destroys: what it takes out of use is
//! kept aside in the store.

mod account;
mod ask;
mod lost;
mod report;
mod scrub;
mod superblock;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llctl::escape::Shown;
use llctl::exit;

use crate::engine::{OpenError, check_private};
use crate::store::{self, HostDisk, Store, StoreOptions};
use crate::supervisor::trouble::{Trouble, argument};
use account::Account;
use report::Report;

/// What to check. Both paths are absolute and have no symbolic links.
pub(crate) struct Order {
    /// The directory.
    pub base: PathBuf,
    /// Its store.
    pub store: PathBuf,
    /// Take out of use what is damaged.
    pub repair: bool,
    /// Without asking.
    pub yes: bool,
    /// Print JSON.
    pub json: bool,
}

/// Checks, and repairs; the exit code.
pub(crate) fn run(order: &Order) -> Result<u8, Trouble> {
    if !order.store.is_dir() {
        return Err(
            Trouble::new(format!("there is no store at {}", order.store.shown()))
                .hint("name another with --store DIR"),
        );
    }
    check_private(&order.store)
        .map_err(|error| Trouble::because(format!("cannot use {}", order.store.shown()), error))?;
    let disk = Arc::new(HostDisk::open(&order.store).map_err(|error| {
        Trouble::because(format!("cannot open {}", order.store.shown()), error)
    })?);
    let mut report = Report::new(order);
    let renewed = match superblock::missing(&*disk) {
        None => false,
        Some(damage) => {
            report.superblock(&damage);
            match superblock::renew(order, &*disk, &mut report)? {
                true => true,
                false => return report.end(),
            }
        }
    };
    let account = Account::take(order, disk.clone())?;
    report.account(&account);
    if account.unreadable.is_none() {
        scrub::scrub(order, &mut report)?;
    }
    let repairs = account.repairs();
    if repairs.is_empty() {
        return if renewed && report.is_sound() {
            report.repaired(&account.set_aside(order)?)
        } else {
            report.end()
        };
    }
    report.would(&repairs);
    if !order.repair {
        return report.end();
    }
    ask::confirm(order, &mut report)?;
    repair(order, disk)?;
    report.repaired(&account.set_aside(order)?)
}

fn repair(order: &Order, disk: Arc<HostDisk>) -> Result<(), Trouble> {
    let options = StoreOptions {
        repair: true,
        ..StoreOptions::default()
    };
    let (store, _) = Store::open(disk, &options).map_err(|error| trouble(order, error))?;
    // Now, while it is known that the state is older than the layers.
    let sealed = store.layers().and_then(|layers| {
        layers.iter().try_for_each(|layer| store.seal(layer.id))?;
        store.finish_seals()?;
        store.list_sums()
    });
    sealed
        .and_then(|()| store.close())
        .map_err(|error| Trouble::because("the repaired store could not be made durable", error))
}

/// What the store's error is to the user.
fn trouble(order: &Order, error: store::OpenError) -> Trouble {
    match error {
        store::OpenError::Locked { .. } => Trouble::new(error.to_string())
            .hint(format!(
                "while it is mounted, `llctl -C {} verify` checks it",
                argument(&order.base)
            ))
            .code(exit::REFUSED),
        error => Trouble::from(OpenError::Store {
            path: order.store.clone(),
            error,
        }),
    }
}

/// The path of a file of the store.
fn in_store(order: &Order, path: &Path) -> String {
    order.store.join(path).shown()
}
