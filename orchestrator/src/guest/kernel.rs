//! The kernel proper out of a compressed x86 kernel image.
//!
//! An image decompresses itself when it starts, which an emulated processor does very slowly
//! (measured with Debian 12's: 4.7 s of the host's time for each guest, more than all the rest of
//! the start). QEMU also starts the ELF file inside, if it has a PVH entry point, so a kit
//! decompresses the image once.
//!
//! Format: Documentation/arch/x86/boot.rst of Linux.

#![forbid(unsafe_code)]

use std::io::Read;

/// Decompressed kernels are below 100 MB; anything near this is no kernel.
const LIMIT: u64 = 512 << 20;

/// Sector size in which the image counts its first part, in bytes.
const SECTOR: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("this is not a compressed x86 kernel image (bzImage)")]
    NotAnImage,
    #[error("the kernel image says that its payload lies outside of it")]
    Truncated,
    #[error("the kernel image is compressed in a way that is not supported")]
    UnknownCompression,
    #[error("the kernel image cannot be decompressed: {0}")]
    Damaged(#[source] std::io::Error),
    #[error("the kernel image does not contain an ELF file")]
    NoElf,
    #[error("the kernel has no PVH entry point, so QEMU cannot start it uncompressed")]
    NoPvhEntry,
}

/// The ELF file inside `image`, which QEMU's `-kernel` takes instead of it.
///
/// # Errors
/// [`KernelError`]: the compressed image must be used as it is.
pub fn extract_kernel(image: &[u8]) -> Result<Vec<u8>, KernelError> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(KernelError::NotAnImage);
    }
    // 0 means 4: older than the field itself.
    let sectors = match image.get(0x1f1) {
        Some(0) => 4,
        Some(sectors) => usize::from(*sectors),
        None => return Err(KernelError::Truncated),
    };
    let number = |at: usize| -> Option<usize> {
        let bytes = image.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let payload = || -> Option<&[u8]> {
        let protected_mode = sectors.checked_add(1)?.checked_mul(SECTOR)?;
        let start = protected_mode.checked_add(number(0x248)?)?;
        image.get(start..start.checked_add(number(0x24c)?)?)
    };
    let kernel = decompress(payload().ok_or(KernelError::Truncated)?)?;
    if !kernel.starts_with(b"\x7fELF") {
        return Err(KernelError::NoElf);
    }
    if !has_pvh_note(&kernel) {
        return Err(KernelError::NoPvhEntry);
    }
    Ok(kernel)
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, KernelError> {
    // Each is followed by the decompressed size (4 bytes), which a decoder of one stream ignores.
    let mut decoder: Box<dyn Read + '_> = if payload.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::read::XzDecoder::new(payload))
    } else if payload.starts_with(b"\x1f\x8b") {
        Box::new(flate2::read::GzDecoder::new(payload))
    } else if payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::with_buffer(payload).map_err(KernelError::Damaged)?;
        Box::new(decoder.single_frame())
    } else {
        return Err(KernelError::UnknownCompression);
    };
    let mut kernel = Vec::new();
    (&mut decoder).take(LIMIT).read_to_end(&mut kernel).map_err(KernelError::Damaged)?;
    Ok(kernel)
}

/// The note is owned by "Xen", with a description of 4 or 8 bytes and the type
/// XEN_ELFNOTE_PHYS32_ENTRY (18).
fn has_pvh_note(kernel: &[u8]) -> bool {
    [4_u8, 8].iter().any(|size| {
        let note = [4, 0, 0, 0, *size, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0];
        kernel.windows(note.len()).any(|window| window == note)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn elf() -> Vec<u8> {
        let mut elf = b"\x7fELF".to_vec();
        elf.extend((0..5000u32).flat_map(u32::to_le_bytes));
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0, 1, 2, 3, 4]);
        elf
    }

    /// An image with two setup sectors and the payload 100 bytes into the rest.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * SECTOR + 100];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&100u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_compression_gives_the_same_kernel() {
        let kernel = elf();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&kernel).unwrap();
        let zstandard = zstd::encode_all(kernel.as_slice(), 1).unwrap();
        for mut payload in [xz(&kernel), gzip.finish().unwrap(), zstandard] {
            payload.extend_from_slice(&u32::try_from(kernel.len()).unwrap().to_le_bytes());
            assert!(extract_kernel(&image(&payload)).unwrap() == kernel);
        }
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(matches!(extract_kernel(b""), Err(KernelError::NotAnImage)));
        assert!(matches!(extract_kernel(&[0; 5000]), Err(KernelError::NotAnImage)));
        let whole = image(&xz(&elf()));
        assert!(matches!(extract_kernel(&whole[..whole.len() - 1]), Err(KernelError::Truncated)));
        let mut damaged = whole.clone();
        let middle = 3 * SECTOR + 100 + 60;
        damaged[middle] ^= 0xff;
        assert!(matches!(extract_kernel(&damaged), Err(KernelError::Damaged(_))));
        assert!(matches!(extract_kernel(&image(b"lz4?")), Err(KernelError::UnknownCompression)));
        assert!(matches!(extract_kernel(&image(&xz(b"text"))), Err(KernelError::NoElf)));
        assert!(matches!(extract_kernel(&image(&xz(b"\x7fELF"))), Err(KernelError::NoPvhEntry)));
    }
}
