//! Values as every FUSE kernel has them, whatever carries the messages.

#![forbid(unsafe_code)]

use crate::filesystem::Allocate;
use crate::node::Device;

/// The device as a kernel can know it. What does not fit cannot exist in any Linux file system; it
/// is shown as the largest number rather than as somebody else's.
pub(super) fn kernel_device(device: Device) -> Device {
    Device {
        major: device.major.min(Device::LARGEST_MAJOR),
        minor: device.minor.min(Device::LARGEST_MINOR),
    }
}

/// The kernel's 32-bit form of [`kernel_device`].
pub(super) fn encode_kernel_device(device: Device) -> u32 {
    let Device { major, minor } = kernel_device(device);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

pub(super) fn decode_kernel_device(encoded: u32) -> Device {
    Device {
        major: (encoded >> 8) & Device::LARGEST_MAJOR,
        minor: (encoded & 0xff) | ((encoded >> 12) & !0xff),
    }
}

/// The core's word for fallocate(2)'s `mode`; `None` for what no tree offers.
pub(super) fn allocation(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocate::Reserve),
        KEEP => Some(Allocate::ReserveKeepSize),
        PUNCH => Some(Allocate::PunchHole),
        ZERO => Some(Allocate::ZeroRange),
        ZERO_KEEP => Some(Allocate::ZeroRangeKeepSize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn kernel_devices_round_trip(major in 0..=Device::LARGEST_MAJOR, minor in 0..=Device::LARGEST_MINOR) {
            let device = Device { major, minor };
            prop_assert_eq!(decode_kernel_device(encode_kernel_device(device)), device);
        }
    }

    #[test]
    fn kernel_devices_agree_with_the_c_library_where_both_fit() {
        let device = Device { major: 259, minor: 0x12345 };
        assert_eq!(u64::from(encode_kernel_device(device)), libc::makedev(259, 0x12345));
    }

    #[test]
    fn devices_too_large_for_the_kernel_are_not_taken_for_others() {
        let shown =
            decode_kernel_device(encode_kernel_device(Device { major: 4096, minor: 1 << 20 }));
        assert_eq!(shown, Device { major: Device::LARGEST_MAJOR, minor: Device::LARGEST_MINOR });
    }
}
