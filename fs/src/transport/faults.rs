//! Errors as answers: every one becomes an errno, and those that are ours are logged once.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::error::{Errno, Error};
use crate::node::Ino;

/// A broken disk must not fill another one with its log.
const MOST_LOGGED: usize = 1000;

#[derive(Default)]
pub(super) struct Faults {
    logged: Mutex<HashSet<(&'static str, Ino)>>,
}

impl Faults {
    /// The number to answer with. The first fault of an operation on an inode is logged.
    pub(super) fn answer(&self, operation: &'static str, ino: Ino, error: &Error) -> Errno {
        if error.is_fault() && self.is_news(operation, ino) {
            log::error!("{operation} of inode {ino}: {error}");
        }
        error.errno()
    }

    fn is_news(&self, operation: &'static str, ino: Ino) -> bool {
        let mut logged = self.logged.lock();
        if logged.len() == MOST_LOGGED && !logged.contains(&(operation, ino)) {
            log::error!("more than {MOST_LOGGED} different faults: no more are logged");
            // One more than the limit says that this has been said.
            logged.insert((operation, ino));
            return false;
        }
        logged.len() < MOST_LOGGED && logged.insert((operation, ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_once_per_operation_and_inode() {
        let faults = Faults::default();
        assert!(faults.is_news("read", 2));
        assert!(!faults.is_news("read", 2));
        assert!(faults.is_news("read", 3));
        assert!(faults.is_news("getattr", 2));
    }

    #[test]
    fn the_log_of_faults_is_bounded() {
        let faults = Faults::default();
        let news = (0..5000).filter(|ino| faults.is_news("read", *ino)).count();
        assert_eq!(news, MOST_LOGGED);
        assert!(faults.logged.lock().len() <= MOST_LOGGED + 1);
    }

    #[test]
    fn faults_and_refusals_become_errnos() {
        let faults = Faults::default();
        let refused = Error::Os(Errno::NOTEMPTY);
        assert_eq!(faults.answer("rmdir", 2, &refused), Errno::NOTEMPTY);
        assert!(faults.logged.lock().is_empty());
        let broken = Error::malformed("a.tar", "cut short");
        assert_eq!(faults.answer("read", 2, &broken), Errno::IO);
    }
}
