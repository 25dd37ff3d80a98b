//! Which calls the host takes.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use outcrop_guest::protocol::compile::Call;

use super::toolchain::{PLACE, Toolchain};

/// Options, by what they begin with, that make a compiler run other programs, read its own parts from
/// elsewhere, tell where these are, load what converts between character sets, or ask what processor
/// this is.
const OPTIONS: [&str; 22] = [
    "-###",
    "--help",
    "--print",
    "--specs",
    "--sysroot",
    "--target-help",
    "-B",
    "-dump",
    "-fexec-charset",
    "-finput-charset",
    "-flto",
    "-fplugin",
    "-fwide-exec-charset",
    "-iplugindir",
    "-march=native",
    "-mcpu=native",
    "-mtune=native",
    "-print",
    "-specs",
    "-v",
    "-wrapper",
    "@",
];

/// Directories that are the guest's own, not part of the tree.
const OTHER_TREES: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// Options with which a compiler that lacks an update of the kit's tells its own version.
const TELL_VERSION: [&str; 4] = ["--version", "-S", "-save-temps", "--save-temps"];

/// The program to run for a call, or why it is the guest's own business.
pub fn program(call: &Call, toolchain: &Toolchain) -> Result<PathBuf, String> {
    if (call.uid, call.gid) != (0, 0) {
        return Err(format!("the caller is user {}", call.uid));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let called = call.arguments.first().map(|name| text(name)).unwrap_or_default();
    let name = Path::new(&called).file_name().map(|name| name.to_string_lossy().into_owned());
    let program = name.and_then(|name| toolchain.programs.get(&name));
    let update = toolchain.cross.as_ref().and_then(|cross| cross.update.as_ref());
    let program = program.ok_or_else(|| format!("{called} is not offered"))?;
    for argument in call.arguments.iter().skip(1) {
        let argument = text(argument);
        if let Some(option) = OPTIONS.iter().find(|option| argument.starts_with(**option)) {
            return Err(format!("the option {option}"));
        }
        if let Some(update) = update {
            let tells = TELL_VERSION.into_iter().find(|option| argument.starts_with(option));
            let differs = update.differs.iter().map(String::as_str);
            let mut differs = differs.filter(|word| argument.contains(word));
            if let Some(word) = tells.or_else(|| differs.next()) {
                return Err(format!("the host's compiler lacks an update: {word}"));
            }
        }
        let elsewhere = OTHER_TREES.iter().find(|tree| argument.contains(&format!("{tree}/")));
        if let Some(tree) = elsewhere.filter(|_| argument != "/dev/null") {
            return Err(format!("a file in {tree}"));
        }
    }
    let directory = text(&call.directory);
    if OTHER_TREES.iter().any(|tree| Path::new(&directory).starts_with(tree)) {
        return Err(format!("the directory {directory}"));
    }
    let relative = program.strip_prefix("/").unwrap_or(program);
    Ok(Path::new(PLACE).join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str, change: impl FnOnce(&mut Call)) -> Result<PathBuf, String> {
        asked_of(&Toolchain::for_tests(None), words, change)
    }

    fn asked_of(
        toolchain: &Toolchain,
        words: &str,
        change: impl FnOnce(&mut Call),
    ) -> Result<PathBuf, String> {
        let mut call = Call {
            arguments: words.split(' ').map(|word| word.as_bytes().to_vec()).collect(),
            directory: b"/work".to_vec(),
            ..Call::default()
        };
        change(&mut call);
        program(&call, toolchain)
    }

    #[test]
    fn a_call_is_run_by_the_kit_s_own_program() {
        let own = Ok(PathBuf::from("/dev/kit/usr/bin/T-gcc-12"));
        for words in [
            "gcc -c a.c",
            "/usr/lib/outcrop/compilers/gcc -O2 a.c -o a -lm -Wl,-rpath,/usr/lib",
            "gcc -E -x c /dev/null",
            "gcc --version",
            "gcc -I/usr/include/dev a.c",
        ] {
            assert_eq!(asked(words, |_| {}), own, "{words}");
        }
    }

    #[test]
    fn what_is_more_than_a_compiler_s_work_is_the_guest_s() {
        for (words, why) in [
            ("cc -c a.c", "cc is not offered"),
            ("/bin/sh -c true", "/bin/sh is not offered"),
            ("gcc -wrapper sh,-c a.c", "the option -wrapper"),
            ("gcc -fplugin=./a.so a.c", "the option -fplugin"),
            ("gcc -fplugin-arg-a-b=c a.c", "the option -fplugin"),
            ("gcc -B. a.c", "the option -B"),
            ("gcc -B . a.c", "the option -B"),
            ("gcc -specs=own a.c", "the option -specs"),
            ("gcc --specs own a.c", "the option --specs"),
            ("gcc @more", "the option @"),
            ("gcc -print-prog-name=ld", "the option -print"),
            ("gcc -O2 -march=native a.c", "the option -march=native"),
            ("gcc -finput-charset=latin1 a.c", "the option -finput-charset"),
            ("gcc -c a.c -o /dev/shm/a.o", "a file in /dev"),
            ("gcc -c a.c -I/proc/self/root", "a file in /proc"),
        ] {
            assert_eq!(asked(words, |_| {}), Err(why.to_owned()), "{words}");
        }
        let of_nobody = asked("gcc a.c", |call| call.uid = 65534);
        assert_eq!(of_nobody, Err("the caller is user 65534".to_owned()));
        let elsewhere = asked("gcc a.c", |call| call.directory = b"/dev/shm".to_vec());
        assert_eq!(elsewhere, Err("the directory /dev/shm".to_owned()));
        assert!(asked("gcc", |call| call.arguments.clear()).is_err());
    }

    #[test]
    fn what_a_compiler_without_the_kit_s_update_does_otherwise_is_the_guest_s() {
        let older = Toolchain::for_tests(Some(&["stack-protect"]));
        assert!(asked_of(&older, "gcc -c -pipe a.c", |_| {}).is_ok());
        for word in ["--version", "-S", "-save-temps=obj", "-fstack-protector-strong"] {
            assert!(asked(&format!("gcc {word} a.c"), |_| {}).is_ok(), "{word}");
            let why = asked_of(&older, &format!("gcc {word} a.c"), |_| {}).unwrap_err();
            assert!(why.starts_with("the host's compiler lacks an update: "), "{why}");
        }
    }
}
