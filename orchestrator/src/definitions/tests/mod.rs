mod compat;
mod files;
mod hostile;
mod meaning;
pub(crate) mod published;
mod validation;

use super::{Definitions, Files, Problems, Reading, TextFile};

/// Definitions of version 8 from paths and texts.
pub(crate) fn parse(files: &[(&str, &str)]) -> Result<Definitions, Problems> {
    Definitions::parse(&tree("8", files), Reading::Strict)
}

pub(crate) fn tree(version: &str, files: &[(&str, &str)]) -> Files {
    let file =
        |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.as_bytes().to_vec() };
    Files {
        version: Some(file("VERSION", &format!("version: {version}\n"))),
        defaults: None,
        unreadable: Vec::new(),
        definitions: files.iter().map(|(path, text)| file(path, text)).collect(),
    }
}
