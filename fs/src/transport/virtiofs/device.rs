//! The vhost-user device: takes requests off the queues and puts replies there.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::io::FdFlags;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringRwLock, VringT};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_queue::{DescriptorChain, QueueT};
use vm_memory::{
    GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryLoadGuard,
    GuestMemoryMmap, GuestMemoryResult, VolatileSlice,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use super::guest_memory::GuestReply;
use super::patience::Patience;
use super::session::{LONGEST_REQUEST, SHORTEST_REQUEST, Session};

/// Forgets go through a queue of their own, everything else through the other. Guests have one
/// processor, so that more queues would only wait for each other.
const QUEUES: usize = 2;
/// The queue, and thread, of the requests that somebody in the guest waits for.
const REQUESTS: usize = 1;
/// What QEMU is told to make, and what a transfer of 1 MiB in pages needs.
const QUEUE_SIZE: usize = 1024;

pub(super) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

pub(super) struct Device {
    session: Arc<Session>,
    memory: Memory,
    event_index: AtomicBool,
    exit_events: Mutex<Vec<RawFd>>,
    /// Of the queue of requests; only its thread locks it.
    patience: Mutex<Patience>,
}

thread_local! {
    /// One request, copied out of guest memory: every thread handles one at a time.
    static REQUEST: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Device {
    pub(super) fn new(session: Arc<Session>, memory: Memory) -> Self {
        Device {
            session,
            memory,
            event_index: AtomicBool::new(false),
            exit_events: Mutex::default(),
            patience: Mutex::default(),
        }
    }

    /// Descriptors that the library took over and does not close. Nobody uses them any more once
    /// the daemon is gone.
    pub(super) fn take_exit_events(&self) -> Vec<RawFd> {
        std::mem::take(&mut *self.exit_events.lock())
    }

    /// Answers everything that is in a queue now; whether there was anything.
    fn serve(&self, vring: &VringRwLock) -> io::Result<bool> {
        let mut any = false;
        loop {
            let memory = self.memory.memory();
            let chain = vring.get_mut().get_queue_mut().pop_descriptor_chain(memory.clone());
            let Some(chain) = chain else { return Ok(any) };
            any = true;
            let head = chain.head_index();
            let length = REQUEST.with_borrow_mut(|request| {
                self.answer(&memory, chain, request).unwrap_or_else(|problem| {
                    log::debug!("virtiofs: a request that cannot be used: {problem}");
                    0
                })
            });
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            vring.add_used(head, length).map_err(io::Error::other)?;
            if vring.needs_notification().map_err(io::Error::other)? {
                vring.signal_used_queue()?;
            }
        }
    }

    /// Answers requests for as long as they come close after each other.
    fn serve_awake(&self, vring: &VringRwLock) -> io::Result<()> {
        let mut patience = self.patience.lock();
        loop {
            let found = Instant::now();
            let mut now = found;
            if self.serve(vring)? {
                now = Instant::now();
                patience.answered(found, now);
            }
            if !patience.waits(now) || self.session.is_closed() {
                return Ok(());
            }
            rustix::thread::sched_yield();
            patience.gave_way(now, Instant::now());
        }
    }

    /// Copies the request out, answers it into the chain, and returns the bytes of the reply.
    fn answer(
        &self,
        memory: &GuestMemoryMmap,
        chain: DescriptorChain<GuestMemoryLoadGuard<GuestMemoryMmap>>,
        request: &mut Vec<u8>,
    ) -> Result<usize, String> {
        request.clear();
        let mut reply: Vec<VolatileSlice<'_>> = Vec::new();
        for descriptor in chain {
            let length = descriptor.len() as usize;
            if descriptor.is_write_only() {
                for part in parts(memory, descriptor.addr(), length) {
                    reply.push(part.map_err(|error| error.to_string())?);
                }
                continue;
            }
            if request.len().saturating_add(length) > LONGEST_REQUEST {
                return Err(format!("it is longer than {LONGEST_REQUEST} bytes"));
            }
            for part in parts(memory, descriptor.addr(), length) {
                let part = part.map_err(|error| error.to_string())?;
                let start = request.len();
                request.resize(start.saturating_add(part.len()), 0);
                part.copy_to(request.get_mut(start..).unwrap_or_default());
            }
        }
        if request.len() < SHORTEST_REQUEST {
            return Err(format!("it has {} bytes", request.len()));
        }
        Ok(self.session.answer(request, &mut GuestReply::new(reply)))
    }
}

/// Regions of guest memory need not be neighbours here because they are in the guest.
fn parts(
    memory: &GuestMemoryMmap,
    address: GuestAddress,
    length: usize,
) -> impl Iterator<Item = GuestMemoryResult<VolatileSlice<'_>>> {
    GuestMemoryBackend::get_slices(memory, address, length)
}

impl VhostUserBackend for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_INDIRECT_DESC)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&self, enabled: bool) {
        self.event_index.store(enabled, Ordering::Relaxed);
    }

    /// The new memory is where ours is too. It came as descriptors that programs started later
    /// would inherit: another guest's QEMU could look into this guest.
    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        for region in memory.memory().iter() {
            if let Some(part) = region.file_offset() {
                rustix::io::fcntl_setfd(part.file(), FdFlags::CLOEXEC)?;
            }
        }
        Ok(())
    }

    /// A thread for each queue.
    fn queues_per_thread(&self) -> Vec<u64> {
        (0..QUEUES).map(|queue| 1 << queue).collect()
    }

    /// Without it the threads would outlive the connection.
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC)
            .inspect(|(consumer, _)| self.exit_events.lock().push(consumer.as_raw_fd()))
            .inspect_err(|error| log::error!("virtiofs: no descriptor for an event: {error}"))
            .ok()
    }

    fn handle_event(
        &self,
        event: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        thread: usize,
    ) -> io::Result<()> {
        let Some(vring) = vrings.get(usize::from(event)) else { return Ok(()) };
        if !self.event_index.load(Ordering::Relaxed) {
            self.serve(vring)?;
            return Ok(());
        }
        // Notifications are off while we look anyway; what came before they are on again is seen.
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            if thread == REQUESTS {
                self.serve_awake(vring)?;
            } else {
                self.serve(vring)?;
            }
            if !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}
