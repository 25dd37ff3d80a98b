//! What threads share a tree through. With the feature `shuttle` the same types let a test choose in
//! which order threads run (`sysroot/tests/schedules.rs`).

#![forbid(unsafe_code)]

#[cfg(not(feature = "shuttle"))]
pub(crate) use dashmap::{DashMap, Entry};
#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle_dashmap::{DashMap, Entry};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle_parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tells a story of several threads in many orders; a failure prints the order, for
/// `shuttle::replay`.
#[cfg(all(test, feature = "shuttle"))]
pub(crate) fn explore(story: impl Fn() + Clone + Send + Sync + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{Config, Runner};

    const ORDERS: usize = 2000;
    /// The fewest changes of thread that bring out most faults.
    const DEPTH: usize = 3;
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(ORDERS), config.clone()).run(story.clone());
    Runner::new(PctScheduler::new(DEPTH, ORDERS), config).run(story);
}
