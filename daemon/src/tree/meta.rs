//! What a snapshot says of itself, as records and images have it.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use llctl::protocol::SnapMeta;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Shared by all snapshots that say nothing.
static NOTHING: LazyLock<Arc<SnapMeta>> = LazyLock::new(Arc::default);

/// The last that was made: many snapshots in a row say the same.
static LAST: LazyLock<Mutex<Arc<SnapMeta>>> = LazyLock::new(Mutex::default);

/// Metadata, cheap to clone.
///
/// In a record it is a byte string that holds a map of named fields, unlike everything else there: so fields can come
/// without another format version, and what does not read them passes over them as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta(Arc<SnapMeta>);

impl Default for Meta {
    fn default() -> Self {
        Meta(NOTHING.clone())
    }
}

impl From<SnapMeta> for Meta {
    fn from(meta: SnapMeta) -> Self {
        if meta.is_empty() {
            return Meta::default();
        }
        let mut last = LAST.lock();
        if **last != meta {
            *last = Arc::new(meta);
        }
        Meta(last.clone())
    }
}

impl Deref for Meta {
    type Target = SnapMeta;

    fn deref(&self) -> &SnapMeta {
        &self.0
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = rmp_serde::to_vec_named(&*self.0).map_err(ser::Error::custom)?;
        serde_bytes::Bytes::new(&bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let meta: SnapMeta = rmp_serde::from_slice(&bytes).map_err(de::Error::custom)?;
        Ok(meta.into())
    }
}
