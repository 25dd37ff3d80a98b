//! Packages from Debian's archive that tests and benchmarks compile. The same commands for everybody:
//! who compiles sets `CC`, `CXX`, `AR`, `RANLIB`, `HOST` (the triplet), `MAKEFLAGS` and `DESTDIR`.

use std::path::PathBuf;

use crate::Scratch;
use crate::definitions::fresh_name;

#[derive(Clone)]
pub struct Package {
    pub name: &'static str,
    /// Debian's source package and upstream's version of it; the archive is what is built.
    pub source: (&'static str, &'static str),
    pub sha256: &'static str,
    /// In the order of [`PHASES`].
    pub commands: [&'static str; 3],
    /// Many small files, rather than few large ones.
    pub is_small: bool,
}

pub const PHASES: [&str; 3] = ["configure", "make", "install"];

/// The names of a chunk's steps, and what of the environment the commands want.
pub const STEPS: [&str; 3] = ["configure", "build", "install"];
const VARIABLES: &str = "export CC=gcc CXX=g++ AR=ar RANLIB=ranlib HOST=$(gcc -dumpmachine)";

impl Package {
    pub fn by_name(name: &str) -> Package {
        let found = PACKAGES.iter().find(|package| package.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in the list")).clone()
    }

    /// Writes a definitions tree with one chunk that nobody has built yet; gives the tree and the
    /// chunk's name.
    pub fn define(&self, scratch: &Scratch) -> (PathBuf, String) {
        let name = fresh_name(self.name);
        let mut chunk = format!("name: {name}\nkind: chunk\nbuild-system: manual\nmax-jobs: 2\n");
        for (step, commands) in STEPS.iter().zip(self.commands) {
            chunk += &format!("{step}-commands:\n- |\n  {VARIABLES}\n");
            for line in commands.lines() {
                chunk += &format!("  {}\n", line.trim());
            }
        }
        let (source, version) = self.source;
        let stratum = format!(
            "name: all\nkind: stratum\nchunks:\n- name: {name}\n  morph: strata/chunk.morph\n  \
             repo: debian:{source}\n  ref: {version}\n  sha256: {}\n",
            self.sha256
        );
        scratch.file("definitions/VERSION", "version: 8\n");
        scratch.file("definitions/strata/chunk.morph", chunk);
        scratch.file("definitions/strata/all.morph", stratum);
        (scratch.join("definitions"), name)
    }
}

pub const PACKAGES: [Package; 5] = [
    Package {
        name: "zlib",
        source: ("zlib", "1.2.13.dfsg"),
        sha256: "71feb7947e3c00ef125f83b79a4e529bde31171e5babe48b391f06758d1ab0a1",
        commands: [
            "CHOST=$HOST ./configure --prefix=/usr",
            "make libz.a libz.so.1.2.13 example minigzip",
            "make install",
        ],
        is_small: false,
    },
    Package {
        name: "lua",
        source: ("lua5.4", "5.4.4"),
        sha256: "164c7849653b80ae67bec4b7473b884bf5cc8d2dca05653475ec2ed27b9ebf61",
        commands: [
            ":",
            "make linux CC=\"$CC -std=gnu99\" AR=\"$AR rcu\" RANLIB=$RANLIB",
            "make install INSTALL_TOP=$DESTDIR/usr",
        ],
        is_small: false,
    },
    Package {
        name: "busybox",
        source: ("busybox", "1.35.0"),
        sha256: "faeeb244c35a348a334f4a59e44626ee870fb07b6884d68c10ae8bc19f83a694",
        commands: [
            "make allnoconfig
             sed -i -E 's/^# CONFIG_(ASH|SH_IS_ASH|INIT|GETTY|CAT|CP|MV|RM|LN|LS|MKDIR|MKNOD|CHMOD|CHOWN\
             |ECHO|PRINTF|PWD|ENV|UNAME|ID|STAT|TOUCH|DATE|DD|DF|DU|SORT|HEAD|TAIL|WC|CUT|TR|UNIQ|TEE|SEQ\
             |SHA256SUM|MD5SUM|EXPR|GREP|SED|AWK|FIND|XARGS|MOUNT|UMOUNT|DMESG|PS|KILL|TAR|GZIP|GUNZIP|CPIO\
             |VI|LESS|IFCONFIG|ROUTE|PING|NETSTAT|LFS|LONG_OPTS) is not set/CONFIG_\\1=y/' .config
             yes '' | make oldconfig >/dev/null",
            "make busybox CC=$CC AR=$AR STRIP=${STRIP:-strip}",
            "make install CC=$CC AR=$AR STRIP=${STRIP:-strip} CONFIG_PREFIX=$DESTDIR",
        ],
        is_small: true,
    },
    Package {
        name: "dropbear",
        source: ("dropbear", "2022.83"),
        sha256: "bc5a121ffbc94b5171ad5ebe01be42746d50aa797c9549a4639894a16749443b",
        commands: [
            "echo '#define DROPBEAR_SVR_PASSWORD_AUTH 0' > localoptions.h
             ./configure --host=$HOST --prefix=/usr --disable-zlib --disable-harden --disable-lastlog \
             --disable-utmp --disable-utmpx --disable-wtmp --disable-wtmpx --disable-pututline \
             --disable-pututxline",
            "make PROGRAMS='dropbear dropbearkey'",
            "make PROGRAMS='dropbear dropbearkey' install",
        ],
        is_small: true,
    },
    Package {
        name: "lzip",
        source: ("lzip", "1.23"),
        sha256: "d269d8e204579cb7047d6187bce741acb484a27e24cf24f20cf017c48574147c",
        commands: [
            "./configure --prefix=/usr CXX=$CXX",
            "make",
            "make install-bin DESTDIR=$DESTDIR",
        ],
        is_small: false,
    },
];
