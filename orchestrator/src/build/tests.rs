mod gather;
mod queue;
