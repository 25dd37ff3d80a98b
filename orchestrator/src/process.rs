//! Child processes: own group, parent-death signal, supervised exit.
