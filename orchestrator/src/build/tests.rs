mod gather;
mod plan;
mod queue;
mod schedule;
