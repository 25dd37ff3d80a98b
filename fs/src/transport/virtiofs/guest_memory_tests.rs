use std::io::Write;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::*;

/// Guest memory with parts of these lengths, a gap after each.
struct Guest {
    memory: GuestMemoryMmap,
    parts: Vec<(u64, usize)>,
}

const GAP: usize = 3;

impl Guest {
    fn new(lengths: &[usize]) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        memory.write_slice(&[0xee; 1 << 16], GuestAddress(0)).unwrap();
        let mut parts = Vec::new();
        let mut at = 0;
        for length in lengths {
            parts.push((at as u64, *length));
            at += length + GAP;
        }
        Guest { memory, parts }
    }

    fn reply(&self) -> GuestReply<'_> {
        let slices = self.parts.iter().flat_map(|(at, length)| {
            GuestMemoryBackend::get_slices(&self.memory, GuestAddress(*at), *length)
                .map(Result::unwrap)
        });
        GuestReply::new(slices.collect())
    }

    /// The parts one after the other; what lies between them must be untouched.
    fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for (at, length) in &self.parts {
            let mut bytes = vec![0; length + GAP];
            self.memory.read_slice(&mut bytes, GuestAddress(*at)).unwrap();
            assert_eq!(bytes[*length..], [0xee; GAP], "written beyond a part");
            content.extend_from_slice(&bytes[..*length]);
        }
        content
    }
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

proptest! {
    /// A header at the beginning and content after it, from everywhere that content comes from.
    #[test]
    fn what_is_put_lies_in_the_parts(
        lengths in proptest::collection::vec(0_usize..50, 0..20),
        header in proptest::collection::vec(any::<u8>(), 0..20),
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        zeros in 0_u64..100,
        from_file in proptest::collection::vec(any::<u8>(), 0..200),
        missing in 0_u64..10,
    ) {
        let guest = Guest::new(&lengths);
        let room: usize = lengths.iter().sum();
        let expected = [
            header.as_slice(), &bytes, &vec![0; zeros as usize], &from_file,
        ].concat();
        let mut reply = guest.reply();
        prop_assert_eq!(reply.room(), room);
        reply.go_to(header.len());
        let source = file(&from_file);
        let mut put = || -> Result<u64> {
            reply.bytes(&bytes)?;
            reply.zeros(zeros)?;
            let wanted = from_file.len() as u64 + missing;
            let taken = reply.file(&source, 0, wanted).map_err(|_| Errno::NOBUFS)?;
            reply.go_to(0);
            reply.bytes(&header)?;
            Ok(taken)
        };
        let result = put();
        // A file that is shorter than was hoped for needs no room for what is not there, but it is
        // only known to end once there is some.
        if expected.len() + usize::from(missing > 0) <= room {
            prop_assert_eq!(result.unwrap(), from_file.len() as u64);
            let content = guest.content();
            prop_assert_eq!(&content[..expected.len()], expected.as_slice());
            prop_assert!(content[expected.len()..].iter().all(|byte| *byte == 0xee));
        } else if expected.len() > room {
            prop_assert!(result.is_err());
            guest.content();
        }
    }
}

#[test]
fn a_file_is_read_from_its_offset_into_many_parts() {
    let content: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
    let guest = Guest::new(&[2; 1500]);
    let mut reply = guest.reply();
    // More parts than one system call takes.
    assert_eq!(reply.file(&file(&content), 1000, 3000).unwrap(), 3000);
    assert_eq!(guest.content(), content[1000..4000]);
}
