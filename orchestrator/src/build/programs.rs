//! What programs took of a guest's processor: compilers, linkers, and all the rest.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use outcrop_guest::protocol::ProgramUse;
use serde::Serialize;

use crate::words::counted;

/// Names that are kept apart; a guest may make up any number.
const MOST_NAMES: usize = 256;

/// By the name that the kernel gives a process: the first 15 bytes of its program's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Programs(BTreeMap<String, Use>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Use {
    pub processes: u64,
    pub cpu_seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Compiler,
    Linker,
    Other,
}

/// GCC's drivers, passes and assembler, with the client that stands in for them.
const COMPILERS: [&str; 10] =
    [ASSEMBLER, "c++", "cc", "cc1", "cc1plus", "cpp", "distcc", "g++", "gcc", "lto1"];

/// What a driver starts once for each object.
const ASSEMBLER: &str = "as";

/// What a driver starts to link.
const LINKERS: [&str; 6] = ["collect2", "ld", "ld.bfd", "ld.gold", "ld.lld", "lto-wrapper"];

impl Kind {
    fn of(program: &str) -> Kind {
        // `aarch64-linux-gnu-gcc-12` is cut in the middle of its triplet.
        let is_driver = program.len() == 15 && program.contains("-linux-");
        let plain = program.split(['-', '.']).next().unwrap_or(program);
        match program {
            _ if LINKERS.contains(&program) => Kind::Linker,
            _ if is_driver || COMPILERS.contains(&plain) => Kind::Compiler,
            _ => Kind::Other,
        }
    }
}

impl Programs {
    pub fn add(&mut self, programs: &[ProgramUse]) {
        for program in programs {
            let cpu_seconds = program.hundredths as f64 / 100.0;
            let name = String::from_utf8_lossy(&program.name);
            self.count(&name, Use { processes: program.processes.into(), cpu_seconds });
        }
    }

    pub fn merge(&mut self, other: &Programs) {
        for (name, more) in &other.0 {
            self.count(name, *more);
        }
    }

    fn count(&mut self, name: &str, more: Use) {
        let is_one_too_many = self.0.len() >= MOST_NAMES && !self.0.contains_key(name);
        let name = if is_one_too_many { "" } else { name };
        let sum = self.0.entry(name.to_owned()).or_default();
        sum.processes = sum.processes.saturating_add(more.processes);
        sum.cpu_seconds += more.cpu_seconds;
    }

    /// For a person; `None` where nothing is known.
    pub fn describe(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let of = |kind: Kind| -> f64 {
            let named = self.0.iter().filter(|(name, _)| Kind::of(name) == kind);
            named.fold(0.0, |sum, (_, one)| sum + one.cpu_seconds)
        };
        let processes = self.0.values().map(|one| one.processes).sum();
        let assembled = match self.assembled() {
            0 => String::new(),
            count => format!(", {} by the guest's assembler", counted(count, "object", "objects")),
        };
        Some(format!(
            "compilers {:.1} s, linkers {:.1} s, others {:.1} s, {}{assembled}",
            of(Kind::Compiler),
            of(Kind::Linker),
            of(Kind::Other),
            counted(processes, "process", "processes")
        ))
    }

    /// Objects that the guest made by itself, whether it sent the job or not: a preprocessor and a
    /// client start no assembler.
    fn assembled(&self) -> u64 {
        self.0.get(ASSEMBLER).map_or(0, |one| one.processes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(uses: &[(&str, u32, u64)]) -> Programs {
        let mut programs = Programs::default();
        let uses = uses.iter().map(|(name, processes, hundredths)| ProgramUse {
            name: name.as_bytes().to_vec(),
            processes: *processes,
            hundredths: *hundredths,
        });
        programs.add(&uses.collect::<Vec<_>>());
        programs
    }

    #[test]
    fn programs_are_told_by_what_they_do() {
        assert_eq!(Programs::default().describe(), None);
        let compilers =
            [("cc1", 2, 100), ("gcc-12", 1, 20), ("aarch64-linux-g", 1, 30), ("as", 1, 50)];
        let mut told = programs(&compilers);
        told.merge(&programs(&[("ld", 1, 110), ("collect2", 1, 0), ("ld.gold", 1, 10)]));
        told.merge(&programs(&[
            ("ldconfig", 1, 200),
            ("sh", 90, 100),
            ("asciidoc", 1, 0),
            ("cc1", 1, 10),
        ]));
        let said = "compilers 2.1 s, linkers 1.2 s, others 3.0 s, 101 processes, \
                    1 object by the guest's assembler";
        assert_eq!(told.describe().unwrap(), said);
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["cc1"], serde_json::json!({ "processes": 3, "cpu_seconds": 1.1 }));
    }

    #[test]
    fn made_up_names_are_bounded() {
        let mut told = Programs::default();
        for number in 0..1000 {
            told.merge(&programs(&[(&format!("p{number}"), 1, 100)]));
        }
        assert_eq!(told.0.len(), MOST_NAMES + 1);
        assert_eq!(
            told.describe().unwrap(),
            "compilers 0.0 s, linkers 0.0 s, others 1000.0 s, 1000 processes"
        );
    }
}
