//! Where the time of a whole build went: the steps of all its chunks, added up.

use parking_lot::Mutex;

use super::event::{Event, Observer};
use super::report::StepReport;
use crate::compile::job_log::JobSummary;

/// Adds up what the steps tell when they end.
#[derive(Default)]
pub struct Totals {
    /// By step, in the order in which they first ended.
    steps: Mutex<Vec<StepReport>>,
}

impl Observer for Totals {
    fn observe(&self, event: Event) {
        let Event::StepDone { report, .. } = event else { return };
        let mut steps = self.steps.lock();
        match steps.iter_mut().find(|sum| sum.step == report.step) {
            Some(sum) => {
                sum.seconds += report.seconds;
                sum.guest_cpu_seconds += report.guest_cpu_seconds;
                sum.guest_programs.merge(&report.guest_programs);
                sum.compiled.add(&report.compiled);
            }
            None => steps.push(report),
        }
    }
}

impl Totals {
    pub fn steps(&self) -> Vec<StepReport> {
        self.steps.lock().clone()
    }

    /// For a person: each step's time, and the compiling of all of them. Empty where no step ran.
    pub fn describe(&self) -> Vec<String> {
        let steps = self.steps.lock();
        let mut compiled = JobSummary::default();
        steps.iter().for_each(|step| compiled.add(&step.compiled));
        let mut lines: Vec<String> =
            steps.iter().map(|step| StepReport::describe(&without_jobs(step))).collect();
        if lines.len() > 1 {
            lines.insert(0, "of all guests together:".to_owned());
        }
        lines.extend(compiled.describe());
        lines
    }
}

fn without_jobs(step: &StepReport) -> StepReport {
    StepReport { compiled: JobSummary::default(), ..step.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::programs::Programs;

    #[test]
    fn steps_of_several_chunks_are_added_up() {
        let totals = Totals::default();
        assert!(totals.describe().is_empty());
        let done = |step: &str, seconds: f64, jobs: &str| {
            let report = StepReport {
                step: step.into(),
                seconds,
                guest_cpu_seconds: seconds / 2.0,
                guest_programs: Programs::default(),
                compiled: JobSummary::of(jobs),
            };
            totals.observe(Event::StepDone { component: "any".into(), report });
        };
        let host = "{\"seconds\":0.5,\"by\":\"host\"}\n";
        let server = "{\"seconds\":0.5,\"by\":\"h:1\"}\n";
        done("configure", 2.0, "");
        done("build", 10.0, &host.repeat(3));
        done("build", 20.0, &format!("{server}{{\"seconds\":0.0,\"refused\":\"-S\"}}\n"));
        let expected = [
            "of all guests together:",
            "configure took 2.0 s (1.0 s of a processor)",
            "build took 30.0 s (15.0 s of a processor)",
            "4 of 5 jobs compiled by the host (1 by h:1) in 2.0 s; 1 by the guest: -S",
        ];
        assert_eq!(totals.describe(), expected);
        let steps = totals.steps();
        assert_eq!((steps[1].seconds, steps[1].compiled.sent), (30.0, 5));
    }
}
