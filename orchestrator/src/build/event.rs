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
