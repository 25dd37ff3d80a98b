//! Many threads at once: nothing may deadlock, be lost or be torn.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::layer::MemoryLayer;
use super::*;
use crate::node::ROOT_INO;

const THREADS: u8 = 4;
const ROUNDS: usize = 300;

#[test]
fn threads_share_a_sysroot() {
    let layer = MemoryLayer::new("low").file("/shared", vec![b'0'; 100_000]).directory("/d");
    let sysroot = writable(vec![layer]);
    let shared = ino(&sysroot, "/shared");
    let directory = ino(&sysroot, "/d");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let sysroot = &sysroot;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    work(sysroot, shared, directory, thread, round);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                sysroot.read_directory(directory, 0, &mut |_| ControlFlow::Continue(())).unwrap();
                sysroot.changed_paths().unwrap();
            }
        });
    });
    let names: BTreeSet<String> = list(&sysroot, "/d").into_iter().collect();
    assert_eq!(names.len(), usize::from(THREADS) * ROUNDS / 2, "every other name stays");
    for name in names {
        let thread = name.as_bytes()[0] - b'a';
        assert_eq!(content(&sysroot, &format!("/d/{name}")), [thread; 5000]);
    }
    assert_eq!(content_of(&sysroot, shared).len(), 100_000);
}

fn work(sysroot: &Sysroot, shared: Ino, directory: Ino, thread: u8, round: usize) {
    let name = format!("{}{round}", char::from(b'a' + thread));
    let temporary = format!("{name}.tmp");
    let made =
        sysroot.make_node(directory, temporary.as_bytes(), Kind::File, CREATION).unwrap().ino;
    sysroot.write(made, 0, &[thread; 5000]).unwrap();
    sysroot
        .rename(directory, temporary.as_bytes(), directory, name.as_bytes(), Rename::Replace)
        .unwrap();
    let found = sysroot.lookup(directory, name.as_bytes()).unwrap();
    assert_eq!(found.ino, made);
    if round % 2 == 1 {
        sysroot.unlink(directory, name.as_bytes()).unwrap();
        assert_eq!(content_of(sysroot, made), [thread; 5000]);
    }
    sysroot.forget(made, 2);

    // One write is one piece for a reader, whoever else writes there.
    sysroot.write(shared, 50_000, &[thread; 3000]).unwrap();
    let mut seen = [0; 3000];
    sysroot.read(shared, 50_000, &mut seen).unwrap();
    assert!(seen.iter().all(|byte| *byte == seen[0]));
    assert!(sysroot.lookup(ROOT_INO, b"shared").is_ok());
    sysroot.forget(shared, 1);
}
