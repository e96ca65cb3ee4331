//! POSIX ACLs as the kernel passes them: the value of `system.posix_acl_access` and `…_default`.
//!
//! The format is `struct posix_acl_xattr_header` and `…_entry` of `linux/posix_acl_xattr.h`: a version of 4 bytes, then
//! entries of tag (2), permissions (2) and id (4), little endian. What is done with them follows `fs/posix_acl.c` of
//! Linux, which leaves it to a FUSE server (`FUSE_POSIX_ACL`, `FUSE_DONT_MASK`).

use std::collections::BTreeMap;

use serde_bytes::ByteBuf;

use crate::tree::Kind;

/// The access ACL.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The default ACL of a directory.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ace {
    tag: u16,
    perm: u16,
    id: u32,
}

/// An ACL, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Ace>);

impl Acl {
    /// Decodes an ACL; `None` if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Acl> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
            return None;
        }
        let aces = entries.chunks_exact(8).map(|e| Ace {
            tag: u16::from_le_bytes([e[0], e[1]]),
            perm: u16::from_le_bytes([e[2], e[3]]),
            id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
        });
        let acl = Acl(aces.collect());
        let known = USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER;
        let sound = acl.0.iter().all(|a| a.tag & known != 0 && a.perm <= 7)
            && [USER_OBJ, GROUP_OBJ, OTHER]
                .iter()
                .all(|t| acl.0.iter().filter(|a| a.tag == *t).count() == 1);
        sound.then_some(acl)
    }

    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for a in &self.0 {
            out.extend(a.tag.to_le_bytes());
            out.extend(a.perm.to_le_bytes());
            out.extend(a.id.to_le_bytes());
        }
        out
    }

    /// The nine permission bits that say the same, or as much of it as they can.
    pub fn mode(&self) -> u16 {
        self.0.iter().fold(0, |mode, a| match a.tag {
            USER_OBJ => mode | a.perm << 6,
            OTHER => mode | a.perm,
            _ if a.tag == self.class() => mode | a.perm << 3,
            _ => mode,
        })
    }

    /// Permission bits say all of it.
    pub fn is_trivial(&self) -> bool {
        self.0
            .iter()
            .all(|a| matches!(a.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// What `chmod` does to it.
    pub fn chmod(&mut self, perm: u16) {
        let class = self.class();
        for a in &mut self.0 {
            match a.tag {
                USER_OBJ => a.perm = perm >> 6 & 7,
                OTHER => a.perm = perm & 7,
                t if t == class => a.perm = perm >> 3 & 7,
                _ => {}
            }
        }
    }

    /// The entry that the group bits of a mode stand for.
    fn class(&self) -> u16 {
        if self.0.iter().any(|a| a.tag == MASK) {
            MASK
        } else {
            GROUP_OBJ
        }
    }
}

/// What a new object gets of its directory's default ACL.
pub(super) struct Heir {
    /// Its permission bits.
    pub perm: u16,
    /// Its ACLs.
    pub xattrs: Vec<(Vec<u8>, ByteBuf)>,
}

/// The permissions and ACLs of an object made in a directory with such attributes.
pub(super) fn inherit(
    dir: Option<&BTreeMap<Vec<u8>, ByteBuf>>,
    kind: Kind,
    perm: u16,
    umask: u16,
) -> Heir {
    let default = dir.and_then(|x| x.get(DEFAULT));
    let Some(mut acl) = default.and_then(|bytes| Acl::decode(bytes)) else {
        return Heir {
            perm: perm & !(umask & 0o777),
            xattrs: Vec::new(),
        };
    };
    let granted = acl.mode() & perm;
    acl.chmod(granted);
    let mut xattrs = Vec::new();
    if !acl.is_trivial() {
        xattrs.push((ACCESS.to_vec(), ByteBuf::from(acl.encode())));
    }
    if kind == Kind::Dir
        && let Some(bytes) = default
    {
        xattrs.push((DEFAULT.to_vec(), bytes.clone()));
    }
    Heir {
        perm: perm & !0o777 | granted,
        xattrs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(aces: &[(u16, u16, u32)]) -> Acl {
        Acl(aces
            .iter()
            .map(|&(tag, perm, id)| Ace { tag, perm, id })
            .collect())
    }

    #[test]
    fn bytes_survive_the_round_trip_and_garbage_does_not_decode() {
        let a = acl(&[
            (USER_OBJ, 7, !0),
            (USER, 5, 1000),
            (GROUP_OBJ, 5, !0),
            (MASK, 5, !0),
            (OTHER, 0, !0),
        ]);
        assert_eq!(Acl::decode(&a.encode()), Some(a.clone()));
        for cut in 0..a.encode().len() {
            assert_eq!(Acl::decode(&a.encode()[..cut]), None, "{cut} bytes");
        }
        assert_eq!(a.mode(), 0o750);
        assert!(!a.is_trivial());
    }

    #[test]
    fn a_default_acl_overrides_the_umask_and_is_handed_down() {
        let default = acl(&[
            (USER_OBJ, 7, !0),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, !0),
            (MASK, 7, !0),
            (OTHER, 4, !0),
        ]);
        let dir = BTreeMap::from([(DEFAULT.to_vec(), ByteBuf::from(default.encode()))]);
        let file = inherit(Some(&dir), Kind::File, 0o666, 0o077);
        assert_eq!(file.perm, 0o664);
        assert_eq!(file.xattrs.len(), 1);
        let access = Acl::decode(&file.xattrs[0].1).unwrap();
        assert_eq!(
            access,
            acl(&[
                (USER_OBJ, 6, !0),
                (USER, 7, 1000),
                (GROUP_OBJ, 5, !0),
                (MASK, 6, !0),
                (OTHER, 4, !0)
            ])
        );
        let sub = inherit(Some(&dir), Kind::Dir, 0o2777, 0o077);
        assert_eq!(sub.perm, 0o2774);
        assert_eq!(sub.xattrs.len(), 2);
        assert_eq!(inherit(None, Kind::File, 0o4777, 0o027).perm, 0o4750);
    }

    #[test]
    fn chmod_changes_the_mask_where_there_is_one() {
        let mut a = acl(&[
            (USER_OBJ, 7, !0),
            (GROUP_OBJ, 7, !0),
            (GROUP, 7, 5),
            (MASK, 7, !0),
            (OTHER, 7, !0),
        ]);
        a.chmod(0o640);
        assert_eq!(
            a,
            acl(&[
                (USER_OBJ, 6, !0),
                (GROUP_OBJ, 7, !0),
                (GROUP, 7, 5),
                (MASK, 4, !0),
                (OTHER, 0, !0)
            ])
        );
        let mut b = acl(&[(USER_OBJ, 7, !0), (GROUP_OBJ, 7, !0), (OTHER, 7, !0)]);
        b.chmod(0o640);
        assert_eq!(b.mode(), 0o640);
    }
}
