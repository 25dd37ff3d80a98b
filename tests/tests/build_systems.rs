//! Every build system, step and build mode of the definitions, with small sources in real guests.

use std::process::Command;

use outcrop_tests::definitions::fresh_name;
use outcrop_tests::{Scratch, guests_can_run, outcrop, run, samples};

/// Writes `make` files that show what a configuring program was called with.
const CONFIGURING_PROGRAM: &str = r#"#!/bin/sh
echo "$*" > arguments
cat > Makefile <<'END'
all:
	cp arguments built
install:
	install -D built $(or $(INSTALL_ROOT),$(DESTDIR))/usr/share/sample/built
END
"#;

const SETUP_PY: &str = r#"import os, sys
if sys.argv[1] == "build":
    open("built", "w").write("built\n")
else:
    given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
    place = given["--root"] + given["--prefix"] + "/share/sample"
    os.makedirs(place)
    os.rename("built", place + "/built")
"#;

const BUILD_PL: &str = r##"my ($option, $prefix) = @ARGV;
open(my $build, ">", "Build");
print $build "#!/bin/sh\n[ \"\$1\" = install ] || exec touch built\n";
print $build "install -D built $prefix/share/sample/built\n";
chmod 0755, "Build";
$option eq "--prefix" or die;
"##;

const MAKEFILE_PL: &str = "use ExtUtils::MakeMaker;\n\
    WriteMakefile(NAME => 'Outcrop::Sample', VERSION => '1.0', EXE_FILES => ['sample']);\n";

const MAKEFILE_IN: &str = "all:\n\techo @prefix@ > built\n\
    install:\n\tinstall -D built $(DESTDIR)@prefix@/share/sample/built\n";

const AUTOGEN: &str = r#"#!/bin/sh
[ "$NOCONFIGURE" = 1 ] || exit 1
cat > configure <<'END'
#!/bin/sh
echo "$*" > arguments
sed "s:@prefix@:${1#--prefix=}:" Makefile.in > Makefile
END
chmod +x configure
"#;

/// A definitions tree whose chunks have sources.
struct Tree {
    scratch: Scratch,
    stratum: String,
    prefix: String,
}

impl Tree {
    fn new(version: u32) -> Tree {
        let scratch = Scratch::new();
        scratch.file("defs/VERSION", format!("version: {version}\n"));
        scratch.directory("defs/all");
        let stratum = String::from("name: all\nkind: stratum\nchunks:\n");
        Tree { scratch, stratum, prefix: fresh_name("system") }
    }

    /// A chunk called `name` with these files as its source, and these lines in its entry and its
    /// own file. Programs are executable.
    fn chunk(&mut self, name: &str, files: &[(&str, &str)], entry: &str, own: &str) {
        let name = self.name(name);
        self.stratum += &format!("- name: {name}\n  morph: all/{name}.morph\n{entry}");
        let place = self.scratch.directory(&format!("{name}.source"));
        for (path, content) in files {
            std::fs::create_dir_all(place.join(path).parent().unwrap()).unwrap();
            std::fs::write(place.join(path), content).unwrap();
            if content.starts_with("#!") {
                run(Command::new("chmod").arg("755").arg(place.join(path))).ok();
            }
        }
        if !files.is_empty() {
            let tar = self.scratch.join(&format!("{name}.tar"));
            run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&place).arg(".")).ok();
            let digest = samples::sha256(&std::fs::read(&tar).unwrap());
            self.stratum += &format!("  repo: 'tar:{}'\n  sha256: '{digest}'\n", tar.display());
        }
        let chunk = format!("name: {name}\nkind: chunk\n{own}");
        self.scratch.file(&format!("defs/all/{name}.morph"), chunk);
    }

    /// What no earlier run has built.
    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn needs(&self, name: &str) -> String {
        format!("  build-depends: [{}]\n", self.name(name))
    }

    fn on(&self, arguments: &[&str]) -> Command {
        let mut command = outcrop();
        command.args(arguments).args(["--arch", "x86_64", "--definitions"]);
        command.arg(self.scratch.join("defs"));
        command
    }

    fn build(&self, more: &[(&str, &str)]) {
        for (path, content) in more {
            self.scratch.file(&format!("defs/{path}"), content);
        }
        self.scratch.file("defs/all.morph", &self.stratum);
        let strata: Vec<&str> =
            more.iter().filter_map(|(path, _)| path.strip_suffix(".morph")).collect();
        for stratum in ["all"].into_iter().chain(strata) {
            run(&mut self.on(&["build", stratum, "--guests", "2"])).ok();
        }
    }

    fn cat(&self, name: &str, path: &str) -> String {
        run(&mut self.on(&["cat", &self.name(name), path])).ok().stdout
    }
}

fn tools(tree: &mut Tree) {
    let own = "build-system: manual\ninstall-commands:\n\
        - install -D cmake \"$DESTDIR/usr/bin/cmake\"\n\
        - cp cmake \"$DESTDIR/usr/bin/qmake\"\n\
        - ln -s python3 \"$DESTDIR/usr/bin/python\"\n";
    tree.chunk("tools", &[("cmake", CONFIGURING_PROGRAM)], "", own);
}

#[test]
fn build_systems_build() {
    if !guests_can_run() {
        return;
    }
    let mut tree = Tree::new(8);
    tools(&mut tree);
    let needs = tree.needs("tools");
    let system = |name: &str| format!("build-system: {name}\n");
    let module = ("lib/Outcrop/Sample.pm", "package Outcrop::Sample;\n1;\n");
    let sample = ("sample", "#!/usr/bin/perl\nprint 'sample';\n");
    let autoconf = "AC_INIT([sample], [1])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n";
    tree.chunk(
        "reconf",
        &[("configure.ac", autoconf), ("Makefile.in", MAKEFILE_IN)],
        "  prefix: /opt\n",
        &system("autotools"),
    );
    tree.chunk(
        "autogen",
        &[("autogen.sh", AUTOGEN), ("Makefile.in", MAKEFILE_IN)],
        "",
        &system("autotools"),
    );
    tree.chunk("cmake", &[("CMakeLists.txt", "")], &needs, &system("cmake"));
    tree.chunk("qmake", &[("sample.pro", "")], &needs, &system("qmake"));
    tree.chunk("python", &[("setup.py", SETUP_PY)], &needs, &system("python-distutils"));
    tree.chunk("python3", &[("setup.py", SETUP_PY)], "", &system("python3-distutils"));
    tree.chunk("cpan", &[("Makefile.PL", MAKEFILE_PL), module, sample], "", &system("cpan"));
    tree.chunk("modules", &[("Build.PL", BUILD_PL)], "", &system("module-build"));
    tree.build(&[]);
    assert_eq!(tree.cat("reconf", "/opt/share/sample/built"), "/opt\n");
    assert_eq!(tree.cat("autogen", "/usr/share/sample/built"), "/usr\n");
    assert_eq!(tree.cat("cmake", "/usr/share/sample/built"), "-DCMAKE_INSTALL_PREFIX=/usr .\n");
    assert_eq!(tree.cat("qmake", "/usr/share/sample/built"), "-makefile\n");
    for python in ["python", "python3"] {
        assert_eq!(tree.cat(python, "/usr/share/sample/built"), "built\n");
    }
    assert!(tree.cat("cpan", "/usr/lib/perl/Outcrop/Sample.pm").starts_with("package Outcrop"));
    assert!(tree.cat("cpan", "/usr/bin/sample").contains("print 'sample'"));
    assert_eq!(tree.cat("modules", "/usr/share/sample/built"), "");
}

/// Bases of the step lists in their order.
const STEPS: [&str; 6] = ["bootstrap", "configure", "build", "test", "install", "strip"];

#[test]
fn steps_and_build_modes_are_as_documented() {
    if !guests_can_run() {
        return;
    }
    let mut tree = Tree::new(8);
    let mut own = String::from("build-system: manual\nmax-jobs: 1\n");
    let mut expected = String::new();
    // From last to first in the file: the order is the format's.
    for base in STEPS.iter().rev() {
        for part in ["post-", "", "pre-"] {
            own += &format!("{part}{base}-commands:\n");
            own += &format!("- echo {part}{base}:$MAKEFLAGS:$lost >> steps; lost=variable; cd /\n");
            if (part, *base) == ("post-", "strip") {
                own += "- install -D steps \"$DESTDIR$PREFIX/steps\"\n";
            }
        }
    }
    for base in STEPS {
        for part in ["pre-", "", "post-"] {
            let jobs = if base == "build" { "-j1" } else { "" };
            expected += &format!("{part}{base}:{jobs}:\n");
        }
    }
    own += "devices:\n- {type: c, filename: /dev/null, major: 1, minor: 3, permissions: '0666', uid: 0, \
        gid: 0}\n- {type: p, filename: /run/pipe, permissions: '0640', uid: 3, gid: 4}\n";
    tree.chunk("steps", &[], "", &own);
    let tool = "build-system: manual\ninstall-commands:\n\
        - mkdir -p \"$DESTDIR$PREFIX/bin\"; printf '#!/bin/sh\\necho tool\\n' > \"$DESTDIR$PREFIX/bin/stage1\"\n\
        - chmod 755 \"$DESTDIR$PREFIX/bin/stage1\"\n";
    tree.chunk("stage1", &[], "  build-mode: bootstrap\n  prefix: /tools\n", tool);
    let uses = "build-system: manual\ninstall-commands:\n\
        - mkdir \"$DESTDIR/lib\"; stage1 > \"$DESTDIR/lib/used\"\n";
    let needs = tree.needs("stage1");
    tree.chunk("stage2", &[], &needs, uses);
    let outside = fresh_name("outside");
    let above = format!(
        "name: above\nkind: stratum\nbuild-depends:\n- morph: all.morph\nchunks:\n\
         - name: {outside}\n  morph: {outside}.morph\n"
    );
    let outside_file = format!(
        "name: {outside}\nkind: chunk\nbuild-system: manual\ninstall-commands:\n\
         - mkdir \"$DESTDIR/lib\"; cat /lib/used > \"$DESTDIR/lib/seen\"\n\
         - '! command -v stage1; test ! -e /tools'\n"
    );
    let chunk_file = format!("{outside}.morph");
    tree.scratch.file(&format!("defs/{chunk_file}"), outside_file);
    tree.build(&[("above.morph", &above)]);
    assert_eq!(tree.cat("steps", "/usr/steps"), expected);
    assert_eq!(tree.cat("stage2", "/lib/used"), "tool\n");
    assert_eq!(run(&mut tree.on(&["cat", &outside, "/lib/seen"])).ok().stdout, "tool\n");
    let listed = run(&mut tree.on(&["ls", "-R", &tree.name("steps"), "/"])).ok().stdout;
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap_or_default();
    assert!(line("null").starts_with("crw-rw-rw-") && line("null").contains("1,3"), "{listed}");
    assert!(line("pipe").starts_with("prw-r-----"), "{listed}");
}

#[test]
fn an_old_definition_s_build_system_is_detected_in_its_source() {
    if !guests_can_run() {
        return;
    }
    let mut tree = Tree::new(5);
    tools(&mut tree);
    let needs = tree.needs("tools");
    tree.chunk("found", &[("CMakeLists.txt", ""), ("README", "")], &needs, "");
    tree.chunk("suffix", &[("sample.pro", "")], &needs, "");
    tree.build(&[]);
    assert_eq!(tree.cat("found", "/usr/share/sample/built"), "-DCMAKE_INSTALL_PREFIX=/usr .\n");
    assert_eq!(tree.cat("suffix", "/usr/share/sample/built"), "-makefile\n");
}
