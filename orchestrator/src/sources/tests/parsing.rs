use std::path::Path;

use super::super::apt::{deb822_sources, one_line_sources, parse_showsrc};
use super::super::debian::mirror_name;
use super::super::patches::parse_series;
use super::super::submodules::join_url;
use super::super::*;

const DIGEST: &str = "62adfca89b0a1c0164c2cdca59ca210c1d44c3ffc46daf9931cf4942664cb02a";

fn parse(repo: &str, reference: &str, sha256: &str) -> Result<SourceSpec> {
    fn some(text: &str) -> Option<&str> {
        Some(text).filter(|text| !text.is_empty())
    }
    let fields =
        SourceFields { repo, reference: some(reference), sha256: some(sha256), patches: false };
    SourceSpec::parse(fields, &Aliases::default(), Path::new("/defs"))
}

fn git(url: &str) -> SourceSpec {
    SourceSpec::Git { url: Url::new(url), reference: "r".to_owned() }
}

#[test]
fn repositories_and_aliases() {
    let delta = "git://git.baserock.org/delta/";
    assert_eq!(parse("upstream:zlib", "r", "").unwrap(), git(&format!("{delta}zlib")));
    for url in ["https://example.org/x", "file:///srv/x.git", "/srv/x", "git://h/x"] {
        assert_eq!(parse(url, "r", "").unwrap(), git(url));
    }
    let mut aliases = Aliases::default();
    aliases.set("upstream", "https://example.org/mirror/");
    aliases.set("upstream:local/", "/srv/git/");
    assert_eq!(aliases.expand("upstream:zlib"), git_url("mirror/zlib.git"));
    assert_eq!(aliases.expand("upstream:zlib.git"), git_url("mirror/zlib.git"));
    assert_eq!(aliases.expand("upstream:local/zlib"), "/srv/git/zlib");
    assert_eq!(aliases.expand("https://x/upstream:zlib"), "https://x/upstream:zlib");
    let mut aliases = Aliases::none();
    aliases.set("up", "debian:");
    let fields = SourceFields { repo: "up:zlib", reference: Some("1-1"), ..Default::default() };
    let spec = SourceSpec::parse(fields, &aliases, Path::new("/")).unwrap();
    assert!(matches!(spec, SourceSpec::Debian(DebianSpec { name, .. }) if name == "zlib"));
}

fn git_url(rest: &str) -> String {
    format!("https://example.org/{rest}")
}

#[test]
fn revisions_are_names() {
    for good in ["v1.0", "main", "feature/x", "refs/tags/v1", &"a".repeat(40), "1.0-3-gabcdef0"] {
        assert!(parse("https://h/x", good, "").is_ok(), "{good}");
        assert!(parse("series:x", good, "").is_ok(), "{good}");
    }
    for bad in ["main~2", "v1^{}", ":/fix", "HEAD", "main@{1}", "a..b", "-x y", "main:"] {
        for repo in ["https://h/x", "series:x"] {
            let error = parse(repo, bad, "").unwrap_err().to_string();
            assert!(error.contains("no commit, tag or branch by name"), "{bad}: {error}");
        }
    }
}

#[test]
fn archives_need_their_checksum() {
    let spec = parse("tar:src/x", "", DIGEST).unwrap();
    let location = Location::Path(PathBuf::from("/defs/src/x"));
    assert_eq!(
        spec,
        SourceSpec::Archive { location, sha256: Sha256Digest::parse(DIGEST).unwrap() }
    );
    let url = "https://example.org/bc-1.07.tar.gz";
    assert!(matches!(
        parse(url, "", &DIGEST.to_uppercase()).unwrap(),
        SourceSpec::Archive { location: Location::Url(found), .. } if found == Url::new(url)
    ));
    for (repo, reference, sha256, part) in [
        (url, "", "", "`sha256` is missing"),
        (url, "v1", DIGEST, "has no `ref`"),
        (url, "", "abc", "is not a SHA-256"),
        ("tar:ftp://x/y.tar", "", DIGEST, "archives come from"),
        ("https://example.org/repo", "r", DIGEST, "write tar:"),
    ] {
        let error = parse(repo, reference, sha256).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn debian_packages() {
    let spec = parse("debian:zlib", "1:1.2.13.dfsg-1", DIGEST).unwrap();
    assert_eq!(parse("debian:zlib=1:1.2.13.dfsg-1", "", DIGEST).unwrap(), spec);
    for (repo, reference, part) in [
        ("debian:zlib", "", "version is missing"),
        ("debian:zlib=1", "2", "name the version once"),
        ("debian:--yes", "1", "not the name"),
        ("debian:a/../b", "1", "not the name"),
        ("debian:zlib", "v1 2", "not a Debian version"),
        ("debian:zlib", "-1", "not a Debian version"),
    ] {
        let error = parse(repo, reference, "").unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn series_are_named_and_pinned() {
    let series = |repo: &str| match parse(repo, "app-1.0", "").unwrap() {
        SourceSpec::Series { name, reference } => (name.to_string(), name.mirror(), reference),
        other => panic!("{other:?}"),
    };
    let reference = || "app-1.0".to_owned();
    let wanted = ("gcc-tarball".to_owned(), "series_gcc-tarball".to_owned(), reference());
    assert_eq!(series("series:gcc-tarball"), wanted);
    let wanted = ("perl/a_b+c".to_owned(), "series_perl%2fa_b+c".to_owned(), reference());
    assert_eq!(series("series:perl/a_b+c"), wanted);
    // An alias leads there, for one repository or for all of a prefix.
    let mut aliases = Aliases::default();
    aliases.set("upstream:gcc-tarball", "series:gcc-tarball");
    aliases.set("tarballs", "series:");
    for (repo, name) in [("upstream:gcc-tarball", "gcc-tarball"), ("tarballs:a/b", "a/b")] {
        let fields = SourceFields { repo, reference: Some("r"), ..Default::default() };
        let spec = SourceSpec::parse(fields, &aliases, Path::new("/")).unwrap();
        let name = SeriesName::parse(name).unwrap();
        assert_eq!(spec, SourceSpec::Series { name, reference: "r".to_owned() });
    }
    let long = format!("series:{}", "x".repeat(151));
    for (repo, reference, sha256, part) in [
        ("series:", "r", "", "cannot be the name of a series"),
        ("series:../x", "r", "", "cannot be the name of a series"),
        ("series:a//b", "r", "", "cannot be the name of a series"),
        ("series:/a", "r", "", "cannot be the name of a series"),
        ("series:a b", "r", "", "cannot be the name of a series"),
        ("series:a%2fb", "r", "", "cannot be the name of a series"),
        ("series:-a", "r", "", "cannot be the name of a series"),
        (long.as_str(), "r", "", "cannot be the name of a series"),
        ("series:app", "", "", "`ref` is missing"),
        ("series:app", "r", DIGEST, "has no `sha256`"),
    ] {
        let error = parse(repo, reference, sha256).unwrap_err().to_string();
        assert!(error.contains(part), "{repo}: {error}");
    }
}

#[test]
fn what_is_no_source_says_so() {
    for (repo, part) in [
        ("upstrem:zlib", "neither a known alias"),
        ("relative/path", "neither a known alias"),
        ("git@github.com:a/b.git", "ssh is not supported"),
        ("ssh://host/x", "ssh is not supported"),
        ("", "neither a known alias"),
    ] {
        let error = parse(repo, "r", "").unwrap_err().to_string();
        assert!(error.contains(part), "{repo}: {error}");
    }
    assert!(parse("/srv/x", "", "").unwrap_err().to_string().contains("`ref` is missing"));
    let fields = SourceFields { repo: "/x", patches: true, ..Default::default() };
    assert!(SourceSpec::parse(fields, &Aliases::default(), Path::new("/")).is_err());
}

#[test]
fn mirror_names_of_urls_are_baserocks() {
    assert_eq!(
        spec::mirror_name("git://git.baserock.org/delta/zlib"),
        "git___git_baserock_org_delta_zlib"
    );
    assert_eq!(spec::mirror_name("https://h/a-b%20c_d.git"), "https___h_a_b%20c_d");
    assert_eq!(spec::mirror_name("/srv/x.git/"), "_srv_x");
}

#[test]
fn host_lists_become_source_entries() {
    let text = "# comment\n\
        deb [arch=amd64 signed-by=/k.gpg] http://a/debian  bookworm main contrib # why\n\
        deb-src [signed-by=/k.gpg] http://a/debian bookworm main contrib\n\
        deb\thttp://b/debian stable/\n\
        rpm http://c x\n";
    assert_eq!(
        one_line_sources(text),
        [
            "deb-src [signed-by=/k.gpg] http://a/debian bookworm main contrib",
            "deb-src http://b/debian stable/",
        ]
    );
    let text = "# head\nTypes: deb\nURIs: http://a/debian\n# a comment inside\nSuites: x\n  y\n\
        Components: main\nArchitectures: amd64\nSigned-By:\n -----BEGIN\n .\n -----END\n\n\n\
        Types: deb\nURIs: http://off\nSuites: x\nEnabled: no\n";
    assert_eq!(
        deb822_sources(text),
        ["Types: deb-src\nURIs: http://a/debian\nSuites: x\n  y\nComponents: main\nSigned-By:\n \
          -----BEGIN\n .\n -----END\n"]
    );
}

#[test]
fn source_index_and_files_of_a_package() {
    let text = format!(
        "Package: x\nVersion: 1:2-3\nFormat: 3.0 (quilt)\nFiles:\n a 1 x.dsc\nChecksums-Sha256:\n \
         {DIGEST} 10 x_2-3.dsc\n {DIGEST} 10 x_2.orig.tar.xz\n {DIGEST} 9 x_2.orig.tar.xz.asc\n \
         {DIGEST} 10 x_2.orig-doc.tar.gz\n {DIGEST} 10 x_2-3.debian.tar.xz\n nonsense\n\n\
         Package: x-other\nVersion: 9\n\n\
         Package: x\nVersion: 4\nFormat: 3.0 (native)\nChecksums-Sha256:\n {DIGEST} 1 x_4.tar.xz\n"
    );
    let found = parse_showsrc(&text, "x");
    let versions: Vec<_> = found.iter().map(|package| package.version.as_str()).collect();
    assert_eq!(versions, ["1:2-3", "4"]);
    let files = found[0].classify().unwrap();
    assert_eq!(files.main.name, "x_2.orig.tar.xz");
    assert_eq!(files.components[0].0, "doc");
    assert_eq!(files.packaging.unwrap().name, "x_2-3.debian.tar.xz");
    let native = found[1].classify().unwrap();
    assert_eq!((native.main.name.as_str(), native.packaging), ("x_4.tar.xz", None));
    assert!(parse_showsrc("", "x").is_empty());
}

#[test]
fn mirrors_of_versions_are_distinct() {
    let versions = ["1:1.2~rc1+dfsg-1", "1", "1..2", "9-1+b1"];
    let mut names: Vec<_> =
        versions.iter().flat_map(|v| [false, true].map(|p| mirror_name("zlib", v, p))).collect();
    assert_eq!(names[0], "debian_zlib_1%3a1.2%7erc1+dfsg-1");
    assert_eq!(names[3], "debian_zlib_1%patched");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8);
}

#[test]
fn series_and_relative_urls() {
    let series = "# all\n\nfix.patch\n sub/b.diff -p0 # why\nc.patch -R -p2\n";
    let expected = [("fix.patch", 1), ("sub/b.diff", 0), ("c.patch", 2)];
    assert_eq!(parse_series(series), expected.map(|(name, strip)| (name.to_owned(), strip)));
    assert_eq!(join_url("https://h/p/x.git", "../a.git"), "https://h/p/a.git");
    assert_eq!(join_url("/srv/x/", "./a"), "/srv/x/a");
    assert_eq!(join_url("/srv/x", "https://h/a"), "https://h/a");
}
