//! The CPU time of a process, by the scheduler's own clock.

use std::fs;
use std::time::Duration;

/// What all threads of this process have used so far.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let nanoseconds = |task: fs::DirEntry| {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        schedstat.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or_default()
    };
    Duration::from_nanos(tasks.map(|task| nanoseconds(task.unwrap())).sum())
}
