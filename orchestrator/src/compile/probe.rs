//! Whether a distcc server compiles as this host does.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::endpoint::Compiler;
use super::farm::{Answer, RemoteJob, Server};

/// How long a server may take for the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Enough of C for compilers of other versions or targets to differ in it. C++ takes it, too. The
/// line marker keeps the name of the file out of the comparison.
const PROBE: &str = "# 1 \"probe\"
struct pair { long first; double second; };
static double sum(const struct pair *pairs, int count) {
    double total = 0;
    for (int at = 0; at < count; at++)
        total += pairs[at].second * (double)pairs[at].first;
    return total;
}
int probe(struct pair *pairs, int count, unsigned kind) {
    switch (kind % 7) {
    case 0: return (int)sum(pairs, count);
    case 3: pairs[1] = pairs[0]; return count / 10;
    case 5: return __builtin_popcountl(pairs->first) << kind;
    default: return (int)(kind * 2654435761u >> 7) % (count + 1);
    }
}
";

/// Whether a server makes of the probe what this host's compiler makes of it. Where only assembly will
/// be asked of it, assembly is compared.
pub(super) fn compiles_alike(server: &Server, compiler: &Compiler) -> Result<bool, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| directory.path().join(name);
    let extension = if compiler.name.contains("++") { "ii" } else { "i" };
    let source = path(&format!("input.{extension}"));
    std::fs::write(&source, PROBE).map_err(|error| error.to_string())?;
    let how = if compiler.ident.is_some() { "-S" } else { "-c" };
    let arguments = ["-O2".into(), how.into()];
    let (ours, theirs) = (path("ours"), path("theirs"));
    let own = Command::new(&compiler.program)
        .args(&arguments)
        .arg(&source)
        .arg("-o")
        .arg(&ours)
        .stdin(Stdio::null())
        .output();
    if !own.is_ok_and(|output| output.status.success()) {
        return Err(format!("this host's {} fails", compiler.program.display()));
    }
    let job = RemoteJob {
        compiler: compiler.program.file_name().unwrap_or_default(),
        arguments: &arguments,
        source: &source,
        extension,
        deadline: Instant::now() + PROBE_LIMIT,
        client: None,
        most: 1 << 20,
    };
    let said = path("said");
    let answer = Answer { output: &theirs, stdout: &path("stdout"), stderr: &said };
    let read = |path: &Path| std::fs::read(path).map_err(|error| error.to_string());
    match server.compile(&job, &answer) {
        Ok(true) => Ok(read(&ours)? == read(&theirs)?),
        Ok(false) => {
            let said = String::from_utf8_lossy(&read(&said)?).trim().to_owned();
            let program = job.compiler.to_string_lossy();
            Err(format!("its {program} fails{}{said}", if said.is_empty() { "" } else { ": " }))
        }
        Err(error) => Err(error.to_string()),
    }
}
