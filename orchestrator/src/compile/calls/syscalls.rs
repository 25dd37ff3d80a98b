//! System calls that a compiler's job may make: those of programs that read, write and start each other.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Everything else is answered with ENOSYS, which the C library takes for an old kernel.
#[rustfmt::skip]
const ALLOWED: &[libc::c_long] = &[
    // Files.
    libc::SYS_close, libc::SYS_close_range, libc::SYS_copy_file_range, libc::SYS_dup,
    libc::SYS_dup3, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_fadvise64,
    libc::SYS_fallocate, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fcntl, libc::SYS_fstat,
    libc::SYS_fstatfs, libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_getcwd,
    libc::SYS_getdents64, libc::SYS_linkat, libc::SYS_lseek, libc::SYS_mkdirat,
    libc::SYS_newfstatat, libc::SYS_openat, libc::SYS_pipe2, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_read, libc::SYS_readlinkat, libc::SYS_readv,
    libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_sendfile, libc::SYS_statfs,
    libc::SYS_statx, libc::SYS_truncate, libc::SYS_umask, libc::SYS_unlinkat,
    libc::SYS_utimensat, libc::SYS_write, libc::SYS_writev,
    // Memory.
    libc::SYS_brk, libc::SYS_madvise, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_mremap,
    libc::SYS_munmap,
    // Processes and signals.
    libc::SYS_chdir, libc::SYS_execve, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_futex,
    libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getpgid, libc::SYS_getpid,
    libc::SYS_getppid, libc::SYS_getrusage, libc::SYS_gettid, libc::SYS_getuid, libc::SYS_kill,
    libc::SYS_prlimit64, libc::SYS_restart_syscall, libc::SYS_rseq, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield, libc::SYS_set_robust_list, libc::SYS_set_tid_address,
    libc::SYS_sigaltstack, libc::SYS_tgkill, libc::SYS_wait4, libc::SYS_waitid,
    // Time, waiting, and what the machine is.
    libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep,
    libc::SYS_getrandom, libc::SYS_gettimeofday, libc::SYS_nanosleep, libc::SYS_ppoll,
    libc::SYS_pselect6, libc::SYS_sysinfo, libc::SYS_times, libc::SYS_uname,
];

/// What only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const MORE: &[libc::c_long] = &[
    libc::SYS_access, libc::SYS_arch_prctl, libc::SYS_chmod, libc::SYS_creat, libc::SYS_dup2,
    libc::SYS_getpgrp, libc::SYS_getrlimit, libc::SYS_link, libc::SYS_lstat, libc::SYS_mkdir,
    libc::SYS_open, libc::SYS_pipe, libc::SYS_poll, libc::SYS_readlink, libc::SYS_rename,
    libc::SYS_select, libc::SYS_setrlimit, libc::SYS_stat, libc::SYS_time, libc::SYS_unlink,
    libc::SYS_utime, libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const MORE: &[libc::c_long] = &[];

/// The filter, for [`seccompiler::apply_filter`] in a job's process.
pub fn filter() -> Result<BpfProgram, String> {
    let always = |number: &libc::c_long| (*number, Vec::new());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(MORE).map(always).collect();
    let when = |argument, operation, value: u64| -> Result<Vec<SeccompRule>, String> {
        let length = SeccompCmpArgLen::Qword;
        let condition = SeccompCondition::new(argument, length, operation, value);
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        Ok(vec![rule.map_err(|error| error.to_string())?])
    };
    // Processes and threads, but no namespaces.
    let namespaces = libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWUTS;
    let mask = SeccompCmpOp::MaskedEq(u64::from(namespaces.cast_unsigned()));
    rules.insert(libc::SYS_clone, when(0, mask, 0)?);
    // isatty(3).
    rules.insert(libc::SYS_ioctl, when(1, SeccompCmpOp::Eq, libc::TCGETS)?);
    let (other, allowed) = (SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow);
    let architecture = std::env::consts::ARCH.try_into().map_err(|_| "no filter is known here")?;
    SeccompFilter::new(rules, other, allowed, architecture)
        .and_then(TryInto::try_into)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    fn confined(script: &str) -> bool {
        let filter = filter().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-ec", script]);
        let in_child = move || {
            seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into())
        };
        #[allow(unsafe_code)]
        // SAFETY: the closure makes two system calls and allocates nothing where they succeed.
        unsafe {
            command.pre_exec(in_child);
        }
        command.output().unwrap().status.success()
    }

    #[test]
    fn programs_read_write_and_start_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a").display().to_string();
        assert!(confined(&format!(
            "echo text > {file}; cat {file} | tr t T | grep TexT; mv {file} {file}.b; test -s {file}.b"
        )));
    }

    #[test]
    fn namespaces_networks_and_tracing_are_not_to_be_had() {
        assert!(confined("unshare --version"));
        assert!(!confined("unshare --user true"));
        assert!(!confined("mount -t tmpfs none /tmp"));
        assert!(!confined(
            "python3 -c 'import socket; socket.socket()' || perl -MSocket -e \
                           'socket(S, PF_INET, SOCK_STREAM, 0) or exit 1'"
        ));
    }
}
