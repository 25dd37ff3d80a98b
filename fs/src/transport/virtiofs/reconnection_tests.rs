//! Guests that come one after the other to one server, with queues in memory of their own.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::server::VirtiofsServer;
use crate::node::{Ino, ROOT_INO};
use crate::transport::caching::Caching;
use crate::transport::fuse_message::request_bytes::*;
use crate::view::memory_tree::MemoryTree;

/// The queue of the requests that somebody waits for.
const QUEUE: usize = 1;
const QUEUE_SIZE: u16 = 16;

/// Where things lie in the guest's memory.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const REQUEST: u64 = 0x3000;
const REPLY: u64 = 0x4000;
const ROOM: u32 = 0x1000;
const MEMORY: usize = 0x5000;

const PATIENCE: Duration = Duration::from_secs(60);

/// QEMU and a guest's kernel in one, as far as a server sees them. Dropping it cuts the connection.
struct Machine {
    memory: GuestMemoryMmap,
    kick: EventFd,
    asked: u16,
    _connection: Frontend,
}

impl Machine {
    fn connect(socket: &Path) -> Machine {
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(MEMORY as u64).unwrap();
        let range = (GuestAddress(0), MEMORY, Some(FileOffset::new(file, 0)));
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        let kick = EventFd::new(0).unwrap();

        let mut connection = Frontend::connect(socket, 2).unwrap();
        connection.get_features().unwrap();
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        connection.set_features(1 << VIRTIO_F_VERSION_1 | protocol).unwrap();
        connection.get_protocol_features().unwrap();
        connection.set_protocol_features(VhostUserProtocolFeatures::MQ).unwrap();
        connection.set_owner().unwrap();
        let region = memory.find_region(GuestAddress(0)).unwrap();
        let region = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        connection.set_mem_table(&[region]).unwrap();
        let host = |place| memory.get_host_address(GuestAddress(place)).unwrap() as u64;
        let queue = VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: host(DESCRIPTORS),
            used_ring_addr: host(USED),
            avail_ring_addr: host(AVAILABLE),
            log_addr: None,
        };
        connection.set_vring_num(QUEUE, QUEUE_SIZE).unwrap();
        connection.set_vring_addr(QUEUE, &queue).unwrap();
        connection.set_vring_base(QUEUE, 0).unwrap();
        connection.set_vring_call(QUEUE, &EventFd::new(0).unwrap()).unwrap();
        connection.set_vring_kick(QUEUE, &kick).unwrap();
        connection.set_vring_enable(QUEUE, true).unwrap();

        let mut machine = Machine { memory, kick, asked: 0, _connection: connection };
        machine.ask(&initial(38, u64::MAX)).unwrap();
        machine
    }

    fn put<T: ByteValued>(&self, place: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(place)).unwrap();
    }

    /// A descriptor of the table (virtio 1.1, 2.6.5).
    fn describe(&self, number: u16, (address, length): (u64, u32), flags: u32, next: u16) {
        let place = DESCRIPTORS + 16 * u64::from(number);
        self.put(place, address);
        self.put(place + 8, length);
        self.put(place + 12, flags as u16);
        self.put(place + 14, next);
    }

    /// Puts a request into the queue and does not wait for the reply.
    fn post(&mut self, message: &[u8]) {
        self.memory.write_slice(message, GuestAddress(REQUEST)).unwrap();
        self.describe(0, (REQUEST, message.len() as u32), VRING_DESC_F_NEXT, 1);
        self.describe(1, (REPLY, ROOM), VRING_DESC_F_WRITE, 0);
        self.put(AVAILABLE + 4 + 2 * u64::from(self.asked % QUEUE_SIZE), 0_u16);
        self.asked += 1;
        self.memory.store(self.asked, GuestAddress(AVAILABLE + 2), Ordering::Release).unwrap();
        self.kick.write(1).unwrap();
    }

    /// The body of the reply, or the errno.
    fn ask(&mut self, message: &[u8]) -> Result<Vec<u8>, i32> {
        self.post(message);
        let answered =
            || self.memory.load::<u16>(GuestAddress(USED + 2), Ordering::Acquire).unwrap();
        wait_until("a reply", || answered() == self.asked);
        let slot = u64::from((self.asked - 1) % QUEUE_SIZE);
        let length: u32 = self.memory.read_obj(GuestAddress(USED + 4 + 8 * slot + 4)).unwrap();
        let mut reply = vec![0; length as usize];
        self.memory.read_slice(&mut reply, GuestAddress(REPLY)).unwrap();
        assert_eq!(reply[8..16], UNIQUE.to_le_bytes());
        match -i32::from_le_bytes(reply[4..8].try_into().unwrap()) {
            0 => Ok(reply[16..].to_vec()),
            errno => Err(errno),
        }
    }

    fn create(&mut self, name: &[u8]) -> Ino {
        number(&self.ask(&creating(35, ROOT_INO, (2, 0o100_644, 0), name)).unwrap())
    }

    fn lookup(&mut self, name: &[u8]) -> Ino {
        number(&self.ask(&request(1, ROOT_INO, &body().name(name).0)).unwrap())
    }

    fn read(&mut self, ino: Ino) -> Result<Vec<u8>, i32> {
        self.ask(&reading(15, ino, 0, 100))
    }
}

/// The inode at the beginning of a `fuse_entry_out`.
fn number(entry: &[u8]) -> Ino {
    u64::from_le_bytes(entry[..8].try_into().unwrap())
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn after_a_guest_that_was_cut_off_in_a_request_the_next_one_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let tree = Arc::new(MemoryTree::new());
    let server = VirtiofsServer::start(tree.clone(), &socket, Caching::immutable()).unwrap();

    let mut first = Machine::connect(&socket);
    let file = first.create(b"file");
    first.ask(&writing(file, 0, 0, b"of the first")).unwrap();
    let removed = first.create(b"removed");
    first.ask(&request(10, ROOT_INO, &body().name(b"removed").0)).unwrap();
    assert_eq!(tree.node_count(), 3, "the first guest holds what it has removed");
    let held_up = tree.hold_up_changes();
    first.post(&writing(file, 0, 0, b"OF"));
    wait_until("the request", || tree.is_waited_for());
    drop(first);
    drop(held_up);
    // Not only when the next one says INIT.
    wait_until("the holds of the first guest", || tree.node_count() == 2);

    let mut second = Machine::connect(&socket);
    assert_eq!(second.read(removed), Err(libc::ESTALE));
    assert_eq!(second.lookup(b"file"), file);
    assert_eq!(second.read(file).unwrap(), b"OF the first");
    let written = second.ask(&writing(file, 3, 0, b"the second")).unwrap();
    assert_eq!(written[..4], 10_u32.to_le_bytes());
    assert_eq!(second.read(file).unwrap(), b"OF the second");
    drop(second);
    server.stop();
    assert_eq!(tree.node_count(), 2);
}
