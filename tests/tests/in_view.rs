//! The host runs the kit's compilers in the guest's own view (docs/host-toolchain.md).

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Stdio};
use std::time::Duration;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{
    Scratch, guest_arch, guests_can_run, outcrop, processes_with, run, shared_store, wait_until,
};
use serde_json::Value;

/// `both OUTPUT ARGUMENT...`: a compiler's call by the host, and the same by the guest's own compiler.
const BOTH: &str = r#"
set -x
mkdir /work
cd /work
both() {
    out=$1; shift
    gcc "$@" -o $out > said.host 2>&1 && host=0 || host=$?
    if test $host = 0; then mv $out $out.host; fi
    /usr/bin/gcc "$@" -o $out > said.guest 2>&1 && guest=0 || guest=$?
    test $host = $guest
    cmp said.host said.guest
    if test $host = 0; then cmp $out.host $out; fi
}
"#;

const SAME: &str = r##"
cat > a.c <<'END'
#include <math.h>
#include <stdio.h>
#include "own.h"
#define NONNULL(p) ((p) != NULL)
double area(double radius) { return M_PI * radius * radius; }
int main(int count, char **words) { char a[4]; printf("%f %s %d\n", area(count), OWN, NONNULL(a)); return 0; }
END
echo '#define OWN "own"' > own.h
cat > b.cpp <<'END'
#include <map>
#include <source_location>
#include <string>
std::map<std::string, int> counts;
int count(const std::string &name) { return ++counts[name] + std::source_location::current().column(); }
END
echo 'int x = ;' > bad.c
printf '.globl x\nx: .incbin "own.h"\n' > s.S
both a.o -c a.c
both a.o -O2 -g3 -c a.c
both a.o -O2 -g -fsanitize=undefined -MD -MF a.d -MT any -c a.c
grep -q own.h a.d
both b.o -O2 -g -std=c++20 -x c++ -c b.cpp
both a.s -Os -S a.c
both a.i -E a.c
both bad.o -c bad.c
both none.o -c none.c
both s.o -c s.S
both a -g a.c -lm
./a > ran
grep -q '3.141593 own' ran
both static -static a.c -lm
echo 'int y;' | gcc -x c - -c -o y.o
nm y.o | grep -q ' y$'
# Parts of the compiler that a build asks for are those of the guest.
test "$(gcc -print-prog-name=cc1)" = "$(/usr/bin/gcc -print-prog-name=cc1)"
both l.o -flto -frandom-seed=1 -c a.c
cd / && rm -r /work && mkdir -p "$DESTDIR"
"##;

#[test]
fn what_the_host_makes_in_the_guest_s_view_is_what_the_guest_makes() {
    if !guests_can_run() {
        return;
    }
    let step = built(&format!("{BOTH}{SAME}")).remove(0);
    let mut refused = step["compiled"]["refused"].as_object().unwrap().clone();
    // Only cross compilers can lack one.
    let lacking = match guest_arch().as_str() {
        "x86_64" => None,
        _ => refused.remove("the host's compiler lacks an update: -S"),
    };
    let lacking = lacking.map_or(0, |count| count.as_u64().unwrap());
    assert_eq!(refused.len(), 2, "{step}");
    assert_eq!(
        (&refused["the option -print"], &refused["the option -flto"]),
        (&1.into(), &1.into())
    );
    assert!(lacking <= 1, "{step}");
    assert!(step["compiled"]["compiled"].as_u64() >= Some(12 - lacking), "{step}");
}

/// Sources that change between two calls, by every way that programs change files, without growing.
const CHANGING: &str = r##"
mkdir /work
cd /work
printf '#include <stdio.h>\n#include "value.h"\nint main(void) { puts(VALUE); return 0; }\n' > a.c
n=100
while test $n -lt 140; do
    rm -f a.o
    test ! -e a.o
    case $((n % 4)) in
    0) echo "#define VALUE \"$n\"" > value.h ;;
    1) echo "#define VALUE \"$n\"" > new.h; mv new.h value.h ;;
    2) rm value.h; if gcc -c a.c 2> said; then exit 1; fi; echo "#define VALUE \"$n\"" > value.h ;;
    3) sed -i "s/[0-9][0-9]*/$n/" value.h ;;
    esac
    gcc -MD -c a.c
    test -s a.o
    test -s a.d
    gcc a.o -o a
    test "$(./a)" = $n
    n=$((n + 1))
done
mkdir old
mv a.c value.h old
if gcc -c a.c 2> said; then exit 1; fi
gcc -c old/a.c
# Many at once, each of which reads what only now exists.
for n in 1 2 3 4 5 6 7 8; do
    (echo "int f$n = $n;" > $n.c; gcc -c $n.c; nm $n.o | grep -q f$n; rm $n.c; ! gcc -c $n.c 2> /dev/null) &
    all="$all $!"
done
for process in $all; do wait $process; done
mkdir -p "$DESTDIR"
"##;

#[test]
fn both_kernels_see_each_change() {
    if !guests_can_run() {
        return;
    }
    built(CHANGING);
}

/// Guests that want more than compiling.
const HOSTILE: &str = r##"
set -x
mkdir /work
cd /work
echo 'int x;' > a.c
# Nothing of the host is there.
for file in SECRET /proc/self/environ /dev/kit/etc/passwd; do
    echo "#include \"$file\"" > s.c
    if gcc -c s.c 2> said; then exit 1; fi
    grep -qi 'no such file\|not permitted\|error' said
done
printf '.incbin "SECRET"\n' > s.S
if gcc -c s.S 2> said; then exit 1; fi
if ln -s SECRET link.c && gcc -c link.c 2> said; then exit 1; fi
# Nothing of the guest runs on the host, wherever compilers look for their parts.
printf '#!/bin/sh\ntouch /ran\nexit 1\n' > evil
chmod 755 evil
parts=$(echo /usr/lib/gcc/*/12)
mv $parts/cc1 real
cp evil $parts/as
cp evil $parts/cc1
echo /work/evil.so > /etc/ld.so.preload
cp a.c /etc/ld.so.cache
gcc -c a.c 2> said
rm /etc/ld.so.preload /etc/ld.so.cache $parts/as
mv real $parts/cc1
test ! -s said
nm a.o | grep -q ' x$'
COMPILER_PATH=/work GCC_EXEC_PREFIX=/work/ LD_PRELOAD=/work/evil.so gcc -c a.c 2> said
test ! -e /ran
# What makes a compiler run something is the guest's business.
gcc -wrapper ./evil -c a.c || true
test -e /ran
rm /ran
# Devices of the guest.
gcc -c a.c -o /dev/null
test -c /dev/null
# Callers that go away, and output without end.
printf '#define A B B B B B B B B\n#define B C C C C C C C C\n#define C D D D D D D D D\n' > big.c
printf '#define D E E E E E E E E\n#define E F F F F F F F F\n#define F G G G G G G G G\n' >> big.c
printf '#define G H H H H H H H H\n#define H I I I I I I I I\nA A A A A A A A\n' >> big.c
gcc -E big.c | head -c 1000 > some
test $(wc -c < some) = 1000
timeout 1 gcc -E big.c -o big.i && exit 1
# Others are served meanwhile and afterwards.
gcc -E big.c > /dev/null &
stuck=$!
kill -STOP $stuck
gcc -c a.c
kill -KILL $stuck
gcc -c a.c
# A caller that is nobody's.
chmod 777 /work
setpriv --reuid 65534 --clear-groups gcc -c a.c -o nobody.o
test "$(stat -c %u nobody.o a.o | tr '\n' ' ')" = '65534 0 '
mkdir -p "$DESTDIR"
"##;

#[test]
fn a_guest_gets_compilers_and_nothing_else_of_the_host() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let secret = scratch.file("secret.h", "int secret;\n");
    let step = built(&HOSTILE.replace("SECRET", &secret.display().to_string())).remove(0);
    assert_eq!(step["compiled"]["refused"]["the option -wrapper"], 1, "{step}");
    assert_eq!(step["compiled"]["refused"]["the caller is user 65534"], 1, "{step}");
    // It is the first process of its namespace: with it the kernel ends all compilers.
    wait_until("no server of compilers is left", Duration::from_secs(10), || servers().is_empty());
    // Tests beside this one are of other architectures, which a compiler's arguments name.
    let target = match guest_arch().as_str() {
        "x86_64" => "x86_64-linux-gnu",
        "armv8l64" => "aarch64-linux-gnu",
        _ => "",
    };
    wait_until("no compiler is left", Duration::from_secs(10), || {
        processes_with("/dev/parts/").iter().all(|line| !line.contains(target))
    });
}

#[test]
fn whatever_ends_a_build_nothing_of_it_is_left() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let run_directory = shared_store().join("run").display().to_string();
    for signal in ["-INT", "-KILL"] {
        let name = fresh_name("in-view");
        let definitions = tree(&scratch, &[(&name, &[], "sleep 1000")]);
        let events = scratch.join(&name);
        let mut command: Command = outcrop();
        command.args(["build", &name, "--compile", "host", "--transport", "virtiofs"]);
        command.arg("--definitions").arg(&definitions).arg("--events").arg(&events);
        let mut build = command.stderr(Stdio::null()).spawn().unwrap();
        wait_until("the guest is at work", Duration::from_secs(120), || {
            std::fs::read_to_string(&events).is_ok_and(|text| text.contains("\"guest-ready\""))
        });
        assert!(!servers().is_empty());
        run(Command::new("kill").args([signal, &build.id().to_string()])).ok();
        build.wait().unwrap();
        wait_until("the end of the server", Duration::from_secs(20), || servers().is_empty());
        run(outcrop().args(["kit", "list"])).ok();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&run_directory), "after {signal}: {mounts}");
    }
}

#[test]
fn what_the_host_cannot_do_is_told_before_anything_starts() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("in-view");
    let definitions = tree(&scratch, &[(&name, &[], "true")]);
    let mut command: Command = outcrop();
    command.args(["build", &name, "--compile", "host", "--transport", "9p", "--definitions"]);
    run(command.arg(&definitions)).fails(3).says("it needs virtiofs").says("--compile distcc");
}

#[test]
fn a_compiler_that_a_dependency_brings_is_the_one_that_compiles() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (brings, uses) = (fresh_name("brings"), fresh_name("uses"));
    let bring = "mkdir -p $DESTDIR/usr/bin; printf '#!/bin/sh\\necho own\\n' > $DESTDIR/usr/bin/gcc\n\
                 chmod 755 $DESTDIR/usr/bin/gcc";
    let call = "mkdir -p $DESTDIR; test \"$(gcc)\" = own";
    let chunks = [(brings.as_str(), &[][..], bring), (uses.as_str(), &[brings.as_str()][..], call)];
    let definitions = tree(&scratch, &chunks);
    let mut command: Command = outcrop();
    command.args(["build", &uses, "--arch", &guest_arch(), "--definitions"]);
    run(command.arg(&definitions)).ok().says("the guest compiles: /usr/bin/gcc is of ");
}

/// Those of builds in this store; other tests run beside, with stores of their own.
fn servers() -> Vec<String> {
    processes_with(&format!("compile-calls {}", shared_store().join("run").display()))
}

/// Builds a chunk with `--compile host`; gives its steps.
fn built(script: &str) -> Vec<Value> {
    let scratch = Scratch::new();
    let name = fresh_name("in-view");
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let mut command: Command = outcrop();
    command.args(["build", &name, "--arch", &guest_arch(), "--compile", "host", "--json"]);
    command.args(["--transport", "virtiofs"]);
    let said = run(command.arg("--definitions").arg(&definitions)).ok();
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    report["steps"].as_array().unwrap().clone()
}
