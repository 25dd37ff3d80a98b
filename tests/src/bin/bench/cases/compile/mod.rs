//! Compiling whole packages for another architecture, by every way that there is.

mod by_hand;
mod in_guest;

use outcrop_tests::packages::{PACKAGES, PHASES, Package};
use outcrop_tests::{guests_can_run, outcrop};

use super::Case;
use crate::bench::Bench;
use crate::measure::{Contender, LEFT_OUT, Outcome, Result, seconds, take_turns};
use crate::row::{Row, at_most};

use by_hand::{Emulator, HostCompiler};

/// One for each package, so that one that is interrupted takes nothing from the others.
pub const CASES: [Case; PACKAGES.len() + 3] = [
    case("compile-zlib", "Compiling zlib for arm64", measure::<0>),
    case("compile-lua", "Compiling lua for arm64", measure::<1>),
    case("compile-busybox", "Compiling busybox for arm64", measure::<2>),
    case("compile-dropbear", "Compiling dropbear for arm64", measure::<3>),
    case("compile-lzip", "Compiling lzip (C++) for arm64", measure::<4>),
    case("compile-zlib-x86_64", "Compiling zlib for x86_64", measure_native::<0>),
    case("compile-lua-x86_64", "Compiling lua for x86_64", measure_native::<1>),
    case("compile-busybox-x86_64", "Compiling busybox for x86_64", measure_native::<2>),
];

const fn case(
    name: &'static str,
    title: &'static str,
    run: fn(&Bench, usize) -> Result<Vec<Row>>,
) -> Case {
    Case { name, title, how: HOW, by_default: false, rounds: 1, run }
}

const HOW: &str = "\
    The same commands for everybody, with `make -j2`; times of each step, and the processor time that it \
    took (in a guest: of QEMU and of the host's compilers, without our own server). Outcrop: `outcrop \
    build` with one guest, for which the host does all of a compiler's work. By distcc: it compiles \
    what the guest has preprocessed. The guest's gcc: the same with `--compile guest`. qemu-user: the \
    kit's packages unpacked, and its gcc run in a chroot through binfmt_misc. The host's: Debian's cross compiler, by hand.";

/// Baserock's name, Debian's triplet, QEMU's name, and the machine in an ELF header (elf.h).
pub struct Target {
    pub arch: &'static str,
    pub triplet: &'static str,
    pub qemu: &'static str,
    pub elf_machine: u8,
}

static TARGET: Target =
    Target { arch: "armv8l64", triplet: "aarch64-linux-gnu", qemu: "aarch64", elf_machine: 183 };

/// The host's own, whose guests are emulated all the same.
static NATIVE: Target =
    Target { arch: "x86_64", triplet: "x86_64-linux-gnu", qemu: "x86_64", elf_machine: 62 };

/// Of configure, make and install.
pub type Taken = [Phase; PHASES.len()];

#[derive(Clone, Copy, Default)]
pub struct Phase {
    pub seconds: f64,
    pub cpu_seconds: f64,
}

const EMULATOR: &str = "qemu-user";
const HOST: &str = "the host's cross gcc";
const HOST_ITSELF: &str = "the host's gcc";

fn measure<const POSITION: usize>(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    measure_for(bench, rounds, &PACKAGES[POSITION], &TARGET)
}

fn measure_native<const POSITION: usize>(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    measure_for(bench, rounds, &PACKAGES[POSITION], &NATIVE)
}

fn measure_for(
    bench: &Bench,
    rounds: usize,
    package: &'static Package,
    target: &'static Target,
) -> Result<Vec<Row>> {
    if !guests_can_run() {
        return Err("guests are not to be started".into());
    }
    let is_native = target.arch == NATIVE.arch;
    let host_name = if is_native { HOST_ITSELF } else { HOST };
    let kit = ["kit", "create", "--arch", target.arch, "--if-missing"];
    seconds(outcrop().args(kit))?;
    let definitions = in_guest::Definitions::write(bench, package, target)?;
    let guest = |name, transport, compile| {
        let definitions = &definitions;
        Contender::new(name, move || definitions.build(transport, compile))
    };
    // Installing it takes a minute.
    let emulator = match bench.wants(EMULATOR) && !is_native {
        true => Emulator::install(bench, target),
        false => Err(LEFT_OUT.into()),
    };
    let emulator = Contender::with(EMULATOR, emulator, |emulator| emulator.build(package));
    let mut contenders = vec![
        guest("Outcrop", "virtiofs", "host").if_wanted(bench),
        guest("Outcrop by distcc", "virtiofs", "distcc").if_wanted(bench),
        guest("Outcrop by distcc, over 9p", "9p", "distcc").if_wanted(bench),
        guest("the guest's gcc", "virtiofs", "guest").if_wanted(bench),
    ];
    if !is_native {
        contenders.push(emulator.if_wanted(bench));
    }
    let host = HostCompiler::find(bench, target);
    contenders.push(Contender::with(host_name, host, |host| host.build(package)).if_wanted(bench));
    let title =
        if is_native { format!("{} (x86_64)", package.name) } else { package.name.to_owned() };
    Ok(shown(&title, package, host_name, &take_turns(rounds, contenders)?))
}

fn shown(title: &str, package: &Package, host: &str, results: &[Outcome<Taken>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (position, phase) in PHASES.into_iter().enumerate() {
        let configures = package.commands[0] != ":";
        if phase == "configure" && !configures {
            continue;
        }
        let column = |value: &dyn Fn(&Phase) -> f64| {
            results.iter().map(|taken| taken.map(|phases| value(&phases[position]))).collect()
        };
        let name = format!("{title}: {phase}");
        let row = Row::new(name.clone(), column(&|phase| phase.seconds));
        rows.push(match phase {
            "configure" => {
                row.targets([at_most(if package.is_small { 10.0 } else { 6.0 }).of(host)])
            }
            "make" => row.targets([at_most(if package.is_small { 6.0 } else { 1.5 }).of(host)]),
            _ => row,
        });
        rows.push(Row::new(format!("{name}, processor"), column(&|phase| phase.cpu_seconds)));
    }
    rows
}
