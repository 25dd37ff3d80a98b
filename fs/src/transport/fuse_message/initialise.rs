//! INIT: which version and features both sides speak.

#![forbid(unsafe_code)]

use super::MalformedMessage;
use super::fields::{Fields, Put};

/// The protocol's major version; there is no other in use.
const MAJOR: u32 = 7;
/// What we speak: with 7.38 the request header got extensions, with 7.39 STATX came.
const MINOR: u32 = 39;
/// The oldest minor version that has everything that is relied on (Linux 5.14): SETXATTR has one form
/// from there on, and `HANDLE_KILLPRIV_V2` exists.
pub(crate) const OLDEST_MINOR: u32 = 34;

/// The `FUSE_*` flags of INIT; bits from 32 on travel in `flags2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features(pub u64);

impl Features {
    pub(crate) const ASYNC_READ: Features = Features(1);
    pub(crate) const BIG_WRITES: Features = Features(1 << 5);
    pub(crate) const AUTO_INVAL_DATA: Features = Features(1 << 12);
    pub(crate) const DO_READDIRPLUS: Features = Features(1 << 13);
    pub(crate) const ASYNC_DIO: Features = Features(1 << 15);
    pub(crate) const NO_OPEN_SUPPORT: Features = Features(1 << 17);
    pub(crate) const PARALLEL_DIROPS: Features = Features(1 << 18);
    pub(crate) const MAX_PAGES: Features = Features(1 << 22);
    pub(crate) const CACHE_SYMLINKS: Features = Features(1 << 23);
    pub(crate) const NO_OPENDIR_SUPPORT: Features = Features(1 << 24);
    pub(crate) const HANDLE_KILLPRIV_V2: Features = Features(1 << 28);
    pub(crate) const SETXATTR_EXT: Features = Features(1 << 29);
    pub(crate) const INIT_EXT: Features = Features(1 << 30);

    pub(crate) const fn with(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    pub(crate) const fn both(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    pub(crate) const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the guest's kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitialRequest {
    pub major: u32,
    pub minor: u32,
    /// Bytes that the kernel would read ahead at most.
    pub max_readahead: u32,
    pub features: Features,
}

/// Bytes of `fuse_init_in` before `flags2` came (7.36), and now.
const SHORT_REQUEST: usize = 16;
const LONG_REQUEST: usize = 64;

impl InitialRequest {
    /// The one message whose length is not checked: a newer kernel may say more.
    pub(super) fn parse(fields: &mut Fields<'_>) -> Result<InitialRequest, MalformedMessage> {
        let body = fields.rest();
        let mut fields = Fields::new(body);
        let major = fields.u32("version")?;
        let minor = fields.u32("version")?;
        // A kernel of another major version asks again when it has heard ours.
        let (max_readahead, low) = if body.len() < SHORT_REQUEST && major != MAJOR {
            (0, 0)
        } else {
            (fields.u32("readahead")?, fields.u32("features")?)
        };
        let mut features = Features(u64::from(low));
        if features.has(Features::INIT_EXT) && body.len() >= LONG_REQUEST {
            features = features.with(Features(u64::from(fields.u32("features")?) << 32));
        }
        Ok(InitialRequest { major, minor, max_readahead, features })
    }
}

/// What we answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitialReply {
    /// The guest's minor version: the lower one of both counts.
    pub minor: u32,
    pub max_readahead: u32,
    pub features: Features,
    /// Requests that nobody waits for, such as reads ahead, that may be under way at once.
    pub max_background: u16,
    /// Bytes of one WRITE.
    pub max_write: u32,
    /// Pages of one READ or WRITE.
    pub max_pages: u16,
}

impl InitialReply {
    /// For a kernel of another major version: ours, and nothing else that it would look at.
    pub(crate) const fn version_only() -> InitialReply {
        InitialReply {
            minor: MINOR,
            max_readahead: 0,
            features: Features(0),
            max_background: 0,
            max_write: 0,
            max_pages: 0,
        }
    }

    pub(super) fn put(&self, message: &mut Vec<u8>) {
        message.put_u32(MAJOR);
        message.put_u32(self.minor.min(MINOR));
        message.put_u32(self.max_readahead);
        message.put_u32(self.features.0 as u32);
        message.put_u16(self.max_background);
        // From how many on the kernel holds back reading ahead: three quarters, as is its own custom. It
        // would not derive them, but keep the 9 of its default of 12 requests.
        message.put_u16(self.max_background - self.max_background / 4);
        message.put_u32(self.max_write);
        // Granularity of times in nanoseconds.
        message.put_u32(1);
        message.put_u16(self.max_pages);
        message.put_u16(0);
        message.put_u32((self.features.0 >> 32) as u32);
        message.put_zeros(28);
    }

    pub(crate) const fn speaks(request: &InitialRequest) -> bool {
        request.major == MAJOR
    }
}
