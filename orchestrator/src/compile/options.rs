//! Which compiler commands the host runs for a guest.
//!
//! The rule is an allow-list. What is not known to do nothing but translate the one input into the
//! one output is refused, and the guest then runs that command itself: a refusal costs time, never
//! a build. Options that only concern the preprocessor are dropped, because it has already run.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// A command that may be run; its input is `input.EXTENSION`, its output `output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The compiler as the client named it.
    pub compiler: String,
    /// Arguments without input and output.
    pub arguments: Vec<OsString>,
    /// `i` for C, `ii` for C++: tells the compiler that its input is preprocessed.
    pub extension: &'static str,
    /// Whether the output is assembly (`-S`), not an object.
    pub assembly: bool,
}

/// Why a command is not run, as a phrase.
pub type Refusal = String;

/// Checks a command line: the compiler's name first.
pub fn check(command_line: &[Vec<u8>]) -> Result<Command, Refusal> {
    let (compiler, rest) = command_line.split_first().ok_or("the command is empty")?;
    let compiler = std::str::from_utf8(compiler).map_err(|_| "the compiler's name is not text")?;
    let mut scan = Scan::default();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        scan.word(word, &mut || words.next().map(Vec::as_slice))?;
    }
    if !scan.stops_before_linking {
        return Err("neither -c nor -S is given".into());
    }
    let extension = scan.extension.ok_or("no source file is named")?;
    // Of both, the compiler heeds the one that stops earlier.
    let assembly = scan.arguments.iter().any(|argument| argument == "-S");
    Ok(Command { compiler: compiler.to_owned(), arguments: scan.arguments, extension, assembly })
}

#[derive(Default)]
struct Scan {
    arguments: Vec<OsString>,
    extension: Option<&'static str>,
    stops_before_linking: bool,
    has_output: bool,
}

impl Scan {
    fn word<'a>(
        &mut self,
        word: &'a [u8],
        next: &mut dyn FnMut() -> Option<&'a [u8]>,
    ) -> Result<(), Refusal> {
        if word.first() != Some(&b'-') {
            return self.input(word);
        }
        if word.starts_with(b"-o") {
            let attached = word.len() > 2;
            let named = attached || next().is_some();
            if !named || std::mem::replace(&mut self.has_output, true) {
                return Err("-o needs one name, once".into());
            }
            return Ok(());
        }
        let text = std::str::from_utf8(word)
            .map_err(|_| format!("option {} is not text", word.escape_ascii()))?;
        match text {
            "-c" | "-S" => {
                self.stops_before_linking = true;
                self.arguments.push(text.into());
            }
            "--param" => {
                let value = next().filter(|value| is_parameter(value));
                let value = value.ok_or("--param needs NAME=VALUE")?;
                self.arguments.push(text.into());
                self.arguments.push(OsString::from_vec(value.to_vec()));
            }
            _ if PREPROCESSOR_WITH_ARGUMENT.contains(&text) => {
                next().ok_or_else(|| format!("{text} needs an argument"))?;
            }
            _ if is_preprocessor_option(text) => {}
            _ if is_allowed(text) => self.arguments.push(text.into()),
            _ => return Err(format!("option {text} is not on the list")),
        }
        Ok(())
    }

    fn input(&mut self, word: &[u8]) -> Result<(), Refusal> {
        let refused = || format!("argument {} is not a source file", word.escape_ascii());
        let dot = word.iter().rposition(|byte| *byte == b'.').ok_or_else(refused)?;
        let extension = match word.get(dot..).unwrap_or_default() {
            b".c" | b".i" => "i",
            b".C" | b".cc" | b".cp" | b".cpp" | b".CPP" | b".cxx" | b".c++" | b".ii" => "ii",
            _ => return Err(refused()),
        };
        if word.first() == Some(&b'@') {
            return Err(refused());
        }
        match self.extension.replace(extension) {
            None => Ok(()),
            Some(_) => Err("more than one source file is named".into()),
        }
    }
}

const PREPROCESSOR_WITH_ARGUMENT: &[&str] = &[
    "-D",
    "-I",
    "-U",
    "-MF",
    "-MQ",
    "-MT",
    "-idirafter",
    "-imacros",
    "-include",
    "-iprefix",
    "-iquote",
    "-isysroot",
    "-isystem",
    "-iwithprefix",
    "-iwithprefixbefore",
];

/// `-P` is not among them: without line markers the compiler knows neither files nor lines.
fn is_preprocessor_option(text: &str) -> bool {
    let exact = ["-MD", "-MMD", "-MG", "-MP", "-C", "-CC", "-nostdinc", "-nostdinc++", "-undef"];
    let prefixes = [
        "-D",
        "-I",
        "-U",
        "-MF",
        "-MQ",
        "-MT",
        "-iquote",
        "-isystem",
        "-idirafter",
        "-isysroot",
        "--sysroot=",
    ];
    exact.contains(&text) || prefixes.iter().any(|prefix| text.starts_with(prefix))
}

fn is_allowed(text: &str) -> bool {
    const EXACT: &[&str] = &[
        "-ansi",
        "-p",
        "-pedantic",
        "-pedantic-errors",
        "-pg",
        "-pie",
        "-no-pie",
        "-pipe",
        "-pthread",
        "-rdynamic",
        "-s",
        "-shared",
        "-static",
        "-static-pie",
        "-static-libgcc",
        "-static-libstdc++",
        "-nodefaultlibs",
        "-nostartfiles",
        "-nostdlib",
        "-w",
        "-O",
    ];
    if EXACT.contains(&text) {
        return true;
    }
    if let Some(level) = text.strip_prefix("-O") {
        return level.bytes().all(|b| b.is_ascii_alphanumeric());
    }
    if let Some(options) = text.strip_prefix("-Wa,") {
        return options.split(',').all(is_allowed_for_assembler);
    }
    if text.starts_with("-Wp,") || text.starts_with("-Wl,") {
        return false;
    }
    if let Some(parameter) = text.strip_prefix("--param=") {
        return is_parameter(parameter.as_bytes());
    }
    if let Some(standard) = text.strip_prefix("-std=") {
        return !standard.contains('/');
    }
    match text.get(..2) {
        Some("-W") => is_warning(text),
        Some("-f") => is_allowed_feature(text.get(2..).unwrap_or_default()),
        Some("-g") => is_allowed_debug(text.get(2..).unwrap_or_default()),
        Some("-m") => is_allowed_machine(text.get(2..).unwrap_or_default()),
        _ => false,
    }
}

fn is_parameter(value: &[u8]) -> bool {
    let word = |part: &[u8]| {
        !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let mut parts = value.splitn(2, |byte| *byte == b'=');
    parts.next().is_some_and(word) && parts.next().is_some_and(word)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+_".contains(&b))
}

/// No warning option names a file; its value is a number, a level or another warning.
fn is_warning(text: &str) -> bool {
    let (name, value) = text.split_once('=').unwrap_or((text, "x"));
    is_word(name) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+_,=".contains(&b))
}

fn is_allowed_for_assembler(option: &str) -> bool {
    const EXACT: &[&str] =
        &["--noexecstack", "--execstack", "--64", "--32", "--x32", "-W", "--fatal-warnings"];
    EXACT.contains(&option)
        || option.strip_prefix("-m").is_some_and(|rest| is_word(&rest.replace('=', "-")))
        || option
            .strip_prefix("--compress-debug-sections=")
            .is_some_and(|kind| ["none", "zlib", "zlib-gabi"].contains(&kind))
}

/// Options that write beside the output, read other files or run other code, or take something from
/// where the compiler runs (`-fno-working-directory`: the directory in debug information). The
/// features with a value are an allow-list, so only the names without one need to be here.
const REFUSED_FEATURES: &[&str] = &[
    "auto-profile",
    "aux-info",
    "branch-probabilities",
    "callgraph-info",
    "compare-debug",
    "deps",
    "directives-only",
    "dump",
    "ltrans",
    "module",
    "opt-info",
    "pch",
    "plugin",
    "preprocessed",
    "profile",
    "repo",
    "save-",
    "self-test",
    "stack-usage",
    "syntax-only",
    "test-coverage",
    "wpa",
    "no-preprocessed",
    "no-working-directory",
    "checking",
];

/// `sanitize` is not among them: checks tell columns, which preprocessing changes.
const FEATURES_WITH_VALUE: &[&str] = &[
    "abi-version",
    "abi-compat-version",
    "align-functions",
    "align-jumps",
    "align-labels",
    "align-loops",
    "asan-shadow-offset",
    "cf-protection",
    "constexpr-cache-depth",
    "constexpr-depth",
    "constexpr-loop-limit",
    "constexpr-ops-limit",
    "debug-prefix-map",
    "diagnostics-color",
    "excess-precision",
    "exec-charset",
    "wide-exec-charset",
    "file-prefix-map",
    "fp-contract",
    "inline-limit",
    "ira-algorithm",
    "ira-region",
    "lifetime-dse",
    "live-patching",
    "lto",
    "lto-partition",
    "lto-compression-level",
    "macro-prefix-map",
    "max-errors",
    "message-length",
    "no-sanitize",
    "no-sanitize-recover",
    "pack-struct",
    "patchable-function-entry",
    "parloops",
    "random-seed",
    "sanitize-recover",
    "sched-stalled-insns",
    "sched-stalled-insns-dep",
    "simd-cost-model",
    "stack-check",
    "stack-limit-register",
    "stack-limit-symbol",
    "stack-reuse",
    "strict-flex-arrays",
    "strong-eval-order",
    "template-backtrace-limit",
    "template-depth",
    "tls-model",
    "trivial-auto-var-init",
    "tree-parallelize-loops",
    "use-ld",
    "vect-cost-model",
    "visibility",
    "zero-call-used-regs",
];

fn is_allowed_feature(feature: &str) -> bool {
    match feature.split_once('=') {
        Some((name, value)) => {
            // A prefix map's value is text that goes into debug information, nothing is opened.
            let text_only = name.ends_with("-prefix-map");
            FEATURES_WITH_VALUE.contains(&name) && (text_only || !value.contains('/'))
        }
        None => {
            is_word(feature) && !REFUSED_FEATURES.iter().any(|refused| feature.starts_with(refused))
        }
    }
}

fn is_allowed_debug(level: &str) -> bool {
    let known = ["", "0", "1", "2", "3", "z", "z=none", "z=zlib", "z=zlib-gabi"];
    known.contains(&level)
        || [
            "gdb",
            "dwarf",
            "no-",
            "statement-frontiers",
            "variable-location-views",
            "strict-dwarf",
            "record-gcc-switches",
            "column-info",
            "as-loc-support",
            "as-locview-support",
            "inline-points",
        ]
        .iter()
        .any(|prefix| level.starts_with(prefix) && is_word(level))
}

/// `native` would mean the host's CPU.
fn is_allowed_machine(option: &str) -> bool {
    let (name, value) = option.split_once('=').unwrap_or((option, "x"));
    is_word(name)
        && value != "native"
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+_.,:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(line: &str) -> Result<Command, Refusal> {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        check(&words)
    }

    #[test]
    fn ordinary_commands_keep_what_matters() {
        let command =
            run("gcc -DX=1 -I /inc -isystem /x -O2 -g -Wall -Wno-error=format -std=gnu99 -fPIC \
             -fstack-protector-strong -fdebug-prefix-map=/a/b=. -march=x86-64 -Wa,--noexecstack \
             --param ssp-buffer-size=4 -pipe -MD -MF dep.d -c ../src/a.c -o obj/a.o")
            .unwrap();
        assert_eq!(command.compiler, "gcc");
        assert_eq!(command.extension, "i");
        assert_eq!(
            command.arguments.join(std::ffi::OsStr::new(" ")),
            "-O2 -g -Wall -Wno-error=format -std=gnu99 -fPIC -fstack-protector-strong \
             -fdebug-prefix-map=/a/b=. -march=x86-64 -Wa,--noexecstack --param ssp-buffer-size=4 \
             -pipe -c"
        );
    }

    #[test]
    fn the_language_follows_the_source() {
        assert_eq!(run("g++ -c a.cpp").unwrap().extension, "ii");
        assert_eq!(run("gcc -S a.i -oa.s").unwrap().extension, "i");
        assert!(run("gcc -c a.S").is_err());
    }

    #[test]
    fn whatever_reads_writes_or_runs_something_else_is_refused() {
        for option in [
            "-wrapper x",
            "-fplugin=/tmp/x.so",
            "-fplugin-arg-x",
            "-B/tmp",
            "-B /tmp",
            "-specs=/tmp/x",
            "-specs /tmp/x",
            "--specs=x",
            "@/etc/passwd",
            "/etc/passwd",
            "-fprofile-use=/tmp",
            "-fprofile-generate",
            "-ftest-coverage",
            "--coverage",
            "-save-temps",
            "-fdump-tree-all",
            "-fstack-usage",
            "-gsplit-dwarf",
            "-dumpbase x",
            "-march=native",
            "-mtune=native",
            "-Wa,-al=/tmp/x",
            "-Wa,-I/etc",
            "-Wa,--MD,x",
            "-Wa,-march=x/y",
            "-Wp,-MD,x",
            "-Wl,-T,x",
            "-x c",
            "-o x -o y",
            "-o",
            "b.c",
            "-",
            "-fdiagnostics-format=json-file",
            "-fopt-info-all=/tmp/x",
            "-fopt-info",
            "-Xassembler -I/x",
            "-Xpreprocessor -MD",
            "-E",
            "-M",
            "-fmodules-ts",
            "-fsanitize=/x",
            "-fsanitize=undefined",
            "-fno-working-directory",
            "-P",
            "-fmodule-mapper=|sh",
            "-fpreprocessed",
            "-no-canonical-prefixes",
            "-fuse-ld=/tmp/x",
            "--param x=/etc",
            "-fsyntax-only",
            "-foffload=x",
            "-imultilib x",
            "-Wstack-usage=/x",
            "-ffoo=bar",
            "-mfoo=/x",
            "-flto-wrapper=/x",
            "-fcallgraph-info=su",
        ] {
            let line = format!("gcc -c a.c {option}");
            assert!(run(&line).is_err(), "{option} was allowed: {:?}", run(&line));
        }
    }

    #[test]
    fn linking_and_missing_sources_are_refused() {
        assert!(run("gcc a.c -o a").unwrap_err().contains("-c"));
        assert!(run("gcc -c").unwrap_err().contains("source"));
        assert!(check(&[]).is_err());
    }

    proptest! {
        /// Nothing that gets through has a path in it, apart from prefix maps.
        #[test]
        fn no_path_survives(words in proptest::collection::vec("[-@]?[a-zA-Z,=/.]{0,12}", 0..6)) {
            let mut line = vec![b"gcc".to_vec(), b"-c".to_vec(), b"a.c".to_vec()];
            line.extend(words.iter().map(|word| word.as_bytes().to_vec()));
            if let Ok(command) = check(&line) {
                for argument in &command.arguments {
                    let text = argument.to_string_lossy();
                    prop_assert!(text.contains("-prefix-map=") || !text.contains('/'), "{}", text);
                    prop_assert!(text.starts_with('-'));
                }
            }
        }
    }
}
