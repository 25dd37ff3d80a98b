//! Reading directories while they change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::layer::MemoryLayer;
use super::*;
use crate::node::ROOT_INO;

/// Reads at most `count` names from a cookie on; gives the next cookie, or `None` at the end.
fn read_some(
    sysroot: &Sysroot,
    cookie: u64,
    count: usize,
    names: &mut Vec<Vec<u8>>,
) -> Option<u64> {
    let mut next = None;
    let mut left = count;
    sysroot
        .read_directory(ROOT_INO, cookie, &mut |entry| {
            names.push(entry.name.to_vec());
            next = Some(entry.cookie);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    next
}

fn merged() -> Vec<MemoryLayer> {
    let name = |number: usize| format!("/n{number:03}");
    let layer = |step: usize| {
        (0..300).step_by(step).fold(MemoryLayer::new("l"), |layer, at| layer.file(name(at), ""))
    };
    vec![layer(2), layer(3), layer(7)]
}

#[test]
fn dots_come_first_and_every_cookie_continues_where_it_says() {
    let sysroot = writable(merged());
    for number in 0..200 {
        make_file(&sysroot, "/", &format!("added{number}"), b"");
    }
    let mut all = Vec::new();
    read_some(&sysroot, 0, usize::MAX, &mut all);
    assert_eq!(&all[..2], [b".".to_vec(), b"..".to_vec()]);
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    let expected = (0..300).filter(|n| n % 2 == 0 || n % 3 == 0 || n % 7 == 0).count();
    assert_eq!(all.len(), 2 + expected + 200);

    let (mut one_by_one, mut cookie) = (Vec::new(), 0);
    while let Some(next) = read_some(&sysroot, cookie, 1, &mut one_by_one) {
        cookie = next;
    }
    assert_eq!(one_by_one, all);
}

#[test]
fn the_visitor_may_ask_the_sysroot_back() {
    let sysroot = writable(merged());
    make_file(&sysroot, "/", "added", b"");
    sysroot
        .read_directory(ROOT_INO, 2, &mut |entry| {
            assert_eq!(sysroot.attributes(entry.ino).unwrap().meta.kind, entry.kind);
            sysroot.remember(entry.ino);
            sysroot.unlink(ROOT_INO, entry.name).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(list(&sysroot, "/").is_empty());
}

proptest! {
    #[test]
    fn names_that_stay_are_reported_once_whatever_else_changes(
        reads in vec((1..5usize, 0..40usize, any::<bool>()), 1..60),
    ) {
        let name = |number: usize| format!("/n{number:02}");
        let layer = |numbers: std::ops::Range<usize>| {
            numbers.fold(MemoryLayer::new("l"), |layer, number| layer.file(name(number), ""))
        };
        let sysroot = writable(vec![layer(0..10), layer(5..20)]);
        for number in 20..30 {
            make_file(&sysroot, "/", &name(number)[1..], b"");
        }
        let mut staying: BTreeMap<Vec<u8>, usize> =
            list(&sysroot, "/").into_iter().map(|name| (name.into_bytes(), 0)).collect();
        let mut names = Vec::new();
        let mut cookie = 0;
        for (count, number, remove) in reads {
            let changed = name(number).as_bytes()[1..].to_vec();
            let outcome = if remove {
                sysroot.unlink(ROOT_INO, &changed)
            } else {
                sysroot.make_node(ROOT_INO, &changed, Kind::Fifo, CREATION).map(|_| ())
            };
            if outcome.is_ok() {
                staying.remove(&changed);
            }
            if let Some(next) = read_some(&sysroot, cookie, count, &mut names) {
                cookie = next;
            }
        }
        read_some(&sysroot, cookie, usize::MAX, &mut names);
        for name in names {
            if let Some(count) = staying.get_mut(&name) {
                *count += 1;
            }
        }
        prop_assert!(staying.values().all(|count| *count == 1), "{staying:?}");
    }
}
