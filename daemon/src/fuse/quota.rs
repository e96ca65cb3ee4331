//! Whether the CPU time that this process may take is limited, see `cpu.max` in the kernel's cgroup-v2 document and
//! `cpu.cfs_quota_us` in that of its scheduler: time that it spends for nothing is then taken from the programs that it serves.

use std::fs;
use std::path::Path;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Whether this process, or a group that it is in, has a quota. What cannot be read limits nothing.
pub(super) fn limits_us() -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limits(&groups, Path::new(CGROUPS))
}

/// `groups`: lines `ID:CONTROLLERS:PATH`, of which the second version of cgroups has one, `0::PATH` (cgroups(7)).
fn limits(groups: &str, root: &Path) -> bool {
    groups.lines().any(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            return false;
        };
        let (top, file) = match controllers {
            "" => (root.to_owned(), "cpu.max"),
            _ if controllers.split(',').any(|c| c == "cpu") => {
                (root.join("cpu"), "cpu.cfs_quota_us")
            }
            _ => return false,
        };
        let group = top.join(group.trim_start_matches('/'));
        group
            .ancestors()
            .take_while(|above| above.starts_with(&top))
            .filter_map(|above| fs::read_to_string(above.join(file)).ok())
            .any(|quota| !quota.starts_with("max") && !quota.starts_with('-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty directory that goes with the test.
    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let name = format!("llfs-quota-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(name);
            fs::create_dir(&root).unwrap();
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_quota_of_a_group_above_counts() {
        let root = Root::new("above");
        let deep = root.0.join("a/b");
        fs::create_dir_all(&deep).unwrap();
        assert!(!limits("0::/a/b\n", &root.0));
        fs::write(deep.join("cpu.max"), "max 100000\n").unwrap();
        assert!(!limits("0::/a/b\n", &root.0));
        fs::write(root.0.join("a/cpu.max"), "150000 100000\n").unwrap();
        assert!(limits("0::/a/b\n", &root.0));
        assert!(!limits("0::/\n", &root.0));
    }

    #[test]
    fn the_first_version_of_cgroups_counts_too() {
        let root = Root::new("first");
        let group = root.0.join("cpu/x");
        fs::create_dir_all(&group).unwrap();
        let lines = "5:memory:/x\n3:cpu,cpuacct:/x\n";
        fs::write(group.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        assert!(!limits(lines, &root.0));
        fs::write(group.join("cpu.cfs_quota_us"), "50000\n").unwrap();
        assert!(limits(lines, &root.0));
        assert!(!limits("", &root.0));
    }
}
