use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Whether the host has what makes and examines ELF files.
fn tools() -> bool {
    let missing = ["gcc", "readelf", "strip", "objcopy"]
        .into_iter()
        .find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        eprintln!("skipped: there is no {tool} to make ELF files with");
    }
    missing.is_none()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a stripped file consists of.
fn stripped(bytes: &[u8]) -> Option<Vec<u8>> {
    let Stripped { header, kept, tail, .. } = strip(bytes)?;
    let mut new = [&bytes[..kept as usize], &tail].concat();
    new[..header.len()].copy_from_slice(&header);
    Some(new)
}

fn strip_in_place(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let new = stripped(&bytes).unwrap_or_else(|| panic!("{} stays", path.display()));
    assert!(new.len() < bytes.len());
    assert_eq!(stripped(&new), None, "a second time changes nothing");
    std::fs::write(path, new).unwrap();
}

/// Names, types, flags and sizes of the sections; readelf must have nothing to complain about.
fn sections(path: &Path) -> Vec<String> {
    let output = Command::new("readelf").args(["-WS"]).arg(path).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix('['));
    lines
        .filter_map(|line| Some(line.split_once("] ")?.1.split_whitespace().next()?.to_owned()))
        .collect()
}

const LIBRARY: &str = r#"
#include <stdio.h>
static __thread int counter = 40;
static int two(void) { return 2; }
static int (*choose(void))(void) { return two; }
int chosen(void) __attribute__((ifunc("choose")));
__attribute__((constructor)) static void begin(void) { counter -= 1; }
int answer(void) { counter += 1; return counter + chosen(); }
"#;
const PROGRAM: &str = r#"
#include <stdio.h>
int answer(void);
static const char *const words[] = { "the", "answer", "is" };
int main(void) {
    for (int i = 0; i < 3; i++) printf("%s ", words[i]);
    printf("%d\n", answer());
    return 0;
}
"#;

struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("library.c"), LIBRARY).unwrap();
        std::fs::write(directory.path().join("program.c"), PROGRAM).unwrap();
        Workplace(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn gcc(&self, arguments: &[&str]) {
        run(Command::new("gcc").args(["-g", "-O1"]).args(arguments).current_dir(self.0.path()));
    }
}

#[test]
fn programs_run_and_have_the_sections_that_strip_leaves() {
    if !tools() {
        return;
    }
    let kinds: [&[&str]; 5] = [
        &["-pie", "-fPIE"],
        &["-no-pie"],
        &["-static"],
        &["-static-pie", "-fPIE"],
        &["-no-pie", "-Wl,--hash-style=sysv", "-Wl,-z,norelro", "-gz"],
    ];
    for kind in kinds {
        let place = Workplace::new();
        let arguments = [kind, &["program.c", "library.c", "-o", "program"]].concat();
        place.gcc(&arguments);
        let (program, other) = (place.path("program"), place.path("other"));
        std::fs::copy(&program, &other).unwrap();
        strip_in_place(&program);
        assert_eq!(run(&mut Command::new(&program)), "the answer is 42\n", "{kind:?}");
        let unneeded = ["--strip-unneeded", "-R", ".comment", "-R", ".note"];
        run(Command::new("strip").args(unneeded).arg(&other));
        assert_eq!(sections(&program), sections(&other), "{kind:?}");
        let (ours, theirs) = (program.metadata().unwrap().len(), other.metadata().unwrap().len());
        assert!(ours <= theirs.saturating_add(64), "{kind:?}: {ours} bytes, strip's {theirs}");
    }
}

#[test]
fn a_stripped_library_can_be_linked_with_and_loaded() {
    if !tools() {
        return;
    }
    let place = Workplace::new();
    place.gcc(&["-shared", "-fPIC", "library.c", "-o", "liblibrary.so"]);
    strip_in_place(&place.path("liblibrary.so"));
    let names = sections(&place.path("liblibrary.so"));
    assert!(names.contains(&".dynsym".to_owned()) && !names.contains(&".symtab".to_owned()));
    assert!(!names.iter().any(|name| name.starts_with(".debug")), "{names:?}");
    place.gcc(&["program.c", "-o", "program", "-L.", "-llibrary", "-Wl,-rpath,$ORIGIN"]);
    strip_in_place(&place.path("program"));
    assert_eq!(run(&mut Command::new(place.path("program"))), "the answer is 42\n");
}

const FREESTANDING: &str = r#"
int data = 5, zero[4];
void _start(void) { __asm__ volatile("int $0x80" :: "a"(1), "b"(data + 2)); }
"#;

#[test]
fn files_of_32_bits_are_stripped_alike() {
    if !tools() {
        return;
    }
    let place = Workplace::new();
    std::fs::write(place.path("free.c"), FREESTANDING).unwrap();
    for kind in ["-static", "-shared"] {
        place.gcc(&["-m32", "-nostdlib", "-ffreestanding", "-fPIC", kind, "free.c", "-o", "ours"]);
        std::fs::copy(place.path("ours"), place.path("theirs")).unwrap();
        strip_in_place(&place.path("ours"));
        let unneeded = ["--strip-unneeded", "-R", ".comment", "-R", ".note"];
        run(Command::new("strip").args(unneeded).arg(place.path("theirs")));
        assert_eq!(sections(&place.path("ours")), sections(&place.path("theirs")), "{kind}");
    }
}

/// A minimal executable of 32 bits: one segment, and sections of every fate.
fn handmade(endian: Endianness) -> Vec<u8> {
    let names = b"\0.text\0.symtab\0.strtab\0.debug_info\0.kept\0.shstrtab\0";
    let at = |name: &[u8]| {
        let found = names.windows(name.len() + 1).position(|part| part == [name, b"\0"].concat());
        found.unwrap() as u32
    };
    let word = |value: u32| match endian {
        Endianness::Big => value.to_be_bytes(),
        Endianness::Little => value.to_le_bytes(),
    };
    let half = |value: u16| match endian {
        Endianness::Big => value.to_be_bytes(),
        Endianness::Little => value.to_le_bytes(),
    };
    let data = 1 + u8::from(endian == Endianness::Big);
    let mut file = [b"\x7fELF\x01".as_slice(), &[data, 1, 0], &[0; 8]].concat();
    // Type, machine; version, entry, program headers, section headers, flags.
    file.extend([half(2), half(20)].concat());
    let table = 100 + 16 + 8 + 4 + names.len() as u32;
    file.extend([1, 0x1054, 52, table, 0].map(word).concat());
    file.extend([52, 32, 1, 40, 7, 6].map(half).concat());
    file.extend([1, 0, 0x1000, 0x1000, 88, 88, 5, 4096].map(word).concat());
    file.extend([0; 4]);
    // Null, .text, .symtab, .strtab, .debug_info, .kept, .shstrtab
    let mut content = b"symbols!symbols!".to_vec();
    content.extend(b"debugged");
    content.extend(b"kept");
    content.extend(names);
    let headers = [
        [0; 10],
        [at(b".text"), 1, 6, 0x1054, 84, 4, 0, 0, 4, 0],
        [at(b".symtab"), 2, 0, 0, 88 + 12, 16, 3, 1, 4, 16],
        [at(b".strtab"), 3, 0, 0, 100, 1, 0, 0, 1, 0],
        [at(b".debug_info"), 1, 0, 0, 116, 8, 0, 0, 1, 0],
        [at(b".kept"), 1, 0, 0, 124, 4, 1, 0, 1, 0],
        [at(b".shstrtab"), 3, 0, 0, 128, names.len() as u32, 0, 0, 1, 0],
    ];
    file.extend([0; 12]);
    file.extend(content);
    for header in headers {
        file.extend(header.map(word).concat());
    }
    file
}

#[test]
fn both_byte_orders_are_understood() {
    use object::{Object, ObjectSection};
    for endian in [Endianness::Big, Endianness::Little] {
        let file = handmade(endian);
        let new = stripped(&file).unwrap();
        assert_eq!(new[..32], file[..32]);
        let parsed = object::File::parse(&new[..]).unwrap();
        let left: Vec<_> = parsed.sections().map(|s| s.name().unwrap().to_owned()).collect();
        assert_eq!(left, [".text", ".kept", ".shstrtab"], "{endian:?}");
        let kept = parsed.section_by_name(".kept").unwrap();
        assert_eq!(kept.data().unwrap(), b"kept");
        assert_eq!(stripped(&new), None);
    }
}

/// The largest program at hand: this one, made by another compiler.
#[test]
fn a_program_of_another_compiler_runs() {
    let own = std::env::current_exe().unwrap();
    let place = Workplace::new();
    let copy = place.path("copy");
    std::fs::copy(&own, &copy).unwrap();
    strip_in_place(&copy);
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let list = |program: &Path| run(Command::new(program).args(["--list", "elf::"]));
    assert_eq!(list(&copy), list(&own));
}

#[test]
fn what_is_in_doubt_stays() {
    if !tools() {
        return;
    }
    let place = Workplace::new();
    place.gcc(&["-c", "library.c", "-o", "object.o"]);
    place.gcc(&["program.c", "library.c", "-Wl,--emit-relocs", "-o", "relocatable"]);
    place.gcc(&["program.c", "library.c", "-o", "program"]);
    let (program, debug) = (place.path("program"), place.path("program.debug"));
    run(Command::new("objcopy").arg("--only-keep-debug").args([&program, &debug]));
    for name in ["object.o", "relocatable", "program.debug"] {
        assert_eq!(stripped(&std::fs::read(place.path(name)).unwrap()), None, "{name}");
    }
    let mut bytes = std::fs::read(&program).unwrap();
    bytes.extend_from_slice(b"an archive that unpacks itself");
    assert_eq!(stripped(&bytes), None, "something follows the last section");
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0x7f; 100]] {
        assert_eq!(stripped(bytes), None);
    }
}

#[test]
fn damaged_files_are_refused_or_stripped_but_never_crash() {
    if !tools() {
        return;
    }
    let place = Workplace::new();
    place.gcc(&["program.c", "library.c", "-o", "program"]);
    let bytes = std::fs::read(place.path("program")).unwrap();
    for length in (0..bytes.len()).step_by(37) {
        assert_eq!(stripped(&bytes[..length]), None, "cut to {length} bytes");
    }
    let header = FileHeader64::<Endianness>::parse(&bytes[..]).unwrap();
    let endian = header.endian().unwrap();
    let table = header.e_shoff(endian) as usize..bytes.len();
    let places: Vec<usize> = (0..64).chain(64..1000).chain(table).collect();
    let damage = prop::collection::vec((prop::sample::select(places), any::<u8>()), 1..4);
    proptest!(|(damage in damage)| {
        let mut damaged = bytes.clone();
        for (at, byte) in damage {
            damaged[at] = byte;
        }
        if let Some(new) = stripped(&damaged) {
            prop_assert!(new.len() < damaged.len());
        }
    });
}
