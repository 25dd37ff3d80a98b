//! Fields: how single values are laid out in a payload.

use super::ProtocolError;

/// Reads the fields of one message, in order.
pub(super) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(message: &'static str, payload: &'a [u8]) -> Self {
        Reader { message, rest: payload }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (value, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ProtocolError::Truncated { message: self.message })?;
        self.rest = rest;
        Ok(*value)
    }

    pub fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.array::<1>().map(|[value]| value)
    }

    pub fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, ProtocolError> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn bool(&mut self, field: &'static str) -> Result<bool, ProtocolError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad(field)),
        }
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, ProtocolError> {
        let length = self.u32()? as usize;
        if length > self.rest.len() {
            return Err(ProtocolError::Truncated { message: self.message });
        }
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(value.to_vec())
    }

    /// Every item takes at least one byte, so a count can never ask for more memory than the
    /// payload could fill.
    pub fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Vec<T>, ProtocolError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() {
            return Err(ProtocolError::Truncated { message: self.message });
        }
        (0..count).map(|_| item(self)).collect()
    }

    pub fn optional<T>(
        &mut self,
        field: &'static str,
        item: impl FnOnce(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Option<T>, ProtocolError> {
        if self.bool(field)? { item(self).map(Some) } else { Ok(None) }
    }

    pub fn bad(&self, field: &'static str) -> ProtocolError {
        ProtocolError::BadValue { message: self.message, field }
    }

    /// Must come after the last field.
    pub fn end(self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::TrailingBytes { message: self.message })
        }
    }
}

/// A value longer than `u32::MAX` gets a wrong length here, and is refused by the frame's limit.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

pub(super) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&length(value.len()));
    out.extend_from_slice(value);
}

pub(super) fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    out.extend_from_slice(&length(items.len()));
    for item in items {
        put(out, item);
    }
}

pub(super) fn put_optional<T>(
    out: &mut Vec<u8>,
    value: &Option<T>,
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}
