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


def refused_to_another(lock, path):
    """Whether another process, with an open file of its own, does not get the lock."""
    child = os.fork()
    if child == 0:
        try:
            lock(open(path, "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    assert os.WIFEXITED(ended) and os.WEXITSTATUS(ended) < 2, ended
    return os.WEXITSTATUS(ended) == 1


def keeps_xattr(path, name, value):
    os.setxattr(path, name, value)
    found = os.getxattr(path, name)
    assert found == value, found
    assert name in os.listxattr(path), os.listxattr(path)


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
    for name, lock in [("flocked", fcntl.flock), ("locked", fcntl.lockf)]:
        with open(name, "w") as file:
            lock(file, fcntl.LOCK_EX)
            assert refused_to_another(lock, name), name + ": two have it"
            lock(file, fcntl.LOCK_UN)
            assert not refused_to_another(lock, name), name + ": nobody has it, and it is refused"


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
    keeps_xattr("tagged", "user.comment", b"kept")


@row("trusted.* xattrs")
def _():
    write("trusting")
    keeps_xattr("trusting", "trusted.comment", b"kept")


@row("security.* xattrs")
def _():
    write("capable")
    # Version 2 of a file capability, effective: CAP_NET_BIND_SERVICE.
    capability = struct.pack("<IIIII", 0x02000001, 1024, 0, 0, 0)
    keeps_xattr("capable", "security.capability", capability)


@row("RENAME_EXCHANGE")
def _():
    write("left", "l")
    write("right", "r")
    checked(libc.renameat2(-100, b"left", -100, b"right", 2))
    assert (open("left").read(), open("right").read()) == ("r", "l")


@row("O_TMPFILE")
def _():
    nameless = os.open(".", os.O_TMPFILE | os.O_RDWR)
    os.write(nameless, b"kept")
    # AT_SYMLINK_FOLLOW, which os.link does not pass on.
    checked(libc.linkat(-100, b"/proc/self/fd/%d" % nameless, -100, b"named", 0x400))
    os.close(nameless)
    assert open("named").read() == "kept"


@row("fallocate")
def _():
    with open("allocated", "w+b") as file:
        def allocate(how, offset, length):
            start, count = ctypes.c_int64(offset), ctypes.c_int64(length)
            checked(libc.fallocate64(file.fileno(), how, start, count))
            open("/proc/sys/vm/drop_caches", "w").write("3")
            return os.fstat(file.fileno())

        file.write(b"x" * 10)
        file.flush()
        found = allocate(0, 0, 65536)
        assert found.st_size == 65536, found
        assert found.st_blocks * 512 >= 65536, found
        assert os.pread(file.fileno(), 65537, 0) == b"x" * 10 + bytes(65526)
        # FALLOC_FL_KEEP_SIZE
        found = allocate(1, 65536, 65536)
        assert found.st_size == 65536, found
        # FALLOC_FL_ZERO_RANGE
        allocate(0x10, 2, 6)
        assert os.pread(file.fileno(), 12, 0) == b"xx" + bytes(6) + b"xx" + bytes(2)


@row("punched holes, SEEK_HOLE")
def _():
    with open("holes", "w+b") as file:
        file.write(b"x" * 65536)
        file.flush()
        before = os.fstat(file.fileno()).st_blocks
        # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        checked(libc.fallocate64(file.fileno(), 3, ctypes.c_int64(8192), ctypes.c_int64(16384)))
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 8192
        assert os.lseek(file.fileno(), 8192, os.SEEK_DATA) == 24576
        open("/proc/sys/vm/drop_caches", "w").write("3")
        content = os.pread(file.fileno(), 65537, 0)
        assert content == b"x" * 8192 + bytes(16384) + b"x" * 40960
        after = os.fstat(file.fileno()).st_blocks
        assert after == before - 32, (before, after)


@row("copy_file_range")
def _():
    write("original", "0123456789" * 1000)
    with open("original", "rb") as source, open("copy", "wb") as target:
        done = os.copy_file_range(source.fileno(), target.fileno(), 10000, 5, 0)
    assert done == 9995, done
    assert open("copy").read() == open("original").read()[5:]


@row("RENAME_NOREPLACE")
def _():
    write("source", "s")
    write("taken", "t")
    try:
        checked(libc.renameat2(-100, b"source", -100, b"taken", 1))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    assert open("taken").read() == "t"
    checked(libc.renameat2(-100, b"source", -100, b"free", 1))
    assert open("free").read() == "s"


@row("a write by somebody else takes setuid away")
def _():
    write("privileged")
    os.chmod("privileged", 0o6777)
    child = os.fork()
    if child == 0:
        os.setgid(1000)
        os.setuid(1000)
        write("privileged", "y")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    mode = stat.S_IMODE(os.stat("privileged").st_mode)
    assert mode == 0o777, oct(mode)


@row("permissions")
def _():
    os.mkdir("closed", 0o700)
    write("closed/file")
    child = os.fork()
    if child == 0:
        os.setgid(1000)
        os.setuid(1000)
        try:
            open("closed/file")
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "a stranger may look"


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


@row("cp -p, install -m")
def _():
    write("plain")
    os.chmod("plain", 0o4754)
    subprocess.run(["cp", "-p", "plain", "copied"], check=True)
    subprocess.run(["install", "-m", "4711", "plain", "installed"], check=True)
    for name, mode in [("copied", 0o104754), ("installed", 0o104711)]:
        assert os.stat(name).st_mode == mode, oct(os.stat(name).st_mode)
        # An ACL beside the mode would mean something else to whom it is exported to.
        assert not os.listxattr(name), os.listxattr(name)


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
