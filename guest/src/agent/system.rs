//! System calls that std does not offer; all unsafe code of the agent is here.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

pub fn mount(
    source: &[u8],
    target: &Path,
    file_system: &[u8],
    flags: libc::c_ulong,
    options: &[u8],
) -> io::Result<()> {
    let source = c_string(source)?;
    let target = c_string(target.as_os_str().as_bytes())?;
    let file_system = c_string(file_system)?;
    let options = c_string(options)?;
    // SAFETY: all four pointers are NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            file_system.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
    .map(drop)
}

pub fn unmount(target: &Path) -> io::Result<()> {
    let target = c_string(target.as_os_str().as_bytes())?;
    // SAFETY: a NUL-terminated string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), 0) }).map(drop)
}

pub fn make_node(path: &Path, mode: libc::mode_t, major: u32, minor: u32) -> io::Result<()> {
    let path = c_string(path.as_os_str().as_bytes())?;
    // SAFETY: a NUL-terminated string that outlives the call; makedev and umask only compute.
    check(unsafe {
        let mask = libc::umask(0);
        let result = libc::mknod(path.as_ptr(), mode, libc::makedev(major, minor));
        libc::umask(mask);
        result
    })
    .map(drop)
}

/// `compressed`: the kernel is asked to decompress the file itself (Linux 5.17 and later).
pub fn load_module(file: &File, compressed: bool) -> io::Result<()> {
    const COMPRESSED_FILE: libc::c_int = 4;
    let flags = if compressed { COMPRESSED_FILE } else { 0 };
    let parameters = c_string(b"")?;
    // SAFETY: an open descriptor and a NUL-terminated string.
    let result = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// uname(2) tells this process and all that it starts of a 32-bit machine.
pub fn see_32_bits() -> io::Result<()> {
    const PER_LINUX32: libc::c_ulong = 8;
    // SAFETY: a number goes in and a number comes out.
    check(unsafe { libc::personality(PER_LINUX32) }).map(drop)
}

/// Has the kernel append a record to the file for each process that ends (acct(2)).
pub fn account_to(file: &Path) -> io::Result<()> {
    let file = c_string(file.as_os_str().as_bytes())?;
    // SAFETY: a NUL-terminated string that outlives the call.
    check(unsafe { libc::acct(file.as_ptr()) }).map(drop)
}

pub fn change_directory(directory: &File) -> io::Result<()> {
    // SAFETY: an open descriptor.
    check(unsafe { libc::fchdir(directory.as_raw_fd()) }).map(drop)
}

pub fn sync() {
    // SAFETY: no arguments.
    unsafe { libc::sync() }
}

/// Ends the guest: QEMU runs with `-no-reboot`. Unlike power-off, every machine can do this.
pub fn restart() -> ! {
    sync();
    // SAFETY: no memory is passed.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    // Only without the privilege that PID 1 of a guest has.
    std::process::exit(1)
}

pub fn set_clock(seconds: i64, nanoseconds: u32) -> io::Result<()> {
    // SAFETY: an all-zero timespec is valid.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // A 32-bit time_t cannot hold every i64; a wrong clock is refused by the kernel or harmless.
    time.tv_sec = seconds as _;
    time.tv_nsec = nanoseconds as _;
    // SAFETY: `time` outlives the call.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) }).map(drop)
}

pub fn set_host_name(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

pub fn set_nonblocking(file: &impl AsRawFd) -> io::Result<()> {
    let descriptor = file.as_raw_fd();
    // SAFETY: an open descriptor; the calls take integers only.
    unsafe {
        let flags = check(libc::fcntl(descriptor, libc::F_GETFL))?;
        check(libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK)).map(drop)
    }
}

/// Blocks SIGCHLD and gives a descriptor that is readable when a child has ended.
pub fn child_signals() -> io::Result<File> {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut()))?;
        let descriptor = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(File::from_raw_fd(descriptor))
    }
}

/// What poll(2) is asked and answers.
pub struct Interest {
    pub descriptor: RawFd,
    pub events: libc::c_short,
    pub ready: libc::c_short,
}

/// `timeout` in milliseconds, negative for none.
pub fn poll(interests: &mut [Interest], timeout: libc::c_int) -> io::Result<()> {
    let mut table: Vec<libc::pollfd> = interests
        .iter()
        .map(|i| libc::pollfd { fd: i.descriptor, events: i.events, revents: 0 })
        .collect();
    // SAFETY: pointer and length describe `table`.
    let result = unsafe { libc::poll(table.as_mut_ptr(), table.len() as libc::nfds_t, timeout) };
    match check(result) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
        Err(e) => return Err(e),
    }
    for (interest, answer) in interests.iter_mut().zip(&table) {
        interest.ready = answer.revents;
    }
    Ok(())
}

pub enum Reaped {
    /// A process ended, with its raw wait status.
    Process(i32, i32),
    /// There are processes, none has ended.
    NothingYet,
    /// There are no child processes at all.
    NoneLeft,
}

pub fn reap() -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    match check(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) }) {
        Ok(0) => Ok(Reaped::NothingYet),
        Ok(process) => Ok(Reaped::Process(process, status)),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoneLeft),
        Err(e) => Err(e),
    }
}

/// Failing means that the target is gone, which is what the caller wants.
pub fn kill_group(leader: i32, signal: i32) {
    // 0 and 1 would mean other groups, and are never leaders of a job.
    if leader > 1 {
        // SAFETY: integers only.
        unsafe { libc::kill(-leader, signal) };
    }
}

/// Every process but this one: kill(-1) spares the caller when it is PID 1.
pub fn kill_everything() {
    // SAFETY: integers only.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Opens the pseudo-terminal multiplexer `path`: the controlling side and the process's side.
pub fn open_terminal(path: &Path, rows: u16, columns: u16) -> io::Result<(File, File)> {
    let master = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &unlocked) })?;
    resize_terminal(&master, rows, columns)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    let peer = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok((master, unsafe { File::from_raw_fd(peer) }))
}

pub fn resize_terminal(master: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ as _, &size) }).map(drop)
}

/// What a command's process does to itself between fork and exec.
pub struct Confinement {
    pub root: Option<CString>,
    pub directory: CString,
    pub uid: u32,
    pub gid: u32,
    /// Its standard input becomes its controlling terminal.
    pub terminal: bool,
}

pub fn confine(command: &mut Command, confinement: Confinement) {
    let enter = move || {
        // SAFETY: only async-signal-safe calls on memory that was prepared before the fork.
        unsafe {
            let mut none: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()))?;
            check(libc::setsid())?;
            if confinement.terminal {
                check(libc::ioctl(0, libc::TIOCSCTTY as _, 0))?;
            }
            if let Some(root) = &confinement.root {
                check(libc::chroot(root.as_ptr()))?;
            }
            check(libc::chdir(confinement.directory.as_ptr()))?;
            libc::umask(0o022);
            check(libc::setgroups(0, ptr::null()))?;
            check(libc::setgid(confinement.gid))?;
            check(libc::setuid(confinement.uid))?;
        }
        Ok(())
    };
    // SAFETY: see the closure.
    unsafe { command.pre_exec(enter) };
}

/// An interface's name as the kernel wants it: NUL-padded, at most 15 bytes.
fn request_for(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *slot = byte as libc::c_char;
    }
    Ok(request)
}

fn internet_address(address: [u8; 4]) -> libc::sockaddr {
    let [a, b, c, d] = address;
    // SAFETY: an all-zero sockaddr is valid.
    let mut generic: libc::sockaddr = unsafe { mem::zeroed() };
    generic.sa_family = libc::AF_INET as libc::sa_family_t;
    // sockaddr_in: after the family two bytes of port, then the address.
    for (slot, byte) in generic.sa_data.iter_mut().skip(2).zip([a, b, c, d]) {
        *slot = byte as libc::c_char;
    }
    generic
}

fn network_socket() -> io::Result<File> {
    // SAFETY: integers only; the new descriptor is owned by nobody else.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        Ok(File::from_raw_fd(socket))
    }
}

pub fn set_address(interface: &str, address: [u8; 4], mask: [u8; 4]) -> io::Result<()> {
    let socket = network_socket()?;
    for (operation, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, mask)] {
        let mut request = request_for(interface)?;
        request.ifr_ifru.ifru_addr = internet_address(value);
        // SAFETY: both operations read one ifreq.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), operation as _, &request) })?;
    }
    Ok(())
}

pub fn bring_up(interface: &str) -> io::Result<()> {
    let socket = network_socket()?;
    let mut request = request_for(interface)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) }).map(drop)
}

pub fn add_default_route(gateway: [u8; 4]) -> io::Result<()> {
    let socket = network_socket()?;
    // SAFETY: an all-zero rtentry is valid.
    let mut route: libc::rtentry = unsafe { mem::zeroed() };
    route.rt_dst = internet_address([0; 4]);
    route.rt_genmask = internet_address([0; 4]);
    route.rt_gateway = internet_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: SIOCADDRT reads one rtentry.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &route) }).map(drop)
}

/// Whose process is at the other end of a socket.
pub fn peer(stream: &std::os::unix::net::UnixStream) -> io::Result<(u32, u32)> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a value of that size, of plain numbers.
    check(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    })?;
    Ok((credentials.uid, credentials.gid))
}

/// The file mode creation mask of this process, which must have a single thread.
pub fn umask() -> u32 {
    // SAFETY: numbers go in and come out.
    unsafe {
        let mask = libc::umask(0o022);
        libc::umask(mask);
        mask
    }
}

/// Ends this process as the signal ends those that do nothing about it.
pub fn die_of(signal: libc::c_int) -> ! {
    // SAFETY: numbers only.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}

/// What tells a state of a file from another.
#[derive(Debug, PartialEq, Eq)]
pub struct FileState {
    size: u64,
    links: u32,
    mode: u16,
    modified: (i64, u32),
    changed: (i64, u32),
}

/// `synchronise`: `AT_STATX_FORCE_SYNC` or `AT_STATX_DONT_SYNC`.
pub fn attributes(path: &Path, synchronise: libc::c_int) -> io::Result<FileState> {
    let path = c_string(path.as_os_str().as_bytes())?;
    // linux/stat.h: struct statx, which has 256 bytes.
    let mut found = [0u8; 256];
    let flags = synchronise | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path ends with a zero, and the buffer is as large as the kernel's structure.
    let result = unsafe {
        let (place, all) = (found.as_mut_ptr(), libc::STATX_BASIC_STATS);
        libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), flags, all, place)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    fn field<const SIZE: usize>(found: &[u8; 256], at: usize) -> [u8; SIZE] {
        found.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; SIZE])
    }
    let time = |at| {
        let seconds = i64::from_ne_bytes(field(&found, at));
        (seconds, u32::from_ne_bytes(field(&found, at + 8)))
    };
    Ok(FileState {
        links: u32::from_ne_bytes(field(&found, 16)),
        mode: u16::from_ne_bytes(field(&found, 28)),
        size: u64::from_ne_bytes(field(&found, 40)),
        changed: time(96),
        modified: time(112),
    })
}

/// Writes back what the kernel holds of a file system.
pub fn sync_file_system(root: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    check(unsafe { libc::syncfs(root.as_raw_fd()) }).map(drop)
}

/// Waits until a descriptor can be used; `milliseconds` below zero: for ever.
pub fn wait_for(
    file: &impl AsRawFd,
    events: libc::c_short,
    milliseconds: libc::c_int,
) -> io::Result<()> {
    let mut polled = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    let result = unsafe { libc::poll(&mut polled, 1, milliseconds) };
    match check(result) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result.map(drop),
    }
}

/// Sends as much as goes without waiting, and says how much that was.
pub fn send_now(stream: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length are those of one slice.
    let sent = unsafe { libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
