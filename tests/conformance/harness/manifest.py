"""What a tree is: every object's type, attributes, extended attributes and bytes."""

import hashlib
import os
import stat

from .shell import Failed


def facts(path, links):
    """The facts about one object; `links` maps (device, inode) to the first path seen with it."""
    status = os.lstat(path)
    found = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "xattrs": {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        },
    }
    if not stat.S_ISDIR(status.st_mode):
        found["links"] = status.st_nlink
        found["same as"] = links.setdefault((status.st_dev, status.st_ino), os.fsencode(path))
    if stat.S_ISREG(status.st_mode):
        found["size"] = status.st_size
        with open(path, "rb") as file:
            found["bytes"] = hashlib.file_digest(file, "blake2b").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        found["target"] = os.readlink(path)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        found["device"] = status.st_rdev
    return found


def manifest(root):
    """Path below `root` -> facts."""
    root = os.fsencode(root)
    links = {}
    found = {b".": facts(root, links)}
    for parent, directories, files in os.walk(root):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(parent, name)
            found[os.path.relpath(path, root)] = facts(path, links)
    for entry in found.values():
        if "same as" in entry:
            entry["same as"] = os.path.relpath(entry["same as"], root)
    return found


def same(name, seen, wanted):
    """Two manifests have to be equal; raises with the first differences."""
    lines = []
    for path in sorted(set(seen) | set(wanted)):
        if path not in seen:
            lines.append(f"{path!r}: missing")
        elif path not in wanted:
            lines.append(f"{path!r}: should not be there")
        else:
            for fact, value in wanted[path].items():
                if seen[path].get(fact) != value:
                    lines.append(f"{path!r}: {fact}: {seen[path].get(fact)!r} instead of {value!r}")
    if lines:
        raise Failed(f"{name}: {len(lines)} differences\n" + "\n".join(lines[:15]))
