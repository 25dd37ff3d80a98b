//! What happens during a build, for people and for machines.

use std::time::Duration;

use super::report::StepReport;

/// One thing that happened. The names are the `event` field of the JSON lines.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The plan is known.
    Planned {
        components: usize,
        cached: usize,
        to_build: usize,
        /// Guests at once.
        guests: usize,
        /// What the build is expected to take.
        seconds: f64,
        /// What it takes with any number of guests.
        critical_path: f64,
        /// Components that no artifact tells a duration of.
        unknown: usize,
    },
    /// Something began or ended.
    Progress {
        done: usize,
        failed: usize,
        to_build: usize,
        /// Guests at work, and builds of other processes that are waited for.
        running: usize,
        waiting: usize,
        /// Expected from now on.
        seconds_left: f64,
        critical_path: f64,
    },
    /// Something that is said once, such as the accelerator in use.
    Notice {
        text: String,
    },
    /// A source is being fetched or imported.
    Fetching {
        component: String,
        source: String,
    },
    /// A source cannot be had, and what does without it is built all the same.
    SourceMissing {
        component: String,
        reason: String,
    },
    Started {
        component: String,
        key: String,
    },
    /// The guest runs: the first command can start. Seconds since `Started`.
    GuestReady {
        component: String,
        seconds: f64,
    },
    /// A step of the build begins, such as `configure`.
    Step {
        component: String,
        step: String,
    },
    /// A step has ended well.
    StepDone {
        component: String,
        #[serde(flatten)]
        report: StepReport,
    },
    /// A line of output of a build, for live display only; the log has everything.
    Output {
        component: String,
        line: String,
    },
    Finished {
        component: String,
        key: String,
        seconds: f64,
        bytes: u64,
    },
    Failed {
        component: String,
        key: String,
        seconds: f64,
        reason: String,
        log: String,
    },
}

/// Where events go. Implementations must not block for long.
pub trait Observer: Send + Sync {
    fn observe(&self, event: Event);
}

/// Durations as people read them: `4.2 s`, `3 min 07 s`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Durations that are guessed: `40 s`, `12 min`, `2 h 05 min`.
pub fn rough_duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match whole {
        0..=89 => format!("{whole} s"),
        90..=5399 => format!("{} min", whole.saturating_add(30) / 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_read_them() {
        let exact = |seconds| human_duration(Duration::from_secs_f64(seconds));
        assert_eq!([exact(4.25), exact(59.9), exact(187.0)], ["4.2 s", "59.9 s", "3 min 07 s"]);
        let rough = [0.4, 89.0, 90.0, 719.0, 5399.0, 5400.0, 7500.0, f64::NAN].map(rough_duration);
        let expected =
            ["0 s", "89 s", "2 min", "12 min", "90 min", "1 h 30 min", "2 h 05 min", "0 s"];
        assert_eq!(rough, expected);
    }
}
