//! Objects are the same whoever compiles: the host for a guest, or the guest by itself.

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{
    Scratch, as_user, guest_arch, guests_can_run, outcrop, run, shared_store, wait_until,
};

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
# Columns in debug information differ, and nothing else (docs/compile-service.md).
for name in debug b17; do
    readelf -W --debug-dump=info $name.o | sed -e '/_column  *:/d' -e 's/<[0-9a-f]*>//g' > $name.info
    readelf -W --debug-dump=decodedline $name.o | awk '{ print $1, $2 }' | sort -u > $name.lines
    test $(wc -l < $name.info) -gt 100
    test $(wc -l < $name.lines) -gt 10
    strip -g $name.o
done
# What would not be the same is not compiled by the host.
cat > location.cpp <<'END'
#include <source_location>
#define HERE std::source_location::current(  )
unsigned column() { return   HERE  .column(); }
END
gcc -O0 -fsanitize=undefined -c a.c -o checked.o
gcc -O0 -g -P -c a.c -o unmarked.o
gcc -O0 -g -fno-working-directory -c a.c -o elsewhere.o
g++ -O2 -std=c++20 -c location.cpp -o location.o
# Programs that know no large files, as all are by default where a long has 32 bits, want small inode numbers.
cat > stat.c <<'END'
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
int main(void)
{
    struct stat status;
    DIR *directory = opendir("/usr/include");
    int entries = 0;
    while (directory && readdir(directory)) entries++;
    if (entries < 10) perror("readdir");
    if (stat("/usr/include/stdio.h", &status) != 0) perror("stat");
    else if (entries >= 10) return 0;
    return 1;
}
END
gcc -g -c stat.c -o stat.o
gcc stat.o -o stat
./stat
# A program has a sum of its debug information.
strip -g stat.o
strip -R .note.gnu.build-id stat
mkdir -p "$DESTDIR/objects"
cp *.o *.s *.info *.lines stat "$DESTDIR/objects/"
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
    assert_eq!(sums[0].lines().count(), 17, "{}", sums[0]);
    assert_eq!(sums[0], sums[1], "compiled by the guest, and by the host");
}

/// A second after a source that only the guest can compile, the host is asked again.
const FAILING: &str = r#"
cat > comment.c <<'END'
int f(int a) { switch (a) { case 1: a++; /* fall through */ case 2: a++; } return a; }
END
cat > macro.c <<'END'
#include <stddef.h>
#define NONNULL(p) ((p) != NULL)
int f(void) { char a[4]; return NONNULL(a); }
END
echo 'int x = ;' > bad.c
gcc -Wextra -Werror -c comment.c > said 2>&1
sleep 2
gcc -Wall -Werror -c macro.c >> said 2>&1
test ! -s said
sleep 2
if gcc -c bad.c 2> said; then exit 1; fi
test "$(grep -c 'bad.c:1:9: error' said)" = 1
if grep distcc said; then exit 1; fi
mkdir -p "$DESTDIR"
"#;

#[test]
fn what_fails_on_the_host_is_tried_by_the_guest() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("failing");
    let definitions = tree(&scratch, &[(&name, &[], FAILING)]);
    let said = build(&definitions, &name, "distcc");
    assert!(said.contains("0 of 3 jobs compiled by the host"), "{said}");
    assert!(said.contains("3 by the guest: failed on the host"), "{said}");
}

/// What the host refuses, with a message; and what it does not.
const ALONE: &str = r#"
echo '__asm__(".incbin \"/etc/hostname\"");' > incbin.c
if gcc -c incbin.c 2> said; then exit 1; fi
grep 'the host does not compile this: an assembler statement reads a file' said
echo 'int main(void) { return 0; }' > a.c
gcc -O2 -c a.c
for name in 1 2 3 4 5; do gcc a.o -o a; done
mkdir -p "$DESTDIR"
"#;

#[test]
fn a_guest_that_must_not_compile_is_told_why_and_its_programs_are_counted() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("alone");
    let definitions = tree(&scratch, &[(&name, &[], ALONE)]);
    let mut command: Command = outcrop();
    command.args(["build", &name, "--arch", &guest_arch(), "--json"]);
    command.args(["--compile", "distcc-only", "--definitions"]);
    let said = run(command.arg(&definitions)).ok();
    let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let step = &report["steps"][0];
    assert_eq!(
        (&step["compiled"]["sent"], &step["compiled"]["compiled"]),
        (&2.into(), &1.into()),
        "{step}"
    );
    let programs = &step["guest_programs"];
    assert_eq!(programs["ld"]["processes"], 5, "{step}");
    // A guest's only processor cannot have been at work for longer than the step took.
    let seconds = |name: &str| programs[name]["cpu_seconds"].as_f64().unwrap();
    assert!(seconds("cc1") > 0.0 && seconds("ld") > 0.0, "{step}");
    let all =
        programs.as_object().unwrap().values().map(|one| one["cpu_seconds"].as_f64().unwrap());
    assert!(all.sum::<f64>() <= step["seconds"].as_f64().unwrap() * 1.1 + 0.5, "{step}");
    assert!(said.stderr.contains("linkers "), "{}", said.stderr);
}

/// One source that takes the host a second or more, six times at once.
const MANY: &str = r#"
mkdir /objects
cd /objects
n=0
while [ $n -lt 2500 ]; do
    echo "int f$n(int *a, int b) { for (int i = 0; i < b; i++) a[i] = a[i] * $n + (b >> 3); return *a; }"
    n=$((n + 1))
done > a.c
for name in 1 2 3 4 5 6; do gcc -O2 -c a.c -o $name.o & done
wait
mkdir -p "$DESTDIR"
sha256sum *.o | cut -d ' ' -f 1 > "$DESTDIR/sums"
"#;

#[test]
fn other_machines_make_the_same_objects_when_this_one_is_busy() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let server = DistccServer::start();
    let name = fresh_name("farm");
    let definitions = tree(&scratch, &[(&name, &[], MANY)]);
    let toml = definitions.join("outcrop.toml");
    let settings = std::fs::read_to_string(&toml).unwrap_or_default();
    let wrong = "127.0.0.1:1";
    let servers = format!("distcc-servers = [\"{wrong}\", \"{}/6\"]\n", server.address);
    std::fs::write(&toml, settings + &servers).unwrap();
    let said = build(&definitions, &name, "distcc");
    assert!(said.contains(&format!("{wrong} is not used")), "{said}");
    assert!(said.contains("6 of 6 jobs compiled"), "{said}");
    assert!(said.contains(&format!("by {}", server.address)), "{said}");
    let mut cat = outcrop();
    cat.args(["cat", &name, "/sums", "--arch", &guest_arch(), "--definitions"]);
    let sums = run(cat.arg(&definitions)).ok().stdout;
    assert_eq!(sums.lines().count(), 6, "{sums}");
    assert!(sums.lines().all(|sum| Some(sum) == sums.lines().next()), "{sums}");
}

#[test]
fn a_program_that_is_replaced_while_it_builds_goes_on_compiling() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (first, second) = (fresh_name("before"), fresh_name("after"));
    let compile = "echo 'int x;' > a.c; gcc -c a.c; mkdir -p \"$DESTDIR\"; cp a.o \"$DESTDIR\"";
    let chunks: [(&str, &[&str], &str); 2] =
        [(&first, &[], compile), (&second, &[first.as_str()], compile)];
    let definitions = tree(&scratch, &chunks);
    let program = scratch.join("outcrop");
    std::fs::copy(outcrop_tests::program(), &program).unwrap();
    outcrop_tests::give_to_user(&program);
    let events = scratch.join("events");
    let mut command = as_user(&program);
    command.env("OUTCROP_AGENT_DIR", outcrop_tests::program().parent().unwrap());
    command.args(["build", &second, "--arch", &guest_arch(), "--definitions"]);
    command.arg(&definitions).arg("--events").arg(&events);
    let build = std::thread::spawn(move || run(&mut command).ok().stderr);
    wait_until("the first guest is at work", Duration::from_secs(120), || {
        std::fs::read_to_string(&events).is_ok_and(|text| text.contains("\"guest-ready\""))
    });
    // As an upgrade does: the new program has the name of the old one.
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!/bin/sh\nexit 9\n").unwrap();
    let said = build.join().unwrap();
    assert_eq!(said.matches("1 of 1 job compiled by the host").count(), 2, "{said}");
}

/// A second after each, for that is how long the client then asks nobody.
const FEW: &str = r#"
echo 'int x = 1;' > a.c
for name in 1 2 3; do gcc -c a.c -o $name.o; sleep 1.1; done
cmp 1.o 2.o
cmp 1.o 3.o
mkdir -p "$DESTDIR"
"#;

#[test]
fn a_killed_endpoint_costs_its_job_nothing_but_time() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    for (compile, code) in [("distcc", 0), ("distcc-only", 1)] {
        let name = fresh_name("killed");
        let definitions = tree(&scratch, &[(&name, &[], FEW)]);
        let mut command: Command = outcrop();
        command.args(["build", &name, "--arch", &guest_arch(), "--compile", compile, "--json"]);
        command.arg("--definitions").arg(&definitions);
        let build = std::thread::spawn(move || run(&mut command));
        let store = shared_store().display().to_string();
        let mut killed = 0;
        while !build.is_finished() {
            let mut kill = Command::new("pkill");
            kill.args(["-KILL", "-f", &format!("compile-endpoint {store}")]);
            killed += u32::from(kill.status().unwrap().success());
            std::thread::sleep(Duration::from_millis(10));
        }
        let said = build.join().unwrap();
        assert!(killed > 0, "{}", said.stderr);
        if code != 0 {
            said.fails(code);
            continue;
        }
        let said = said.ok();
        let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        let step = &report["steps"][0];
        let by_guest = step["guest_programs"]["as"]["processes"].as_u64();
        assert!(by_guest >= Some(1), "{killed} were killed: {step}");
        assert!(said.stderr.contains(" by the guest's assembler"), "{}", said.stderr);
    }
}

/// distcc's own, as the ordinary user, until this is dropped.
struct DistccServer {
    child: Child,
    address: String,
}

impl DistccServer {
    fn start() -> DistccServer {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = as_user("distccd")
            .args(["--no-detach", "--daemon", "--log-file", "/dev/null", "--jobs", "6"])
            .args(["--listen", "127.0.0.1", "--allow", "127.0.0.0/8", "--port", &port.to_string()])
            .process_group(0)
            .spawn()
            .expect("distcc is installed by scripts/setup --for-tests");
        let server = DistccServer { child, address: format!("127.0.0.1:{port}") };
        wait_until("distccd listens", Duration::from_secs(20), || {
            TcpStream::connect(&server.address).is_ok()
        });
        server
    }
}

impl Drop for DistccServer {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Builds, and gives what was said.
fn build(definitions: &Path, name: &str, compile: &str) -> String {
    let mut command: Command = outcrop();
    command.args(["build", name, "--arch", &guest_arch(), "--compile", compile, "--definitions"]);
    run(command.arg(definitions)).ok().stderr
}
