//! A tree in memory.

use std::collections::BTreeMap;

use nix::errno::Errno;

use crate::manifest::{Entry, Manifest, digest};
use crate::op::Spot;

/// Identity of an object in the model; never used twice.
pub type Id = u64;

/// The root's identity.
pub const ROOT: Id = 0;

/// What an object is, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Bytes.
    File(Vec<u8>),
    /// Names.
    Dir(BTreeMap<Vec<u8>, Id>),
    /// A target.
    Symlink(Vec<u8>),
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What is in it.
    pub body: Body,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names lead here; 0 when it is only held open.
    pub links: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Modification time as it was seen.
    pub mtime: (i64, i64),
    /// Inode number as it was seen.
    pub ino: u64,
}

impl Node {
    /// The names in it, if it is a directory.
    pub fn names(&self) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.body {
            Body::Dir(names) => Some(names),
            _ => None,
        }
    }
}

/// All objects of one state of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(super) nodes: BTreeMap<Id, Node>,
}

impl Default for State {
    /// An empty directory.
    fn default() -> Self {
        let root = Node {
            body: Body::Dir(BTreeMap::new()),
            mode: 0o755,
            uid: 0,
            gid: 0,
            links: 1,
            xattrs: BTreeMap::new(),
            mtime: (0, 0),
            ino: 0,
        };
        State {
            nodes: BTreeMap::from([(ROOT, root)]),
        }
    }
}

/// An id that no state has used: states are cloned and reverted to, ids only grow.
fn fresh_id() -> Id {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl State {
    /// The object `id`, which must be there.
    #[must_use]
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    pub(super) fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids come from this state")
    }

    /// The directory that a path's last component lies in, and that component.
    pub(super) fn parent_of<'a>(&self, at: &'a Spot) -> Result<(Id, &'a [u8]), Errno> {
        let mut parts = at.parts();
        let last = parts.next_back().ok_or(Errno::EINVAL)?;
        let mut current = ROOT;
        for part in parts {
            current = self.child(current, part)?.ok_or(Errno::ENOENT)?;
        }
        self.directory(current)?;
        Ok((current, last))
    }

    /// What is at a path; a link itself if it is one.
    pub(super) fn find(&self, at: &Spot) -> Result<Id, Errno> {
        if at.0.is_empty() {
            return Ok(ROOT);
        }
        let (parent, name) = self.parent_of(at)?;
        self.child(parent, name)?.ok_or(Errno::ENOENT)
    }

    /// The names in `id`, when one can look names up in it. Links lead nowhere in the model.
    fn directory(&self, id: Id) -> Result<&BTreeMap<Vec<u8>, Id>, Errno> {
        match &self.node(id).body {
            Body::Dir(names) => Ok(names),
            Body::Symlink(_) => Err(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn child(&self, parent: Id, name: &[u8]) -> Result<Option<Id>, Errno> {
        Ok(self.directory(parent)?.get(name).copied())
    }

    pub(super) fn names_mut(&mut self, id: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.node_mut(id).body {
            Body::Dir(names) => names,
            other => unreachable!("{other:?} was looked up in"),
        }
    }

    /// Puts a new object into `parent`, by the rules of inheritance for a set-group-ID directory.
    pub(super) fn insert(&mut self, parent: Id, name: &[u8], body: Body, mode: u32) -> Id {
        let (parent_mode, parent_gid) = (self.node(parent).mode, self.node(parent).gid);
        let inherits = parent_mode & 0o2000 != 0;
        let mode = match body {
            Body::Dir(_) if inherits => mode | 0o2000,
            _ => mode,
        };
        let node = Node {
            body,
            mode,
            uid: 0,
            gid: if inherits { parent_gid } else { 0 },
            links: 1,
            xattrs: BTreeMap::new(),
            mtime: (0, 0),
            ino: 0,
        };
        let id = fresh_id();
        self.nodes.insert(id, node);
        self.names_mut(parent).insert(name.to_vec(), id);
        id
    }

    /// Whether `id` is `below` or one of the directories above it.
    pub(super) fn is_at_or_above(&self, id: Id, below: Id) -> bool {
        id == below
            || self.node(id).names().is_some_and(|names| {
                names
                    .values()
                    .any(|&child| self.is_at_or_above(child, below))
            })
    }

    /// A path that leads to `id`.
    pub(super) fn path_of(&self, id: Id) -> Option<Spot> {
        fn search(state: &State, at: Id, path: &[u8], id: Id) -> Option<Vec<u8>> {
            if at == id {
                return Some(path.to_vec());
            }
            let names = state.node(at).names()?;
            names.iter().find_map(|(name, &child)| {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    [path, b"/", name].concat()
                };
                search(state, child, &path, id)
            })
        }
        search(self, ROOT, &[], id).map(Spot)
    }

    pub(super) fn without_orphans(&self) -> State {
        let mut state = self.clone();
        state.nodes.retain(|_, node| node.links > 0);
        state
    }

    /// The state as a walk of the real tree has to give it. Sizes of directories are 0.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let mut manifest = Manifest::default();
        let mut waiting = vec![(Vec::new(), ROOT)];
        while let Some((path, id)) = waiting.pop() {
            let node = self.node(id);
            for (name, &child) in node.names().into_iter().flatten() {
                let child_path = if path.is_empty() {
                    name.clone()
                } else {
                    [&path[..], b"/", name].concat()
                };
                waiting.push((child_path, child));
            }
            manifest.0.insert(path, self.entry(node));
        }
        manifest
    }

    fn entry(&self, node: &Node) -> Entry {
        let (kind, size, content) = match &node.body {
            Body::File(bytes) => (libc::S_IFREG, bytes.len(), digest(bytes)),
            Body::Dir(_) => (libc::S_IFDIR, 0, 0),
            Body::Symlink(target) => (libc::S_IFLNK, target.len(), 0),
            Body::Fifo => (libc::S_IFIFO, 0, 0),
            Body::Socket => (libc::S_IFSOCK, 0, 0),
        };
        let nlink = match &node.body {
            Body::Dir(names) => {
                let is_dir = |id: &&Id| self.node(**id).names().is_some();
                2 + names.values().filter(is_dir).count() as u64
            }
            _ => node.links,
        };
        Entry {
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink,
            size: size as u64,
            mtime: node.mtime,
            rdev: 0,
            ino: node.ino,
            target: match &node.body {
                Body::Symlink(target) => target.clone(),
                _ => Vec::new(),
            },
            xattrs: node.xattrs.clone(),
            content,
        }
    }
}
