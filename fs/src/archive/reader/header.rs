//! Fields of a header block that need more than reading a number.

use tar::Header;

/// The stored checksum may have been made with signed or unsigned bytes.
pub(super) fn checksum_is_right(block: &[u8; 512]) -> bool {
    let Some(stored) = super::number::field(&block[148..156]) else { return false };
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
pub(super) fn device_fields(header: &Header) -> Option<(&[u8; 8], &[u8; 8])> {
    if let Some(ustar) = header.as_ustar() {
        return Some((&ustar.dev_major, &ustar.dev_minor));
    }
    header.as_gnu().map(|gnu| (&gnu.dev_major, &gnu.dev_minor))
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
