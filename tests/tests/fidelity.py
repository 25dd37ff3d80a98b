"""Runs in a guest, in a directory of its sysroot: tries every row of the table in docs/guests.md
and prints one JSON object, row -> "ok" or what went wrong."""
import ctypes, errno, fcntl, json, mmap, os, socket, stat, struct, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
results = {}


def row(name):
    def run(function):
        try:
            results[name] = function() or "ok"
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno, str(error.errno))
        except AssertionError as error:
            results[name] = "wrong: %s" % error
    return run


def write(path, text="x"):
    with open(path, "w") as out:
        out.write(text)


def checked(value):
    if value < 0:
        raise OSError(ctypes.get_errno(), "")
    return value


@row("chown")
def _():
    write("owned")
    os.chown("owned", 12345, 54321)
    found = os.stat("owned")
    assert (found.st_uid, found.st_gid) == (12345, 54321), found


@row("setuid, setgid, sticky")
def _():
    write("special")
    os.chmod("special", 0o6755)
    assert stat.S_IMODE(os.stat("special").st_mode) == 0o6755
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    assert stat.S_IMODE(os.stat("sticky").st_mode) == 0o1777


@row("symlink")
def _():
    os.symlink("../a target", "symlink")
    assert os.readlink("symlink") == "../a target"
    assert stat.S_ISLNK(os.lstat("symlink").st_mode)


@row("hard link")
def _():
    write("first")
    os.link("first", "second")
    assert os.stat("first").st_ino == os.stat("second").st_ino
    assert os.stat("first").st_nlink == 2, os.stat("first").st_nlink


@row("rename")
def _():
    write("before", "b")
    write("after", "a")
    os.rename("before", "after")
    assert open("after").read() == "b"


@row("locks")
def _():
    # On two files: a 9p client makes both the same kind, and they would wait for each other.
    with open("flocked", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    with open("locked", "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)


@row("exec")
def _():
    write("program", "#!/bin/sh\necho ran\n")
    os.chmod("program", 0o755)
    assert subprocess.check_output(["./program"]) == b"ran\n"


@row("mknod c, b")
def _():
    os.mknod("char", stat.S_IFCHR, os.makedev(5, 1))
    os.chmod("char", 0o620)
    os.mknod("block", stat.S_IFBLK | 0o660, os.makedev(300, 70000))
    found = os.stat("block")
    assert stat.S_ISBLK(found.st_mode), oct(found.st_mode)
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (300, 70000), found.st_rdev


@row("mkfifo, socket, char 0:0")
def _():
    os.mkfifo("fifo")
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    assert stat.S_ISSOCK(os.stat("socket").st_mode)
    os.unlink("socket")
    os.mknod("whiteout", stat.S_IFCHR, os.makedev(0, 0))
    assert os.stat("whiteout").st_rdev == 0


@row("hard link to a foreign setuid file")
def _():
    write("suid")
    os.chown("suid", 4321, 4321)
    os.chmod("suid", 0o4755)
    os.link("suid", "suid-link")


@row("user.* xattrs")
def _():
    write("tagged")
    os.setxattr("tagged", "user.comment", b"kept")
    assert os.getxattr("tagged", "user.comment") == b"kept"


@row("trusted.*, security.* xattrs")
def _():
    write("capable")
    os.setxattr("capable", "security.capability", struct.pack("<IIIII", 0x02000001, 1024, 0, 0, 0))


@row("RENAME_EXCHANGE")
def _():
    write("left", "l")
    write("right", "r")
    checked(libc.renameat2(-100, b"left", -100, b"right", 2))


@row("O_TMPFILE")
def _():
    os.close(os.open(".", os.O_TMPFILE | os.O_RDWR))


@row("fallocate")
def _():
    with open("allocated", "w") as file:
        checked(libc.fallocate64(file.fileno(), 0, ctypes.c_int64(0), ctypes.c_int64(65536)))


@row("ftruncate, fchmod on an unlinked open file")
def _():
    with open("unlinked", "w+") as file:
        os.unlink("unlinked")
        file.write("xxxx")
        file.flush()
        os.ftruncate(file.fileno(), 1)
        os.fchmod(file.fileno(), 0o600)


@row("shared writable mmap")
def _():
    with open("mapped", "w+b") as file:
        file.write(b"\0" * 8192)
        file.flush()
        with mmap.mmap(file.fileno(), 8192) as memory:
            memory[4096:4100] = b"seen"
            memory.flush()
    with open("mapped", "rb") as file:
        file.seek(4096)
        assert file.read(4) == b"seen"


@row("nanosecond utimes")
def _():
    write("fine")
    os.utime("fine", ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    # What the server says, not what this kernel remembers.
    open("/proc/sys/vm/drop_caches", "w").write("2")
    found = os.stat("fine").st_mtime_ns
    assert found == 1_000_000_000_123_456_789, found


@row("utimes before 1970")
def _():
    write("ancient")
    os.utime("ancient", (-5, -5))
    open("/proc/sys/vm/drop_caches", "w").write("2")
    found = os.stat("ancient").st_mtime
    assert found == -5, found


json.dump(results, sys.stdout, indent=1, sort_keys=True)
