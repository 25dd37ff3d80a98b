//! Paths as archives spell them, made relative and clean.

#![forbid(unsafe_code)]

/// Strips leading `/` and `./`, a trailing `/`, and empty or `.` components. Empty: the root.
pub(super) fn clean(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut clean = Vec::with_capacity(raw.len());
    if raw.contains(&0) {
        return Err("its path contains a NUL byte");
    }
    for component in raw.split(|&b| b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err("its path has a '..' component"),
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_what_means_nothing() {
        assert_eq!(clean(b"./"), Ok(vec![]));
        assert_eq!(clean(b"/"), Ok(vec![]));
        assert_eq!(clean(b"./usr//bin/./sh"), Ok(b"usr/bin/sh".to_vec()));
        assert_eq!(clean(b"//etc/"), Ok(b"etc".to_vec()));
        assert_eq!(clean(b"..."), Ok(b"...".to_vec()));
    }

    #[test]
    fn refuses_to_leave() {
        assert!(clean(b"a/../b").is_err());
        assert!(clean(b"..").is_err());
        assert!(clean(b"a\0b").is_err());
    }
}
