//! Reading and writing the fields of a message one after the other.

#![forbid(unsafe_code)]

use super::MalformedMessage;

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Fields { rest: bytes }
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], MalformedMessage> {
        let (first, rest) =
            self.rest.split_first_chunk::<N>().ok_or(MalformedMessage::Short(what))?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, MalformedMessage> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, MalformedMessage> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, MalformedMessage> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Padding and fields that mean nothing to us.
    pub(super) fn skip(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<(), MalformedMessage> {
        self.bytes(count, what).map(drop)
    }

    pub(super) fn bytes(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<&'a [u8], MalformedMessage> {
        let (first, rest) =
            self.rest.split_at_checked(count).ok_or(MalformedMessage::Short(what))?;
        self.rest = rest;
        Ok(first)
    }

    /// A name up to its NUL, which is taken too. Whether it is a good name is the tree's to say.
    pub(super) fn name(&mut self) -> Result<&'a [u8], MalformedMessage> {
        let end =
            self.rest.iter().position(|byte| *byte == 0).ok_or(MalformedMessage::Unterminated)?;
        let name = self.bytes(end, "name")?;
        self.skip(1, "name")?;
        Ok(name)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), MalformedMessage> {
        if self.rest.is_empty() { Ok(()) } else { Err(MalformedMessage::Surplus(self.rest.len())) }
    }
}

/// A message in the making.
pub(super) trait Put {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_i64(&mut self, value: i64);
    fn put_zeros(&mut self, count: usize);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_zeros(&mut self, count: usize) {
        self.resize(self.len().saturating_add(count), 0);
    }
}
