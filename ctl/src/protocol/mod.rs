//! The messages of the control socket.
//!
//! A connection is a unix stream of frames (see [`crate::codec`]). The client sends [`Hello`], the daemon
//! answers [`HelloReply`]; from then on the client sends one [`Request`] at a time and reads [`Response`]s up to the
//! one that ends the answer ([`Response::is_last`]). Structs travel as maps with field names: a field added later is
//! ignored by an older peer if it is optional, anything else needs a new [`PROTOCOL_VERSION`].
//!
//! In JSON (`llctl --json`) the same types are used, with paths and times in a form for people: see [`BytePath`] and
//! [`UnixNanos`].
mod apply;
mod archive;
mod bytes;
mod change;
mod event;
mod failure;
mod handshake;
mod history;
mod listing;
mod log;
mod meta;
mod metric;
mod metrics;
mod part;
mod request;
mod response;
mod rules;
mod snapshot;
mod status;
mod trace;
mod verify;

pub use apply::{ApplyDone, ApplyPlan};
pub use archive::ArchiveInfo;
pub use bytes::{BytePath, UnixNanos};
pub use change::{
    CONTENT_MAX, Change, ChangeCounts, ChangeKind, Content, FileType, Patch, Side, selected,
};
pub use event::{Event, EventKind, Happening, Room, Stage};
pub use failure::{ErrorKind, Failure};
pub use handshake::{Hello, HelloReply, MAGIC, PROTOCOL_VERSION, Refused, Welcome};
pub use history::{Act, Deal, HistoryQuery, TARGETS_MAX, WHY_MAX};
pub use listing::{ListQuery, SortBy};
pub use log::{Author, Deed, LogEntry};
pub use meta::{
    Entity, FIELD_MAX, GitState, META_MAX, METRICS_MAX, MetaEdit, MetaError, SnapMeta, TAGS_MAX,
};
pub use metric::{Finite, Metric};
pub use metrics::{ActMetrics, BOUNDS_US, ErrorMetrics, MetricsInfo, OperationMetrics, Times};
pub use part::{Conflict, OnConflict, Part, PartOf};
pub use request::{MESSAGE_MAX, Request};
pub use response::{Progress, ProgressUnit, Response};
pub use rules::{ConfigInfo, FileState, PruneInfo, Pruned};
pub use snapshot::{DiscardedInfo, Listing, RevertCheck, RevertInfo, SnapDetail, SnapInfo};
pub use status::{HeldInfo, StatusInfo, StoreParts};
pub use trace::{Trace, TraceError};
pub use verify::{Finding, FindingKind, VerifySummary};
