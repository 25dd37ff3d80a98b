//! What processes have used of the processors.

use std::io;
use std::mem::MaybeUninit;

/// Seconds of a processor that another process has used by itself, without its children; by
/// `/proc/PID/stat` (proc_pid_stat(5), fields utime and stime), in steps of a clock tick.
pub fn used_by(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks(&stat).map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn ticks(stat: &str) -> Option<u64> {
    // The second field is a name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// Seconds of a processor that this process and its children that have ended have used.
#[allow(unsafe_code)]
pub fn used_by_us() -> io::Result<f64> {
    let mut total = 0.0;
    for whose in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN] {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel writes one rusage; an all-zero one is valid, too.
        let usage = unsafe {
            if libc::getrusage(whose, usage.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            usage.assume_init()
        };
        for time in [usage.ru_utime, usage.ru_stime] {
            total += time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_counts_uses_time_and_one_that_sleeps_does_not() {
        let before = used_by_us().unwrap();
        let script = "n=0; while [ $n -lt 300000 ]; do n=$((n + 1)); done";
        assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
        assert!(used_by_us().unwrap() > before + 0.01);
        let own = used_by(std::process::id()).unwrap();
        assert!(own > 0.0 && own <= used_by_us().unwrap() + 0.1, "{own}");
        let mut sleeper = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let slept = used_by(sleeper.id()).unwrap();
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(slept < 0.5, "{slept}");
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 12 30 5 5 20 0 1 0 99 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }
}
