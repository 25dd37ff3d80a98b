//! Fields of a header block that need more than reading a number.

#![forbid(unsafe_code)]

use tar::Header;

use super::TarReader;
use crate::archive::input::Input;
use crate::archive::number;
use crate::archive::pax::Extended;
use crate::error::Result;
use crate::node::{Device, Kind, Metadata, Timestamp};

impl<I: Input> TarReader<I> {
    pub(super) fn metadata(&self, header: &Header, extended: &Extended) -> Result<Metadata> {
        let old = header.as_old();
        let id = |name: &str, pax: Option<u64>, field: &[u8]| -> Result<u32> {
            let id = match pax {
                Some(id) => id,
                None => self.number(name, field)?,
            };
            u32::try_from(id).map_err(|_| self.malformed(&format!("its {name} {id} is too large")))
        };
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => {
                let seconds = number::field(&old.mtime)
                    .ok_or_else(|| self.malformed("its mtime is not a number"))?;
                Timestamp::new(seconds, 0)
            }
        };
        let mode = self.number("mode", &old.mode)?;
        Ok(Metadata {
            kind: Kind::File,
            // Some writers put the file type into the upper bits.
            mode: (mode & 0o7777) as u16,
            uid: id("uid", extended.uid, &old.uid)?,
            gid: id("gid", extended.gid, &old.gid)?,
            mtime,
            size: 0,
        })
    }

    pub(super) fn device(&self, header: &Header, extended: &Extended) -> Result<Device> {
        let fields = device_fields(header);
        let part = |name: &str, pax: Option<u64>, field: Option<&[u8; 8]>| -> Result<u32> {
            let number = match (pax, field) {
                (Some(number), _) => number,
                (None, Some(field)) => self.number(name, field)?,
                (None, None) => return Err(self.malformed("a device without numbers")),
            };
            u32::try_from(number)
                .map_err(|_| self.malformed(&format!("its {name} {number} is too large")))
        };
        Ok(Device {
            major: part("device major", extended.device_major, fields.map(|f| f.0))?,
            minor: part("device minor", extended.device_minor, fields.map(|f| f.1))?,
        })
    }
}

/// The stored checksum may have been made with signed or unsigned bytes.
pub(super) fn checksum_is_right(block: &[u8; 512]) -> bool {
    let Some(stored) = number::field(&block[148..156]) else { return false };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (position, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&position) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    stored == unsigned || stored == signed
}

/// The name, with ustar's prefix where there is one.
pub(super) fn path(header: &Header) -> Vec<u8> {
    let name = until_nul(&header.as_old().name);
    let Some(ustar) = header.as_ustar() else { return name.to_vec() };
    // star's own format keeps times behind a shorter prefix and marks itself at the very end.
    let is_star = header.as_bytes().ends_with(b"tar\0");
    let length = if is_star { 131 } else { 155 };
    let prefix = until_nul(ustar.prefix.get(..length).unwrap_or_default());
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Major and minor; v7 headers have none.
fn device_fields(header: &Header) -> Option<(&[u8; 8], &[u8; 8])> {
    if let Some(ustar) = header.as_ustar() {
        return Some((&ustar.dev_major, &ustar.dev_minor));
    }
    header.as_gnu().map(|gnu| (&gnu.dev_major, &gnu.dev_minor))
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
