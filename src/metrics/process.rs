//! The process itself, under the names that every Prometheus knows. Read when it is asked for,
//! from `/proc`; what a system does not offer is left out.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

pub(super) fn register(registry: &mut Registry) {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    registry.register_collector(Box::new(Process { started }));
}

#[derive(Debug)]
struct Process {
    /// In seconds since 1970.
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut gauge = |name: &str, unit: Option<Unit>, help: &str, value: Option<f64>| match value {
            Some(value) => ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                unit.as_ref(),
                MetricType::Gauge,
            )?),
            None => Ok(()),
        };
        let memory = |field| number(&status, field).map(|kibibytes| kibibytes * 1_024.0);
        gauge(
            "process_start_time",
            Some(Unit::Seconds),
            "When the server was started, in seconds since 1970.",
            Some(self.started),
        )?;
        gauge(
            "process_resident_memory",
            Some(Unit::Bytes),
            "Memory of the process that is in RAM.",
            memory("VmRSS:"),
        )?;
        gauge(
            "process_virtual_memory",
            Some(Unit::Bytes),
            "Address space of the process.",
            memory("VmSize:"),
        )?;
        gauge("process_open_fds", None, "Files, sockets and pipes open.", open_files())?;
        gauge("process_max_fds", None, "How many may be open.", max_files())?;
        gauge("process_threads", None, "Threads of the process.", number(&status, "Threads:"))?;
        ConstCounter::new(processor_seconds()).encode(encoder.encode_descriptor(
            "process_cpu",
            "Processor time used by the process.",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?)
    }
}

/// The number of a line of `/proc/self/status`.
fn number(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn max_files() -> Option<f64> {
    getrlimit(Resource::Nofile).current.map(|limit| limit as f64)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn processor_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    #[test]
    fn the_process_knows_itself() {
        let text = Metrics::new().encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is in {text}")).parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
