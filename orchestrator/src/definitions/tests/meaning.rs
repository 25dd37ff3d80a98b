//! What good definitions mean.

use std::collections::BTreeSet;

use super::super::*;
use super::{parse, tree};

fn chunk_of(definitions: &Definitions, path: &str) -> Chunk {
    definitions.get(definitions.find(path).unwrap()).unwrap().chunk().unwrap().clone()
}

#[test]
fn text_fields_keep_what_was_written() {
    let stratum = "
name: s
kind: stratum
chunks:
- {name: 1.10, repo: r, ref: 5.10, unpetrify-ref: 1_23_1, build-system: manual}
- {name: x, repo: r, ref: 0123, unpetrify-ref: yes, build-system: manual}
- {name: y, repo: r, ref: 12e4567, build-system: manual}
";
    let definitions = parse(&[("s.morph", stratum)]).unwrap();
    let source = |path| chunk_of(&definitions, path).source.unwrap();
    assert_eq!(source("s/1.10").reference.unwrap(), "5.10");
    assert_eq!(source("s/1.10").unpetrify_ref.unwrap(), "1_23_1");
    assert_eq!(source("s/x").reference.unwrap(), "0123");
    assert_eq!(source("s/x").unpetrify_ref.unwrap(), "yes");
    assert_eq!(source("s/y").reference.unwrap(), "12e4567");
}

#[test]
fn both_readers_read_the_same() {
    let plain = "
name: s
kind: stratum
chunks:
- &first {name: x, repo: r, ref: 1.0, build-system: manual, prefix: /opt}
- {name: y, repo: r, ref: 0x10, build-system: manual, prefix: /opt}
";
    let merged = "
name: s
kind: stratum
chunks:
- &first {name: x, repo: r, ref: 1.0, build-system: manual, prefix: /opt}
- {<<: *first, name: y, ref: 0x10}
";
    let (a, b) = (parse(&[("s.morph", plain)]).unwrap(), parse(&[("s.morph", merged)]).unwrap());
    assert_eq!(a.components, b.components);
}

#[test]
fn every_published_file_is_read_alike_by_both_readers() {
    let Some(directory) = super::published::directory() else { return };
    let files = load::read_files(&directory);
    let mut compared = 0;
    for file in &files.definitions {
        let text = std::str::from_utf8(&file.text).unwrap();
        if text.contains("<<") || text.contains("kind: cluster") {
            continue;
        }
        let mut problems = problem::Collector::default();
        let fast: raw::RawFile = yaml::read(&file.path, text, &mut problems).unwrap();
        let exact: raw::RawFile = yaml::read_exact(&file.path, text, &mut problems).unwrap();
        assert_eq!(format!("{fast:?}"), format!("{exact:?}"), "{}", file.path);
        compared += 1;
    }
    assert!(compared > 700);
}

#[test]
fn parameters_follow_yaml_1_1() {
    let stratum = "{name: s, kind: stratum, chunks: [{name: x, build-system: manual}]}";
    let system = "{name: y, kind: system, arch: x86_64, strata: [{morph: s.morph}]}";
    let cluster = "
name: k
kind: cluster
systems:
- morph: y.morph
  deploy-defaults: {HOSTNAME: outer, DISK: 1.10}
  deploy:
    one:
      <<: &common {type: tar, location: x.tar}
      YES: yes
      QUOTED: 'yes'
      TAGGED: !!str yes
      EMPTY:
      OCTAL: 010
    two: {<<: *common, location: y.tar, HOSTNAME: own, LIST: [{a: 1}]}
  subsystems:
  - morph: y.morph
    deploy-defaults: {DISK: inner}
    deploy: {three: {type: initramfs}}
";
    let files = [("s.morph", stratum), ("y.morph", system), ("k.morph", cluster)];
    let definitions = parse(&files).unwrap();
    let cluster = definitions.get(definitions.select("k").unwrap()).unwrap();
    let Detail::Cluster(cluster) = &cluster.detail else { panic!("{cluster:?}") };
    let [entry] = cluster.systems.as_slice() else { panic!("{cluster:?}") };
    let [one, two] = entry.deployments.as_slice() else { panic!("{entry:?}") };
    let text = |text: &str| Parameter::Text(text.to_owned());
    assert_eq!((one.label.as_str(), two.label.as_str()), ("one", "two"));
    assert_eq!(one.parameters["YES"], Parameter::Boolean(true));
    assert_eq!(one.parameters["QUOTED"], text("yes"));
    assert_eq!(one.parameters["TAGGED"], text("yes"));
    assert_eq!(one.parameters["EMPTY"], Parameter::Null);
    assert_eq!(one.parameters["OCTAL"], text("010"));
    assert_eq!(one.parameters["DISK"], text("1.10"));
    assert_eq!(one.parameters["HOSTNAME"], text("outer"));
    assert_eq!(one.parameters["location"], text("x.tar"));
    assert_eq!(two.parameters["type"], text("tar"));
    assert_eq!(two.parameters["location"], text("y.tar"));
    assert_eq!(two.parameters["HOSTNAME"], text("own"));
    let map = Parameter::Map(vec![("a".to_owned(), text("1"))]);
    assert_eq!(two.parameters["LIST"], Parameter::List(vec![map]));
    let three = &entry.subsystems[0].deployments[0];
    assert_eq!(three.parameters["DISK"], text("inner"));
    assert_eq!(three.parameters["HOSTNAME"], text("outer"));
    assert_eq!(cluster.all_systems().len(), 2);
}

fn plan_of(fields: &str) -> Plan {
    let definitions = parse(&[("c.morph", &format!("name: c\nkind: chunk\n{fields}\n"))]).unwrap();
    definitions.plan(&chunk_of(&definitions, "c"), &["configure"])
}

fn shape(plan: &Plan) -> String {
    plan.steps.iter().map(|s| s.name.label()).collect::<Vec<_>>().join(" ")
}

#[test]
fn steps_come_in_their_order_with_defaults_filled_in() {
    let plan = plan_of(
        "build-system: autotools\npost-install-commands: [c]\npre-configure-commands: [a]\n\
         build-commands: [b, b2]",
    );
    assert_eq!(shape(&plan), "pre-configure configure build install post-install");
    assert_eq!(plan.steps[2].commands, ["b", "b2"]);
    assert_eq!(plan.steps[3].commands, [r#"make DESTDIR="$DESTDIR" install"#]);
    assert!(plan.strip_in_process);

    let plan = plan_of("build-system: autotools\nbuild-commands: []\nstrip-commands: []");
    assert_eq!(shape(&plan), "configure install");
    assert!(!plan.strip_in_process);

    let plan =
        plan_of("strip-commands: [strip x]\npre-bootstrap-commands: [x]\ntest-commands: [true]");
    assert_eq!(shape(&plan), "pre-bootstrap test strip");
    assert_eq!(plan.steps[1].commands, ["true"]);
    assert!(!plan.strip_in_process);
}

#[test]
fn an_old_chunk_without_a_build_system_is_detected() {
    let text = "name: c\nkind: chunk\n";
    let definitions = |version| {
        Definitions::parse(&tree(version, &[("c.morph", text)]), Reading::Strict).unwrap()
    };
    let old = definitions("5");
    let chunk = chunk_of(&old, "c");
    assert_eq!(old.build_system(&chunk), BuildSystemChoice::Detect);
    assert_eq!(shape(&old.plan(&chunk, &["setup.py", "README"])), "build install");
    assert_eq!(old.defaults.detect(&["x.pro", "CMakeLists.txt"]), "cmake");
    assert_eq!(old.defaults.detect(&["app.pro"]), "qmake");
    assert_eq!(old.defaults.detect(&["README"]), "manual");
    let new = definitions("6");
    assert_eq!(new.build_system(&chunk), BuildSystemChoice::Named("manual"));
}

#[test]
fn sections_missing_in_defaults_are_ours_as_a_whole() {
    let mut files = tree("8", &[("c.morph", "name: c\nkind: chunk\nbuild-system: mine\n")]);
    let text = "build-systems: {mine: {build-commands: [mine], strip-commands: [x]}}\ncpus: {}\n";
    files.defaults = Some(TextFile { path: "DEFAULTS".into(), text: text.into() });
    let definitions = Definitions::parse(&files, Reading::Strict).unwrap();
    assert_eq!(definitions.defaults.build_systems.len(), 1);
    assert_eq!(definitions.defaults.chunk_rules, Defaults::default().chunk_rules);
    let plan = definitions.plan(&chunk_of(&definitions, "c"), &[]);
    assert_eq!(shape(&plan), "build");
    assert!(plan.strip_in_process);
}

#[test]
fn the_environment_is_exact() {
    let stratum =
        "{name: s, kind: stratum, chunks: [{name: x, build-system: manual, prefix: /opt}]}";
    let definitions = parse(&[("s.morph", stratum)]).unwrap();
    let chunk = chunk_of(&definitions, "s/x");
    let staged = BTreeSet::from(["/usr".to_owned(), "/tools".to_owned(), "/opt".to_owned()]);
    let arch = Arch::find("armv7lhf").unwrap();
    let inputs = EnvironmentInputs::chunk("x", &chunk, arch, &staged, Some(77), 3);
    let shown = |step| {
        let variables = environment(&inputs, step);
        variables.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
    };
    let expected = [
        "DESTDIR=/x.inst",
        "HOME=/tmp",
        "LC_ALL=C",
        "LOGNAME=outcrop",
        "MAKEFLAGS=-j3",
        "MORPH_ARCH=armv7lhf",
        "PATH=/opt/bin:/tools/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PREFIX=/opt",
        "SHELL=/bin/sh",
        "SOURCE_DATE_EPOCH=77",
        "TARGET=armv7lhf-baserock-linux-gnueabi",
        "TARGET_STAGE1=armv7lhf-bootstrap-linux-gnueabi",
        "TERM=dumb",
        "TZ=UTC",
        "USER=outcrop",
        "USERNAME=outcrop",
    ];
    assert_eq!(shown(Some(StepName::PostBuild)), expected);
    let without: Vec<_> = expected.into_iter().filter(|v| !v.starts_with("MAKEFLAGS")).collect();
    assert_eq!(shown(Some(StepName::Install)), without);
    let system = environment(&EnvironmentInputs::system("y", arch, &staged), None);
    assert!(!system.contains_key("SOURCE_DATE_EPOCH"));
}

#[test]
fn triplets() {
    for (name, target) in [
        ("x86_64", "x86_64-baserock-linux-gnu"),
        ("x86_32", "i686-baserock-linux-gnu"),
        ("armv5l", "armv5l-baserock-linux-gnueabi"),
        ("armv8l64", "aarch64-baserock-linux-gnu"),
        ("armv8b64", "aarch64_be-baserock-linux-gnu"),
        ("mips64l", "mips64el-baserock-linux-gnuabi64"),
        ("mips32b", "mips-baserock-linux-gnu"),
    ] {
        assert_eq!(Arch::find(name).unwrap().target(), target);
    }
    assert_eq!(Arch::find("sparc"), None);
}

#[test]
fn paths_are_split_by_the_first_rule_that_matches() {
    let own = [SplitRule { artifact: "c-conf".into(), include: vec!["etc/.*".into()] }];
    let splitter = Splitter::new("c", &own, &Defaults::default().chunk_rules).unwrap();
    for (path, artifact) in [
        ("usr/bin/x", "c-bins"),
        ("sbin/init", "c-bins"),
        ("usr/bin", "c-bins"),
        ("usr/lib/libc.so.6.1", "c-libs"),
        ("lib64/libm.so", "c-libs"),
        ("usr/lib/libc.a", "c-devel"),
        ("usr/share/pkgconfig/x.pc", "c-devel"),
        ("usr/share/man/man1/x.1", "c-doc"),
        ("usr/share/locale/de/x.mo", "c-locale"),
        ("etc/passwd", "c-conf"),
        ("etc", "c-conf"),
        ("var/lib/x", "c-misc"),
        ("libexec/x", "c-misc"),
    ] {
        assert_eq!(splitter.artifact(path.as_bytes()), Some(artifact), "{path}");
    }
    assert_eq!(splitter.artifact(b"usr/bin/\xff"), Some("c-bins"));
    assert_eq!(Splitter::new("c", &own, &[]).unwrap().artifact(b"usr/bin/x"), None);
    assert_eq!(
        splitter.artifacts(),
        ["c-conf", "c-bins", "c-libs", "c-devel", "c-doc", "c-locale", "c-misc"]
    );
}

#[test]
fn a_system_takes_what_it_selects() {
    let stratum = "
name: s
kind: stratum
products: [{artifact: s-tools, include: ['x-bins']}]
chunks:
- {name: x, build-system: manual, artifacts: {x-doc: s-tools}}
";
    let definitions = parse(&[("s.morph", stratum)]).unwrap();
    let id = definitions.find("s").unwrap();
    let member = &definitions.get(id).unwrap().stratum().unwrap().members[0];
    let select = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|&n| n.to_owned()).collect();
        definitions.selected_artifacts(id, member, Some(&names)).unwrap()
    };
    assert_eq!(select(&["s-tools"]), ["x-bins", "x-doc"]);
    assert_eq!(select(&["s-devel"]), ["x-devel"]);
    assert_eq!(select(&["s-runtime"]), ["x-libs", "x-locale", "x-misc"]);
    assert_eq!(select(&["nothing"]), [""; 0]);
    assert_eq!(definitions.selected_artifacts(id, member, None).unwrap().len(), 6);
}

#[test]
fn a_chunk_of_several_strata_gives_what_any_of_them_takes() {
    let stratum =
        |name: &str| format!("{{name: {name}, kind: stratum, chunks: [{{morph: x.morph}}]}}");
    let (one, two) = (stratum("one"), stratum("two"));
    let system =
        |strata: &str| format!("{{kind: system, name: y, arch: x86_64, strata: [{strata}]}}");
    let takes = |strata: &str| -> Vec<bool> {
        let files = [
            ("x.morph", "{name: x, kind: chunk}"),
            ("one.morph", one.as_str()),
            ("two.morph", two.as_str()),
            ("y.morph", &system(strata)),
        ];
        let definitions = parse(&files).unwrap();
        let find = |path: &str| definitions.find(path).unwrap();
        let selection = definitions.selection(find("y"), find("x")).unwrap();
        let paths = [&b"usr/include/a.h"[..], b"usr/bin/a", b"usr/share/man/a"];
        paths.map(|path| selection.as_ref().is_none_or(|taken| taken.takes(path))).to_vec()
    };
    assert_eq!(takes("{morph: one.morph}"), [true, true, true]);
    assert_eq!(takes("{morph: one.morph, artifacts: [one-devel]}"), [true, false, true]);
    let both =
        "{morph: one.morph, artifacts: [one-devel]}, {morph: two.morph, artifacts: [two-runtime]}";
    assert_eq!(takes(both), [true, true, true]);
    let all = "{morph: one.morph, artifacts: [one-devel]}, {morph: two.morph}";
    assert_eq!(takes(all), [true, true, true]);
    assert_eq!(takes("{morph: one.morph, artifacts: []}"), [false, false, false]);
}

fn system_with(integration: [&str; 3]) -> Definitions {
    let chunk = |name: &str, integration: &str| {
        format!("{{name: {name}, kind: chunk, system-integration: {integration}}}")
    };
    let stratum = "
name: s
kind: stratum
chunks:
- {name: a, morph: a.morph}
- {name: b, morph: b.morph}
- {name: boot, morph: boot.morph, build-mode: bootstrap}
";
    let system = "{name: y, kind: system, arch: x86_64, strata: [{morph: s.morph}]}";
    let [a, b, boot] = integration;
    parse(&[
        ("a.morph", &chunk("a", a)),
        ("b.morph", &chunk("b", b)),
        ("boot.morph", &chunk("boot", boot)),
        ("s.morph", stratum),
        ("y.morph", system),
    ])
    .unwrap()
}

#[test]
fn integration_is_sorted_by_script_and_artifact() {
    let definitions = system_with([
        "{a-misc: {01-late: [x, y]}, a-bins: {00-early: [z]}}",
        "{b-misc: {00-early: [w]}}",
        "{boot-misc: {00-boot: [never]}}",
    ]);
    let steps = definitions.integration(definitions.find("y").unwrap()).unwrap();
    let shown: Vec<_> =
        steps.iter().map(|s| format!("{} {}", s.key, s.commands.join("+"))).collect();
    assert_eq!(shown, ["00-early-a-bins z", "00-early-b-misc w", "01-late-a-misc x+y"]);
}

#[test]
fn two_chunks_with_one_integration_key_are_refused() {
    let same = "{shared: {00-x: [echo]}}";
    let definitions = system_with([same, same, "{}"]);
    let error = definitions.integration(definitions.find("y").unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "y: the integration script `00-x-shared` comes from both a and b; rename one of them"
    );
}

#[test]
fn published_systems_integrate_without_conflict() {
    let Some(definitions) = super::published::definitions() else { return };
    let mut steps = 0;
    for (id, component) in definitions.iter() {
        if component.kind() == Kind::System {
            steps += definitions.integration(id).unwrap().len();
        }
    }
    assert!(steps > 100);
}

#[test]
fn targets() {
    let files = [
        (
            "strata/zookeeper.morph",
            "{name: zookeeper, kind: stratum, chunks: [{name: zookeeper, build-system: manual}]}",
        ),
        (
            "systems/gstreamer-0.10.morph",
            "{name: gstreamer-0.10, kind: system, arch: x86_64, strata: [{morph: strata/zookeeper.morph}]}",
        ),
    ];
    let definitions = parse(&files).unwrap();
    let path = |target| definitions.select(target).map(|id| definitions.path_of(id).to_owned());
    assert_eq!(path("gstreamer-0.10").unwrap(), "systems/gstreamer-0.10");
    assert_eq!(path("./systems/gstreamer-0.10.morph").unwrap(), "systems/gstreamer-0.10");
    assert_eq!(path("strata/zookeeper").unwrap(), "strata/zookeeper");
    assert_eq!(path("strata/zookeeper/zookeeper").unwrap(), "strata/zookeeper/zookeeper");
    assert_eq!(
        path("zookeeper").unwrap_err().to_string(),
        "`zookeeper` is the name of 2 components; give the path of one: strata/zookeeper, \
         strata/zookeeper/zookeeper"
    );
    assert_eq!(
        path("gstreamer-0.11").unwrap_err().to_string(),
        "there is no component `gstreamer-0.11`; did you mean `gstreamer-0.10`?"
    );
    assert_eq!(path("").unwrap_err().to_string(), "there is no component ``");
}

#[test]
fn files_are_read_in_byte_order_without_hidden_directories() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["a-b/z", "a/z", "a/c/d", "b", "a/b", ".hidden/x", "a/.git/x"];
    for file in files {
        let path = directory.path().join(format!("{file}.morph"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "name: x\nkind: chunk\n").unwrap();
    }
    std::fs::write(directory.path().join("a/notes.txt"), "no").unwrap();
    let files = load::read_files(directory.path());
    let names: Vec<_> = files.definitions.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(names, ["b.morph", "a/b.morph", "a/z.morph", "a-b/z.morph", "a/c/d.morph"]);
    let missing =
        load::load(&directory.path().join("nowhere"), Reading::Strict).unwrap_err().to_string();
    assert!(missing.starts_with(".: error: the directory cannot be read:"), "{missing}");
}
