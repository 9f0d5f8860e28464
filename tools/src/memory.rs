//! Where tests keep the data of their servers: in memory, where there is plenty of it. A kill loses nothing there either, and a
//! file system that forgets thousands of small files again and again takes a tenth of a run's time.

use std::path::Path;
use std::process::Command;

/// A file system in memory, as every Linux has it; in containers it is often tiny, or not for programs.
const PLACE: &str = "/dev/shm";

/// What the servers of one test may hold. They were seen to hold a fourth of it.
const EACH: u64 = 2 << 30;

/// The place, if so many tests at once leave as much memory again to the machine.
pub(crate) fn place(tests: usize) -> Option<&'static Path> {
    let wanted = EACH.saturating_mul(tests.try_into().ok()?);
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = Command::new("df").args(["-B1", "--output=avail", PLACE]).output().ok()?;
    let room = number(String::from_utf8_lossy(&free.stdout).lines().last()?)?;
    let enough = is_usable(&mounts) && room >= wanted && available(&memory)? >= wanted;
    enough.then_some(Path::new(PLACE))
}

/// Whether it is in memory, takes files, and lets programs be started there.
fn is_usable(mounts: &str) -> bool {
    // What is mounted over another file system hides it.
    let mut mounted = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let Some(fields) = mounted.find(|fields| fields.get(1) == Some(&PLACE)) else { return false };
    let options: Vec<&str> = fields.get(3).map(|options| options.split(',').collect()).unwrap_or_default();
    fields.get(2) == Some(&"tmpfs") && options.contains(&"rw") && !options.contains(&"noexec")
}

/// The bytes that programs may still take.
fn available(memory: &str) -> Option<u64> {
    let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    number(kilobytes.trim().strip_suffix(" kB")?).map(|kilobytes| kilobytes * 1024)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_for_programs_or_not_in_memory_is_not_used() {
        for (mount, usable) in [
            ("tmpfs /dev/shm tmpfs rw,relatime,size=24684092k 0 0", true),
            ("shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k 0 0", false),
            ("tmpfs /dev/shm tmpfs ro,relatime 0 0", false),
            ("/dev/vda /dev/shm ext4 rw,relatime 0 0", false),
            ("tmpfs /dev/shm/other tmpfs rw 0 0", false),
        ] {
            let mounts = format!("/dev/vda / ext4 rw,relatime 0 0\n{mount}\n");
            assert_eq!(is_usable(&mounts), usable, "{mount}");
        }
    }

    #[test]
    fn memory_that_programs_may_take_counts_and_not_what_is_free() {
        let told = "MemTotal:       24684092 kB\nMemFree:         3907000 kB\nMemAvailable:   19690000 kB\n";
        assert_eq!(available(told), Some(19_690_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn more_tests_than_there_is_memory_for_use_the_disk() {
        assert_eq!(place(1 << 20), None);
    }
}
