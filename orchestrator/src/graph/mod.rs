//! The dependency graph of a target: order, cycles, critical path.
