//! What happens to a mount, told to those who watch it. docs/EVENTS.md describes the stream for other programs.

use serde::{Deserialize, Serialize};

use super::{Act, Deal, UnixNanos};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: each is one more than the one before it, and those of a later mount are greater. Of `watching` and `gap`,
    /// which have none of their own, the last number that was given before.
    pub seq: u64,
    /// When it happened.
    pub at: UnixNanos,
    /// What happened.
    pub event: EventKind,
    /// Of an act, how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Of an act that has ended, the number of the event that told its beginning, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// The act, as the history keeps it. Of one that has just started, what is known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    /// The hash of the state that was taken or reverted to, where that is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Of a gap, how many events are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
    /// Of a restart, how many there were since the mount was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// How much room there is, if it is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<Room>,
    /// The same for people, where there is more to say than the fields do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What happened: something was done, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventKind {
    /// Something that nobody did on purpose.
    Own(Happening),
    /// Something that was done, which the history keeps too.
    Act(Deal),
}

/// What happens besides acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// The watch begins; the first line of every stream.
    Watching,
    /// Events are missing here: the client was away or too slow.
    Gap,
    /// The daemon's worker had died, and another one serves the mount.
    Restarted,
    /// The store's disk is nearly full.
    LowSpace,
    /// The store has nearly reached its limit (`--max-store`).
    StoreLimit,
    /// There is room again, after one of the two.
    SpaceBack,
    /// The store cannot be written any more until the next mount.
    ReadOnly,
    /// The mount ends; the last event.
    Unmounting,
}

/// How far an act is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It begins.
    Started,
    /// It was done.
    Finished,
    /// It was not, or not to the end.
    Failed,
}

/// Room on the store's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Room {
    /// Bytes free on the disk.
    pub free: u64,
    /// Bytes that the store takes, if it is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<u64>,
    /// Bytes that it may take, if it is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl EventKind {
    /// As it is written in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own(own) => own.as_str(),
            Self::Act(deal) => deal.as_str(),
        }
    }
}

impl Happening {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Watching,
        Self::Gap,
        Self::Restarted,
        Self::LowSpace,
        Self::StoreLimit,
        Self::SpaceBack,
        Self::ReadOnly,
        Self::Unmounting,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Gap => "gap",
            Self::Restarted => "restarted",
            Self::LowSpace => "low_space",
            Self::StoreLimit => "store_limit",
            Self::SpaceBack => "space_back",
            Self::ReadOnly => "read_only",
            Self::Unmounting => "unmounting",
        }
    }
}

impl Stage {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

impl Event {
    /// An event that is no act; whoever keeps the events gives it its number and its time.
    pub fn own(what: Happening) -> Self {
        Self {
            seq: 0,
            at: UnixNanos::default(),
            event: EventKind::Own(what),
            stage: None,
            started: None,
            act: None,
            hash: None,
            missed: None,
            restarts: None,
            space: None,
            text: None,
        }
    }

    /// An act that begins.
    pub fn started(act: Act) -> Self {
        Self {
            stage: Some(Stage::Started),
            ..Self::of(act)
        }
    }

    /// An act that has ended, one way or the other. `started` is the number of the event of its beginning.
    pub fn ended(act: Act, started: Option<u64>) -> Self {
        let stage = match act.error {
            Some(_) => Stage::Failed,
            None => Stage::Finished,
        };
        Self {
            stage: Some(stage),
            started,
            ..Self::of(act)
        }
    }

    fn of(act: Act) -> Self {
        Self {
            event: EventKind::Act(act.what),
            act: Some(act),
            ..Self::own(Happening::Watching)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_one_word_in_both_encodings() {
        let acts = [Deal::Snap, Deal::Revert, Deal::Prune].map(EventKind::Act);
        let own = Happening::ALL.map(EventKind::Own);
        for kind in acts.into_iter().chain(own) {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.as_str()));
            assert_eq!(serde_json::from_str::<EventKind>(&json).unwrap(), kind);
            let packed = rmp_serde::to_vec_named(&kind).unwrap();
            assert_eq!(rmp_serde::from_slice::<EventKind>(&packed).unwrap(), kind);
        }
        let later: EventKind = serde_json::from_str("\"of_a_later_version\"").unwrap();
        assert_eq!(later, EventKind::Act(Deal::Other));
    }
}
