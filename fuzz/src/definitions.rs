//! Any bytes as a tree of definitions: read in both ways, and what was read asked everything.

use outcrop::definitions::{Arch, Definitions, Files, Problem, Reading, Severity, TextFile};
use outcrop::graph::Graph;
use outcrop::graph::check::{Checked, check};
use outcrop::keys::{KeyContext, Keys, SourceIdentity, ybd};

/// Begins a line that names the file of those after it.
const SEPARATOR: &str = "=== ";

pub fn run(bytes: &[u8]) {
    let files = files(bytes);
    let strict = read(&files, Reading::Strict);
    let compatible = read(&files, Reading::Compatible);
    let Some(strict) = strict else { return };
    // YBD's way makes warnings of errors, and changes nothing else.
    let compatible = compatible.expect("what is right is right in YBD's way, too");
    assert!(strict.iter().eq(compatible.iter()), "YBD's way changes what is right");
}

fn files(bytes: &[u8]) -> Files {
    let mut files = Files::default();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let Some(path) = line.strip_prefix(SEPARATOR.as_bytes()) else { continue };
        let path = String::from_utf8_lossy(path).trim_end().to_owned();
        let mut text = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with(SEPARATOR.as_bytes())) {
            text.extend_from_slice(line);
        }
        let file = TextFile { path, text };
        match file.path.as_str() {
            "VERSION" => files.version = Some(file),
            "DEFAULTS" => files.defaults = Some(file),
            // No directory has two of one name, or others among its definitions.
            name if !name.ends_with(".morph")
                || files.definitions.iter().any(|f| f.path == name) => {}
            _ => files.definitions.push(file),
        }
    }
    files
}

/// What can be used of a tree, if it can.
fn read(files: &Files, reading: Reading) -> Option<Definitions> {
    let Checked { problems, .. } = check(files, reading, true);
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    for problem in &problems {
        assert!(!problem.message.is_empty() && !problem.file.is_empty(), "{problem:?}");
    }
    let definitions = match Definitions::parse(files, reading) {
        Ok(definitions) => definitions,
        Err(_) => {
            assert!(problems.iter().any(is_error), "refused without an error");
            return None;
        }
    };
    let graph = Graph::whole(&definitions);
    if !problems.iter().any(is_error) {
        let graph = graph.expect("a cycle is an error");
        ask_everything(&definitions, &graph);
    }
    Some(definitions)
}

fn ask_everything(definitions: &Definitions, graph: &Graph) {
    for (id, component) in definitions.iter() {
        assert_eq!(definitions.find(&component.path), Some(id));
        definitions.integration(id).expect("scripts of one key are an error");
        graph.staged_dependencies(definitions, id);
        for chunk in graph.system_chunks(definitions, id) {
            definitions.selection(id, chunk).expect("rules that cannot be used are an error");
        }
        if let Some(chunk) = component.chunk() {
            definitions.plan(chunk, &["configure", "setup.py"]);
        }
    }
    let source = || SourceIdentity { tree: "0".repeat(40), time: 0 };
    for arch in Arch::ALL {
        // A system of another architecture has no key.
        let context = KeyContext { arch, kit: &|_| String::new() };
        let _ = Keys::compute(definitions, graph, &context, |_| Ok::<_, String>(source()));
        for version in (0..).map_while(ybd::Version::new) {
            let tree = |_: &_| Ok::<_, String>(source().tree);
            let keys = ybd::keys(definitions, graph, arch, version, tree);
            assert_eq!(keys.map(|keys| keys.len()).ok(), Some(definitions.len()));
        }
    }
}
