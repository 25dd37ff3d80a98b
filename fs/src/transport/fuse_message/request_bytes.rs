//! Requests as a guest's kernel writes them, for tests: the reverse of [`super::Operation::parse`],
//! written from `linux/fuse.h` on its own.

use super::fields::Put;

/// A whole message.
pub(in crate::transport) fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    request_of(opcode, node, 0, 0, body)
}

pub(in crate::transport) fn request_of(
    opcode: u32,
    node: u64,
    uid: u32,
    gid: u32,
    body: &[u8],
) -> Vec<u8> {
    let mut message = Vec::new();
    message.put_u32(40 + body.len() as u32);
    message.put_u32(opcode);
    message.put_u64(UNIQUE);
    message.put_u64(node);
    message.put_u32(uid);
    message.put_u32(gid);
    message.put_u32(4711);
    message.put_u32(0);
    message.extend_from_slice(body);
    message
}

pub(in crate::transport) const UNIQUE: u64 = 0x0123_4567_89ab_cdef;

/// Fields in the order of a structure.
#[derive(Default)]
pub(in crate::transport) struct Body(pub Vec<u8>);

impl Body {
    pub(in crate::transport) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(in crate::transport) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub(in crate::transport) fn name(mut self, name: &[u8]) -> Self {
        self.0.extend_from_slice(name);
        self.0.push(0);
        self
    }

    pub(in crate::transport) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

pub(in crate::transport) fn body() -> Body {
    Body::default()
}

/// `fuse_init_in` of a kernel that offers `features`.
pub(in crate::transport) fn initial(minor: u32, features: u64) -> Vec<u8> {
    let low = body().u32(7).u32(minor).u32(131_072).u32(features as u32);
    let mut long = low.u32((features >> 32) as u32).0;
    long.resize(64, 0);
    request(26, 0, &long)
}

/// `fuse_read_in`, which READDIR has too.
pub(in crate::transport) fn reading(opcode: u32, node: u64, offset: u64, size: u32) -> Vec<u8> {
    let fields = body().u64(0).u64(offset).u32(size).u32(0).u64(0).u32(0).u32(0);
    request(opcode, node, &fields.0)
}

pub(in crate::transport) fn writing(node: u64, offset: u64, flags: u32, data: &[u8]) -> Vec<u8> {
    let fields = body().u64(0).u64(offset).u32(data.len() as u32).u32(flags);
    request(16, node, &fields.u64(0).u32(0).u32(0).bytes(data).0)
}

/// `fuse_create_in` with a name: CREATE (35) and TMPFILE (51).
pub(in crate::transport) fn creating(
    opcode: u32,
    node: u64,
    (flags, mode, umask): (u32, u32, u32),
    name: &[u8],
) -> Vec<u8> {
    request(opcode, node, &body().u32(flags).u32(mode).u32(umask).u32(0).name(name).0)
}

/// The fields of `fuse_setattr_in` that mean something.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::transport) struct SetAttr {
    pub valid: u32,
    pub size: u64,
    pub atime: (i64, u32),
    pub mtime: (i64, u32),
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl SetAttr {
    pub(in crate::transport) fn request(self, node: u64) -> Vec<u8> {
        let fields = body().u32(self.valid).u32(0).u64(0).u64(self.size).u64(0);
        let times = fields.u64(self.atime.0 as u64).u64(self.mtime.0 as u64).u64(0);
        let times = times.u32(self.atime.1).u32(self.mtime.1).u32(0);
        let owner = times.u32(self.mode).u32(0).u32(self.uid).u32(self.gid).u32(0);
        request(4, node, &owner.0)
    }
}
