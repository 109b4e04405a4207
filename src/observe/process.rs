//! What the system says of this process: the numbers that every exporter has under the same names. Read at each scrape,
//! and absent where there is no `/proc`.

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What could be read; what could not is left out.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    };
    let stat = read("/proc/self/stat");
    let stat = stat.as_deref().and_then(fields);
    let limits = read("/proc/self/limits");
    gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970",
        stat.as_deref().and_then(|fields| started(fields, &read("/proc/stat")?)),
    );
    gauge(
        "process_resident_memory_bytes",
        "Memory that the process holds",
        read("/proc/self/status").as_deref().and_then(resident),
    );
    gauge("process_open_fds", "Descriptors that are open", open());
    gauge("process_max_fds", "Descriptors that may be open", limits.as_deref().and_then(most));
    if let Some(spent) = stat.as_deref().and_then(spent) {
        registry.register("process_cpu_seconds", "Time that the processors spent on it", ConstCounter::new(spent));
    }
    registry
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Linux tells times in ticks.
fn in_seconds(ticks: f64) -> f64 {
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// The fields of proc_pid_stat(5) from the third on: the second is the program's name, which may hold anything.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().collect())
}

/// Field 22 is the start in ticks since boot; `btime` in /proc/stat is the boot.
fn started(fields: &[&str], system: &str) -> Option<f64> {
    let ticks: f64 = fields.get(22 - 3)?.parse().ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + in_seconds(ticks))
}

/// Fields 14 and 15: in user space and in the kernel.
fn spent(fields: &[&str]) -> Option<f64> {
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(in_seconds(ticks(14)? + ticks(15)?))
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The soft limit.
fn most(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open() -> Option<f64> {
    // Not the one that the folder itself is read through.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1000 0 0 0 1234 66 0 0 20 0 3 0 5000 10 20 30";
        let fields = fields(stat).unwrap();
        assert_eq!(spent(&fields), Some(13.0));
        assert_eq!(started(&fields, "cpu 1 2\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_050.0));
        assert_eq!(resident("Name:\tbearerd\nVmRSS:\t    6144 kB\n"), Some(6.0 * 1_048_576.0));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(most(limits), Some(1024.0));
        assert_eq!(most("Max open files  unlimited unlimited files\n"), None, "there is none to come near to");
        assert_eq!((most(""), resident(""), started(&fields, "")), (None, None, None));
        assert!(super::fields("nothing").is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_alive() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry()).unwrap();
        let value = |name: &str| -> f64 {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.trim().parse().unwrap()
        };
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds ");
        // Since boot is told in whole seconds.
        assert!((-2.0..3_600.0).contains(&age), "{age} s old");
        assert!(value("process_resident_memory_bytes ") > 1e6);
        let (open, most) = (value("process_open_fds "), value("process_max_fds "));
        assert!(open >= 3.0 && open < most, "{open} of {most}");
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
}
