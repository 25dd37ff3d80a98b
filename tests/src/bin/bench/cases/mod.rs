//! The cases. Each can be run alone.

use crate::bench::Bench;
use crate::measure::Result;
use crate::row::Row;

mod build;
mod capture;
mod compile;
mod guest_load;
mod guest_ready;
mod index;
mod many;
mod memory;
mod minimal;
mod plan;
mod read;
mod ready;
mod sequential;

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    /// What is run, for the reader of the report.
    pub how: &'static str,
    pub by_default: bool,
    pub rounds: usize,
    pub run: fn(&Bench, usize) -> Result<Vec<Row>>,
}

pub const ALL: [Case; 20] = [
    ready::CASE,
    index::CASE,
    memory::CASE,
    read::CASE,
    sequential::CASE,
    capture::CASE,
    many::CASE,
    build::CASE,
    plan::CASE,
    guest_ready::CASE,
    guest_load::CASE,
    minimal::CASE,
    compile::CASES[0],
    compile::CASES[1],
    compile::CASES[2],
    compile::CASES[3],
    compile::CASES[4],
    compile::CASES[5],
    compile::CASES[6],
    compile::CASES[7],
];
