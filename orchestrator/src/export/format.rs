//! The formats by name.

use std::fmt;
use std::str::FromStr;

use super::cpio::Cpio;
use super::ext4::Ext4;
use super::squashfs::Squashfs;
use super::tarball::Tarball;
use super::{Error, Exporter};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Tar,
    TarZst,
    Cpio,
    CpioGz,
    Squashfs,
    Ext4,
}

impl Format {
    pub const ALL: [Format; 6] =
        [Format::Tar, Format::TarZst, Format::Cpio, Format::CpioGz, Format::Squashfs, Format::Ext4];

    /// The word that selects it; also what a file name of the format usually ends in.
    pub fn name(self) -> &'static str {
        self.exporter().name()
    }

    /// One line for help.
    pub fn about(self) -> &'static str {
        self.exporter().about()
    }

    pub(super) fn exporter(self) -> &'static dyn Exporter {
        match self {
            Format::Tar => &Tarball { zstd: false },
            Format::TarZst => &Tarball { zstd: true },
            Format::Cpio => &Cpio { gzip: false },
            Format::CpioGz => &Cpio { gzip: true },
            Format::Squashfs => &Squashfs,
            Format::Ext4 => &Ext4,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format, Error> {
        Format::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let names: Vec<_> = Format::ALL.into_iter().map(Format::name).collect();
            Error::Invalid(format!(
                "there is no export format {text:?}; the formats are {}",
                names.join(", ")
            ))
        })
    }
}
