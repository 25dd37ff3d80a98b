//! Headers at the edges of their fields.

use super::*;

fn write(path: &[u8], metadata: &Metadata, body: Body<'_>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    append_header(&mut out, &Entry { path, metadata, xattrs: &Xattrs::new(), body })?;
    Ok(out)
}

fn file(size: u64) -> Metadata {
    Metadata { kind: Kind::File, mode: 0o644, size, ..Metadata::default_directory() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn records_only_when_needed() {
    let longest = [vec![b'p'; 155], vec![b'/'], vec![b'n'; 100]].concat();
    let edge = Metadata { uid: 0o7_777_777, gid: 0o7_777_777, ..file(OCTAL_11_MAX) };
    assert_eq!(write(&longest, &edge, Body::Data).unwrap().len(), 512);

    let beyond = [
        (vec![b'n'; 101], file(0), "path="),
        ([vec![b'p'; 156], vec![b'/'], vec![b'n'; 10]].concat(), file(0), "path="),
        (b"f".to_vec(), file(OCTAL_11_MAX + 1), "size=8589934592\n"),
        (b"f".to_vec(), Metadata { uid: 0o10_000_000, ..file(0) }, "uid=2097152\n"),
        (b"f".to_vec(), Metadata { gid: u32::MAX, ..file(0) }, "gid=4294967295\n"),
        (b"f".to_vec(), Metadata { mtime: Timestamp::new(1, 500), ..file(0) }, "mtime=1.0000005\n"),
        (b"f".to_vec(), Metadata { mtime: Timestamp::new(-1, 0), ..file(0) }, "mtime=-1\n"),
    ];
    for (path, metadata, record) in beyond {
        let out = write(&path, &metadata, Body::Data).unwrap();
        assert_eq!(out.len(), 3 * 512, "{record}");
        assert!(text(&out).contains(record), "{record}");
    }
}

#[test]
fn times_before_the_epoch_count_away_from_zero() {
    let cases = [
        (-1, 500_000_000, "-0.5"),
        (-2, 250_000_000, "-1.75"),
        (-1, 999_999_999, "-0.000000001"),
        (-7, 0, "-7"),
        (0, 1, "0.000000001"),
    ];
    for (seconds, nanoseconds, want) in cases {
        assert_eq!(text(&pax::timestamp(Timestamp::new(seconds, nanoseconds))), want);
    }
    assert_eq!(text(&pax::timestamp(Timestamp::new(i64::MIN, 0))), "-9223372036854775808");
}

#[test]
fn a_record_counts_its_own_length() {
    for length in [1, 5, 90, 91, 92, 93, 94, 95, 980, 990, 991, 992, 9_990] {
        let mut records = pax::Records::default();
        records.add(b"k", &vec![b'v'; length]);
        let mut out = Vec::new();
        records.append_to(&mut out);
        let body = text(&out[512..]);
        let (digits, _) = body.split_once(' ').unwrap();
        assert_eq!(body.find('\n').unwrap() + 1, digits.parse::<usize>().unwrap());
    }
}

#[test]
fn long_names_that_are_not_utf8_are_declared_binary() {
    let out = write(&[0xff; 120], &file(0), Body::Data).unwrap();
    assert!(text(&out).contains("21 hdrcharset=BINARY\n"));
    let out = write(&[b'x'; 120], &file(0), Body::Data).unwrap();
    assert!(!text(&out).contains("hdrcharset"));
}

#[test]
fn what_tar_cannot_carry_is_refused_and_appends_nothing() {
    let directory = Metadata::default_directory();
    let socket = Metadata { kind: Kind::Socket, ..file(0) };
    let symlink = Metadata { kind: Kind::Symlink, ..file(0) };
    let overlap = [Extent { offset: 0, length: 5 }, Extent { offset: 4, length: 1 }];
    let beyond = [Extent { offset: u64::MAX, length: 2 }];
    let cases: [(&[u8], &Metadata, Body<'_>); 12] = [
        (b"s", &socket, Body::None),
        (b"/f", &file(0), Body::Data),
        (b"f/", &file(0), Body::Data),
        (b"a//f", &file(0), Body::Data),
        (b"a/../f", &file(0), Body::Data),
        (b"a\0b", &file(0), Body::Data),
        (b"l", &symlink, Body::Target(b"a\0b")),
        (b"l", &file(0), Body::HardLink(b"../x")),
        (b"d", &directory, Body::HardLink(b"x")),
        (b"d", &directory, Body::Data),
        (b"f", &file(10), Body::Sparse(&overlap)),
        (b"f", &file(10), Body::Sparse(&beyond)),
    ];
    for (path, metadata, body) in cases {
        let error = write(path, metadata, body).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}
