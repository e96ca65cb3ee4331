//! What differs between two trees.

use std::collections::BTreeMap;

use super::{Entry, Manifest};

/// What a comparison leaves out. The default leaves out nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore {
    /// Inode numbers; which paths are hard links of each other still counts.
    pub inodes: bool,
    /// Sizes of directories, which every filesystem makes up for itself.
    pub dir_sizes: bool,
    /// Link counts of directories.
    pub dir_links: bool,
    /// Times at or after this moment (seconds, nanoseconds) are all the same: both trees were
    /// changed then, but not at once.
    pub times_since: Option<(i64, i64)>,
    /// All times.
    pub times: bool,
    /// The root itself.
    pub root: bool,
}

impl Ignore {
    /// For two trees on different filesystems, or made by different calls.
    #[must_use]
    pub fn another_tree() -> Self {
        Ignore {
            inodes: true,
            dir_sizes: true,
            ..Ignore::default()
        }
    }
}

impl Manifest {
    /// What differs, a line for each, in the order of the paths. `self` is what was expected.
    #[must_use]
    pub fn differences(&self, other: &Manifest, ignore: Ignore) -> Vec<String> {
        let (groups, other_groups) = (self.first_names(), other.first_names());
        let mut lines = Vec::new();
        for (path, entry) in &self.0 {
            if ignore.root && path.is_empty() {
                continue;
            }
            let Some(found) = other.0.get(path) else {
                lines.push(format!("- {} ({})", shown(path), summary(entry)));
                continue;
            };
            let mut fields = differing_fields(entry, found, ignore);
            if groups.get(&entry.ino) != other_groups.get(&found.ino) {
                fields.push(format!(
                    "linked with {} / {}",
                    groups
                        .get(&entry.ino)
                        .map_or_else(String::new, |path| shown(path)),
                    other_groups
                        .get(&found.ino)
                        .map_or_else(String::new, |path| shown(path))
                ));
            }
            if !fields.is_empty() {
                lines.push(format!("! {}: {}", shown(path), fields.join(", ")));
            }
        }
        for (path, entry) in &other.0 {
            if !self.0.contains_key(path) {
                lines.push(format!("+ {} ({})", shown(path), summary(entry)));
            }
        }
        lines
    }

    /// The first name of every inode: equal for both trees where the hard links are.
    fn first_names(&self) -> BTreeMap<u64, &[u8]> {
        let mut names = BTreeMap::new();
        for (path, entry) in &self.0 {
            names.entry(entry.ino).or_insert(path.as_slice());
        }
        names
    }
}

fn differing_fields(a: &Entry, b: &Entry, ignore: Ignore) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = |name: &str, equal: bool, a: String, b: String| {
        if !equal {
            fields.push(format!("{name} {a} / {b}"));
        }
    };
    field(
        "type",
        a.kind == b.kind,
        format!("{:o}", a.kind),
        format!("{:o}", b.kind),
    );
    field(
        "mode",
        a.mode == b.mode,
        format!("{:o}", a.mode),
        format!("{:o}", b.mode),
    );
    field("uid", a.uid == b.uid, a.uid.to_string(), b.uid.to_string());
    field("gid", a.gid == b.gid, a.gid.to_string(), b.gid.to_string());
    field(
        "rdev",
        a.rdev == b.rdev,
        a.rdev.to_string(),
        b.rdev.to_string(),
    );
    let both_dirs = a.is_dir() && b.is_dir();
    let links = a.nlink == b.nlink || both_dirs && ignore.dir_links;
    field("nlink", links, a.nlink.to_string(), b.nlink.to_string());
    let sizes = a.size == b.size || both_dirs && ignore.dir_sizes;
    field("size", sizes, a.size.to_string(), b.size.to_string());
    let ino = a.ino == b.ino || ignore.inodes;
    field("ino", ino, a.ino.to_string(), b.ino.to_string());
    let both_late = |since| a.mtime >= since && b.mtime >= since;
    let times = a.mtime == b.mtime || ignore.times || ignore.times_since.is_some_and(both_late);
    field(
        "mtime",
        times,
        format!("{:?}", a.mtime),
        format!("{:?}", b.mtime),
    );
    field(
        "target",
        a.target == b.target,
        shown(&a.target),
        shown(&b.target),
    );
    field(
        "content",
        a.content == b.content,
        "one".into(),
        "another".into(),
    );
    let names = a
        .xattrs
        .keys()
        .chain(b.xattrs.keys().filter(|name| !a.xattrs.contains_key(*name)));
    for name in names {
        let (one, another) = (a.xattrs.get(name), b.xattrs.get(name));
        field(&shown(name), one == another, value(one), value(another));
    }
    fields
}

fn value(xattr: Option<&Vec<u8>>) -> String {
    match xattr {
        None => "absent".to_owned(),
        Some(value) if value.len() > 40 => format!("{} bytes", value.len()),
        Some(value) => format!("\"{}\"", value.escape_ascii()),
    }
}

fn summary(entry: &Entry) -> String {
    format!(
        "type {:o}, mode {:o}, {} bytes",
        entry.kind, entry.mode, entry.size
    )
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.escape_ascii().to_string()
    }
}
