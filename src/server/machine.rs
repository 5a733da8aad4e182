//! What the machine has: memory that a server may use, which is the machine's, or the container's if
//! that is less; and a clock.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// What this machine's clock says.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Bytes that this process may use; `None` where nobody says.
pub fn memory() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    [machine, group()].into_iter().flatten().min()
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// The smallest bound of the control groups that this process is in. A container sees its own group
/// as the root; a service of the machine is in a group within groups, each of which may have one.
fn group() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let bound = |path: &Path| fs::read_to_string(path).ok().and_then(|text| limit(&text));
    let mut bounds: Vec<usize> = Vec::new();
    for (root, file, path) in places(&groups) {
        let root = Path::new(root);
        bounds.extend(bound(&root.join(file)));
        let mut inner = root.to_path_buf();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            inner.push(part);
            bounds.extend(bound(&inner.join(file)));
        }
    }
    bounds.into_iter().min()
}

/// Where bounds may stand, from `/proc/self/cgroup`: lines of `number:controllers:path`, of which
/// version 2 has one with nothing between the colons.
fn places(groups: &str) -> Vec<(&'static str, &'static str, &str)> {
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            if controllers.is_empty() {
                return Some(("/sys/fs/cgroup", "memory.max", path));
            }
            let memory = controllers.split(',').any(|controller| controller == "memory");
            memory.then_some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
        })
        .collect()
}

/// A bound in bytes; version 2 says `max` where there is none, version 1 an absurd number.
fn limit(text: &str) -> Option<usize> {
    const ABSURD: usize = 1 << 60;
    text.trim().parse().ok().filter(|limit| *limit > 0 && *limit < ABSURD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree:  1 kB\n"), Some(16 << 20));
        assert_eq!(total("MemFree:  1 kB\n"), None);
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(
            places("0::/system.slice/relata.service\n"),
            [("/sys/fs/cgroup", "memory.max", "/system.slice/relata.service")]
        );
        assert_eq!(
            places("5:cpu,memory:/docker/ab\n2:devices:/\nnonsense\n"),
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "/docker/ab")]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_some() {
        assert!(memory().is_some_and(|bytes| bytes > 64 << 20));
    }
}
