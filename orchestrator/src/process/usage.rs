//! What processes have used of the processors.

use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Seconds of a processor that another process has used by itself, without its children; by
/// `/proc/PID/stat` (proc_pid_stat(5), fields utime and stime), in steps of a clock tick.
pub fn used_by(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks(&stat).map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// How long a process was ready to run and had no processor, as far as looking at it now and then tells.
pub struct Wait {
    process: u32,
    looked: Instant,
    used: f64,
    waited: Duration,
}

impl Wait {
    /// Begins with this moment.
    pub fn of(process: u32) -> Wait {
        let used = used_by(process).unwrap_or_default();
        Wait { process, looked: Instant::now(), used, waited: Duration::ZERO }
    }

    /// Looks, and gives the sum so far. A process that is ready now counts as having been so since the last
    /// look; one that is gone or asleep has not waited.
    pub fn look(&mut self) -> Duration {
        let (now, used) = (Instant::now(), used_by(self.process).unwrap_or(self.used));
        let ran = Duration::try_from_secs_f64(used - self.used).unwrap_or_default();
        if is_ready(self.process) {
            let passed = now.saturating_duration_since(self.looked);
            self.waited = self.waited.saturating_add(passed.saturating_sub(ran));
        }
        (self.looked, self.used) = (now, used);
        self.waited
    }
}

/// Whether one of its threads runs or could.
fn is_ready(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    threads.is_ok_and(|mut threads| {
        threads.any(|thread| {
            let stat =
                thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat")));
            stat.is_ok_and(|stat| {
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
            })
        })
    })
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
    fn rivals_for_a_processor_wait_and_who_sleeps_does_not() {
        let spawn = |script: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]).spawn().unwrap()
        };
        let count = std::thread::available_parallelism().unwrap().get() + 1;
        let mut children: Vec<_> = (0..count).map(|_| spawn("while :; do :; done")).collect();
        let mut rivals: Vec<Wait> = children.iter().map(|child| Wait::of(child.id())).collect();
        let sleeper = spawn("exec sleep 100");
        // Until it sleeps it may wait, too.
        while is_ready(sleeper.id()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut asleep = Wait::of(sleeper.id());
        let started = Instant::now();
        let mut longest = Duration::ZERO;
        while longest < Duration::from_millis(100) && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
            longest = rivals.iter_mut().map(Wait::look).max().unwrap();
        }
        let slept = asleep.look();
        children.push(sleeper);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(longest >= Duration::from_millis(100), "{longest:?}");
        assert_eq!(slept, Duration::ZERO);
        let before = rivals[0].look();
        assert_eq!(rivals[0].look(), before, "it is gone");
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 12 30 5 5 20 0 1 0 99 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }
}
