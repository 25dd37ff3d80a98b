//! Objects are the same whoever compiles: the host for a guest, or the guest by itself.

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{Scratch, guest_arch, guests_can_run, outcrop, run};

/// What compilers do differently from each other, in a few lines: optimised loops, floating point,
/// string literals, alloca beside the stack protector, C++ with exceptions and templates, debug
/// information, assembly as output.
const SOURCES: &str = r#"
# Debug information has the directory's name, and a chunk's own is its name.
mkdir /objects
cd /objects
cat > a.c <<'END'
#include <alloca.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
static const char *names[] = {"one", "two", "three"};
double area(double radius) { return M_PI * radius * radius; }
unsigned long sum(const unsigned *from, unsigned long count)
{
    unsigned long total = 0;
    for (unsigned long i = 0; i < count; i++) total += from[i] * 3u;
    return total;
}
int fill(int length)
{
    char *buffer = alloca(length + 1);
    char fixed[32];
    memset(buffer, 'x', length);
    buffer[length] = 0;
    snprintf(fixed, sizeof fixed, "%s %s", names[length % 3], buffer);
    return (int)strlen(fixed);
}
END
cat > b.cpp <<'END'
#include <map>
#include <stdexcept>
#include <string>
std::map<std::string, int> counts;
int count(const std::string &name)
{
    if (name.empty()) throw std::invalid_argument("no name");
    return ++counts[name];
}
END
"#;

const COMMANDS: &str = r#"
gcc -O2 -c a.c -o o2.o
gcc -Os -fPIC -pipe -c a.c -o pic.o
gcc -O0 -g -c a.c -o debug.o
gcc -O2 -fstack-protector-strong -c a.c -o protected.o
gcc -O2 -S a.c -o a.s
g++ -O2 -c b.cpp -o b.o
g++ -O1 -g -std=c++17 -c b.cpp -o b17.o
# Columns of declarations in debug information differ (docs/compile-service.md).
strip -g debug.o b17.o
mkdir -p "$DESTDIR/objects"
cp *.o *.s "$DESTDIR/objects/"
cd "$DESTDIR/objects" && sha256sum * > ../sums
"#;

#[test]
fn the_host_makes_the_objects_that_the_guest_makes() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let mut sums = Vec::new();
    for compile in ["guest", "distcc"] {
        let name = fresh_name("objects");
        let definitions = tree(&scratch, &[(&name, &[], &format!("{SOURCES}{COMMANDS}"))]);
        let said = build(&definitions, &name, compile);
        let sent = said.contains("jobs compiled by the host");
        assert_eq!(sent, compile == "distcc", "--compile {compile}:\n{said}");
        let mut cat = outcrop();
        cat.args(["cat", &name, "/sums", "--arch", &guest_arch(), "--definitions"]);
        sums.push(run(cat.arg(&definitions)).ok().stdout);
    }
    assert_eq!(sums[0].lines().count(), 7, "{}", sums[0]);
    assert_eq!(sums[0], sums[1], "compiled by the guest, and by the host");
}

/// Builds, and gives what was said.
fn build(definitions: &Path, name: &str, compile: &str) -> String {
    let mut command: Command = outcrop();
    command.args(["build", name, "--arch", &guest_arch(), "--compile", compile, "--definitions"]);
    run(command.arg(definitions)).ok().stderr
}
