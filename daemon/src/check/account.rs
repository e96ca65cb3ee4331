//! What a store's journal and images hold, and what of that is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lost::{Lost, time_of};
use super::{Order, trouble};
use crate::engine::read_state;
use crate::store::{Damage, Disk, HostDisk, Store, StoreOptions, Superblock};
use crate::supervisor::trouble::Trouble;
use crate::tree::Time;

/// What was found.
pub(super) struct Account {
    pub superblock: Superblock,
    /// Snapshots before the damage, oldest first, with their times.
    pub snapshots: Vec<(String, Time)>,
    /// The last record that counts, and its time if it tells one.
    pub last: u64,
    pub last_time: Option<Time>,
    pub damaged_images: Vec<u32>,
    pub damage: Option<Damage>,
    /// What lies behind the damage.
    pub lost: Lost,
    /// Whether anything lies before it.
    pub has_state: bool,
    /// Why no state comes out of what is there.
    pub unreadable: Option<String>,
}

impl Account {
    /// Reads everything, and writes nothing.
    pub fn take(order: &Order, disk: Arc<HostDisk>) -> Result<Account, Trouble> {
        let options = StoreOptions {
            read_only: true,
            ..StoreOptions::default()
        };
        let (store, mut recovered) =
            Store::open(disk, &options).map_err(|error| trouble(order, error))?;
        let mut last_time = None;
        let image = recovered.image();
        let state = read_state(image, &recovered, &mut |_, _, record| {
            last_time = time_of(record).or(last_time);
        });
        let mut lost = Lost::default();
        recovered
            .behind_damage(&mut |_, bytes| lost.add(bytes))
            .map_err(|error| Trouble::because("the journal cannot be read", error))?;
        let snapshots = state.as_ref().map(|(state, _)| {
            let snapshots = state.snapshots.values();
            snapshots.map(|s| (s.name.clone(), s.at)).collect()
        });
        Ok(Account {
            superblock: store.superblock(),
            snapshots: snapshots.unwrap_or_default(),
            last: recovered.last_seq(),
            last_time,
            damaged_images: recovered.damaged_images().to_vec(),
            damage: recovered.damage().cloned(),
            lost,
            has_state: recovered.has_state(),
            unreadable: state.err().map(|error| error.to_string()),
        })
    }

    /// What a repair would do, a sentence each. None: there is nothing that it can do.
    pub fn repairs(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(damage) = &self.damage
            && self.has_state
            && self.unreadable.is_none()
        {
            all.push(format!(
                "go on with the tree as it was after record {}{}, with {}",
                self.last,
                super::report::of(self.last_time),
                match self.snapshots.last() {
                    None => "no snapshot".to_owned(),
                    Some((name, _)) if self.snapshots.len() == 1 => format!("the snapshot {name}"),
                    Some((name, _)) => format!("{} snapshots up to {name}", self.snapshots.len()),
                }
            ));
            all.extend(self.lost.sentences());
            all.push(format!(
                "keep journal segment {:08} as it is now, and those behind it, aside in the store",
                damage.segment
            ));
        }
        for image in &self.damaged_images {
            all.push(format!(
                "keep the damaged image {image:08} aside in the store"
            ));
        }
        all
    }

    /// The files that a repair has put aside.
    pub fn set_aside(&self, order: &Order) -> Result<Vec<String>, Trouble> {
        let disk = HostDisk::open(&order.store)
            .map_err(|error| Trouble::because("cannot open the store", error))?;
        let mut found = Vec::new();
        for dir in ["", "journal", "images"] {
            let names = disk
                .list(Path::new(dir))
                .map_err(|error| Trouble::because(format!("cannot list {dir}"), error))?;
            let aside = names
                .into_iter()
                .map(|name| PathBuf::from(dir).join(name))
                .filter(|path| path.to_string_lossy().contains(".damaged"));
            found.extend(aside.map(|path| super::in_store(order, &path)));
        }
        found.sort();
        Ok(found)
    }
}
