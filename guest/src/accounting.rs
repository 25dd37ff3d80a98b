//! The kernel's process accounting: bytes in, what each program cost out.

#![forbid(unsafe_code)]

use crate::protocol::ProgramUse;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Bytes of a record: `struct acct_v3` of Linux's `include/uapi/linux/acct.h`.
pub const RECORD: usize = 64;

/// Where its members begin.
const VERSION: usize = 1;
const USER_TIME: usize = 32;
const SYSTEM_TIME: usize = 34;
const COMMAND: usize = 48;

/// Without the bit that tells the byte order, which is the machine's own.
const VERSION_MASK: u8 = 0x7f;
const VERSION_3: u8 = 3;

/// Programs that are told by name; what others took is told together, under no name.
const MOST_PROGRAMS: usize = 64;

/// Adds up records of processes that have ended, dearest programs first. What is cut short or of another
/// version is passed over.
pub fn add_up(records: &[u8]) -> Vec<ProgramUse> {
    let mut programs: BTreeMap<&[u8], ProgramUse> = BTreeMap::new();
    for record in records.chunks_exact(RECORD) {
        let Some((name, hundredths)) = read(record) else { continue };
        let program = programs
            .entry(name)
            .or_insert_with(|| ProgramUse { name: name.to_vec(), ..ProgramUse::default() });
        program.processes = program.processes.saturating_add(1);
        program.hundredths = program.hundredths.saturating_add(hundredths);
    }
    let mut programs: Vec<ProgramUse> = programs.into_values().collect();
    programs.sort_by_key(|program| Reverse((program.hundredths, program.processes)));
    let others = programs.split_off(programs.len().min(MOST_PROGRAMS));
    if !others.is_empty() {
        programs.push(others.iter().fold(ProgramUse::default(), |sum, one| ProgramUse {
            processes: sum.processes.saturating_add(one.processes),
            hundredths: sum.hundredths.saturating_add(one.hundredths),
            ..sum
        }));
    }
    programs
}

/// The program's name, and hundredths of a second of the processor.
fn read(record: &[u8]) -> Option<(&[u8], u64)> {
    if record.get(VERSION)? & VERSION_MASK != VERSION_3 {
        return None;
    }
    let time = |place: usize| {
        Some(expand(u16::from_ne_bytes([*record.get(place)?, *record.get(place + 1)?])))
    };
    let name = record.get(COMMAND..RECORD)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some((name, time(USER_TIME)?.saturating_add(time(SYSTEM_TIME)?)))
}

/// `comp_t`: three bits of an exponent to the base of eight, thirteen of a fraction.
fn expand(number: u16) -> u64 {
    u64::from(number & 0x1fff) << (3 * (number >> 13))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: u8, name: &str, user: u16, system: u16) -> Vec<u8> {
        let mut record = vec![0xaa; RECORD];
        record[VERSION] = version;
        record[USER_TIME..SYSTEM_TIME].copy_from_slice(&user.to_ne_bytes());
        record[SYSTEM_TIME..SYSTEM_TIME + 2].copy_from_slice(&system.to_ne_bytes());
        record[COMMAND..].fill(0);
        record[COMMAND..COMMAND + name.len()].copy_from_slice(name.as_bytes());
        record
    }

    fn programs(records: &[Vec<u8>]) -> Vec<(String, u32, u64)> {
        let told = add_up(&records.concat());
        told.into_iter()
            .map(|one| (String::from_utf8(one.name).unwrap(), one.processes, one.hundredths))
            .collect()
    }

    #[test]
    fn processes_of_one_program_are_added_up_and_the_dearest_comes_first() {
        let mut records = vec![
            record(3, "sh", 1, 0),
            record(0x83, "cc1", 30, 10),
            record(3, "sh", 0, 0),
            record(2, "older", 9, 9),
            // 5 * 8 hundredths.
            record(3, "a-name-of-16-let", (1 << 13) | 5, 0),
        ];
        records.push(record(3, "cut", 1, 1)[..RECORD - 1].to_vec());
        let expected = [("a-name-of-16-let", 1, 40), ("cc1", 1, 40), ("sh", 2, 1)]
            .map(|(name, count, time)| (name.to_owned(), count, time));
        assert_eq!(programs(&records), expected);
    }

    #[test]
    fn what_many_programs_took_is_told_together() {
        let records: Vec<_> =
            (0..100).map(|number| record(3, &format!("p{number:02}"), 200 - number, 0)).collect();
        let told = programs(&records);
        assert_eq!(told.len(), MOST_PROGRAMS + 1);
        assert_eq!(told[0], ("p00".to_owned(), 1, 200));
        assert_eq!(told[MOST_PROGRAMS], (String::new(), 36, (64..100).map(|n| 200 - n).sum()));
        assert!(programs(&[]).is_empty());
    }
}
