//! How many guests run at once: as many as there are processors, and as fit into the memory.

use super::error::{CommandError, CommandResult};
use crate::build::workshop::GUEST_MEMORY;
use crate::config::Config;
use crate::words::counted;

/// Guests at once, and what the user is to be told of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    pub guests: usize,
    pub notice: Option<String>,
}

impl Room {
    /// The command line wins over the configuration. Where neither says a number of guests, one runs
    /// for each processor: a guest has one, and its compiles run on the host besides.
    ///
    /// # Errors
    /// A budget that does not hold a single guest.
    pub fn new(config: &Config, guests: Option<usize>, budget: Option<u64>) -> CommandResult<Room> {
        let each = u64::from(config.memory.unwrap_or(GUEST_MEMORY));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let asked = guests.or(config.guests);
        let room = match budget.or(config.memory_budget) {
            Some(budget) => within(asked.unwrap_or(processors), each, budget, "the memory budget"),
            // Who names a number has thought of the memory.
            None => match (asked, available_memory()) {
                (Some(asked), _) => return Ok(Room { guests: asked, notice: None }),
                (None, None) => return Ok(Room { guests: processors, notice: None }),
                (None, Some(free)) => {
                    // One is tried in any case: a guest hardly ever takes all that it may.
                    within(processors, each, free.max(each), "the host's free memory")
                }
            },
        };
        room.ok_or_else(|| {
            CommandError::input(format!("the memory budget does not hold one guest of {each} MiB"))
                .hint("raise --memory-budget, or lower `memory` in outcrop.toml")
        })
    }
}

/// As many of `wanted` guests as fit, if at least one does.
fn within(wanted: usize, each: u64, budget: u64, limit: &str) -> Option<Room> {
    let fit = usize::try_from(budget / each.max(1)).unwrap_or(usize::MAX);
    let guests = wanted.min(fit);
    let notice = (guests < wanted).then(|| {
        let guests = counted(guests as u64, "guest", "guests");
        format!(
            "{guests} at once instead of {wanted}: {limit} is {budget} MiB, and each has {each}"
        )
    });
    (guests > 0).then_some(Room { guests, notice })
}

/// MiB that programs can get without swapping (`MemAvailable` of proc(5)).
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_fit_into_the_budget() {
        let guests = |wanted, budget| within(wanted, 1024, budget, "it").map(|room| room.guests);
        assert_eq!(guests(4, 4096), Some(4));
        assert_eq!(guests(4, 4095), Some(3));
        assert_eq!(guests(2, 1 << 40), Some(2));
        assert_eq!(guests(4, 1023), None);
        assert_eq!(within(2, 1024, 2048, "it").unwrap().notice, None);
        let told = within(4, 1024, 2100, "the memory budget").unwrap().notice.unwrap();
        assert_eq!(
            told,
            "2 guests at once instead of 4: the memory budget is 2100 MiB, and each has 1024"
        );
    }

    #[test]
    fn the_command_line_wins_and_a_budget_that_is_too_small_is_an_error() {
        let config: Config =
            toml::from_str("guests = 3\nmemory = 512\nmemory-budget = 1024\n").unwrap();
        let guests = |guests, budget| Room::new(&config, guests, budget).map(|room| room.guests);
        assert_eq!(guests(None, None).unwrap(), 2);
        assert_eq!(guests(None, Some(4096)).unwrap(), 3);
        assert_eq!(guests(Some(5), Some(4096)).unwrap(), 5);
        let error = guests(None, Some(500)).unwrap_err();
        assert!(error.message.contains("does not hold one guest of 512 MiB"), "{}", error.message);
        let plain = Config::default();
        assert_eq!(Room::new(&plain, Some(7), None).unwrap().guests, 7);
        assert!(available_memory().is_some_and(|free| free > 0));
        assert!(Room::new(&plain, None, None).unwrap().guests >= 1);
    }
}
