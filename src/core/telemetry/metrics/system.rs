//! The standard `process_*` metrics, read from `/proc` at each scrape, on the supervisor's thread.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::families::describe;

/// The process, as the system sees it.
#[derive(Debug)]
pub(super) struct System;

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// Seconds after the system's start.
    started: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Collector for System {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        if let Some(stat) = stat.and_then(|text| Stat::parse(&text, clock_ticks_per_second(), page_size() as u64)) {
            let help = "Processor time that the process has used";
            let cpu = describe(&mut encoder, "process_cpu_seconds", help, MetricType::Counter)?;
            ConstCounter::new(stat.cpu_seconds).encode(cpu)?;
            let help = "When the process started, since the Unix epoch";
            gauge(&mut encoder, "process_start_time_seconds", help, unix_time_of(stat.started))?;
            let help = "Memory that the process has in RAM";
            gauge(&mut encoder, "process_resident_memory_bytes", help, stat.resident_bytes as f64)?;
            let help = "Address space of the process";
            gauge(&mut encoder, "process_virtual_memory_bytes", help, stat.virtual_bytes as f64)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory itself is one of them.
            let open = open.count().saturating_sub(1) as f64;
            gauge(&mut encoder, "process_open_fds", "File descriptors that are open", open)?;
        }
        let limit = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |limit| limit as f64);
        gauge(&mut encoder, "process_max_fds", "File descriptors that may be open", limit)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &'static str, help: &'static str, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(describe(encoder, name, help, MetricType::Gauge)?)
}

/// The time at which the system had run for so many seconds.
fn unix_time_of(seconds_after_boot: f64) -> f64 {
    let since_boot = clock_gettime(ClockId::Boottime);
    let since_boot = since_boot.tv_sec as f64 + since_boot.tv_nsec as f64 / 1e9;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    now - since_boot + seconds_after_boot
}

impl Stat {
    /// proc(5): the name of the program is in parentheses and may have any character in it.
    fn parse(text: &str, ticks_per_second: u64, page: u64) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The first field behind the name is the third one of the manual.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second.max(1) as f64;
        Some(Self {
            cpu_seconds: seconds(number(14)? + number(15)?),
            started: seconds(number(22)?),
            virtual_bytes: number(23)?,
            resident_bytes: number(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let text =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 12345 1048576 300 18446744073709551615";
        let expected = Stat { cpu_seconds: 3.0, started: 123.45, virtual_bytes: 1_048_576, resident_bytes: 1_228_800 };
        assert_eq!(Stat::parse(text, 100, 4096), Some(expected));
        assert_eq!(Stat::parse("42 (a", 100, 4096), None);
        assert_eq!(Stat::parse("42 (a) S 1", 100, 4096), None);
    }

    #[test]
    fn the_start_is_in_the_past_and_not_long_ago() {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let stat = Stat::parse(&text, clock_ticks_per_second(), page_size() as u64).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - unix_time_of(stat.started);
        assert!((-1.0..86_400.0).contains(&age), "{age}");
        assert!(stat.resident_bytes > 1 << 20 && stat.virtual_bytes > stat.resident_bytes, "{stat:?}");
    }
}
