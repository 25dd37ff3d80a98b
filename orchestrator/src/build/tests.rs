mod gather;
mod queue;
mod schedule;
