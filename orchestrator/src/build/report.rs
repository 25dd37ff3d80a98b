//! Where the time of a chunk's build went.

use serde::Serialize;

use super::event::human_duration;
use super::programs::Programs;
use crate::compile::job_log::JobSummary;

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    pub step: String,
    /// Wall-clock seconds of its commands.
    pub seconds: f64,
    /// Seconds of a processor that the guest's QEMU took.
    pub guest_cpu_seconds: f64,
    /// What of that the guest's programs took, as its kernel counted it.
    pub guest_programs: Programs,
    /// What the guest had the host compile meanwhile.
    pub compiled: JobSummary,
}

impl StepReport {
    /// `build 48.2 s: 83 of 84 jobs compiled by the host in 21.0 s; 1 by the guest: …`
    pub fn describe(&self) -> String {
        let took = human_duration(std::time::Duration::from_secs_f64(self.seconds.max(0.0)));
        let programs = self.guest_programs.describe();
        let programs = programs.map(|programs| format!(": {programs}")).unwrap_or_default();
        let took = format!(
            "{} took {took} ({:.1} s of a processor{programs})",
            self.step, self.guest_cpu_seconds
        );
        match self.compiled.describe() {
            Some(jobs) => format!("{took}: {jobs}"),
            None => took,
        }
    }
}

#[cfg(test)]
mod tests {
    use outcrop_guest::protocol::ProgramUse;

    use super::*;

    #[test]
    fn a_step_tells_its_time_and_its_jobs() {
        let mut report = StepReport {
            step: "build".into(),
            seconds: 61.0,
            guest_cpu_seconds: 58.04,
            guest_programs: Programs::default(),
            compiled: JobSummary::default(),
        };
        assert_eq!(report.describe(), "build took 1 min 01 s (58.0 s of a processor)");
        report.compiled = JobSummary::of("{\"seconds\":0.5,\"by\":\"host\"}\n");
        let said = "build took 1 min 01 s (58.0 s of a processor): 1 of 1 job compiled by the host in 0.5 s";
        assert_eq!(report.describe(), said);
        let linker = ProgramUse { name: b"ld".to_vec(), processes: 1, hundredths: 120 };
        report.guest_programs.add(&[linker]);
        let programs = "compilers 0.0 s, linkers 1.2 s, others 0.0 s, 1 process";
        let processor = "58.0 s of a processor";
        assert_eq!(report.describe(), said.replace(processor, &format!("{processor}: {programs}")));
    }
}
