"""Does the same random operations in two directories and compares all that they answer.

usage: differential.py populate DIRECTORY SEED
       differential.py run DIRECTORY OTHER SEED COUNT
       differential.py compare DIRECTORY OTHER

Used by differential.rs, with a mount and a directory of tmpfs.
"""

import ctypes
import errno
import os
import random
import stat
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
NAMES = ["a", "b", "c", "d", "e", "f", "long" * 60, "x" * 256]
XATTRS = ["user.a", "user.b", "user.empty"]
SIZES = [0, 1, 100, 4095, 4096, 4097, 70000, 200000]
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
FOLLOW_NEITHER = -100


def libc(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def rename2(old, new, flags):
    paths = FOLLOW_NEITHER, os.fsencode(old), FOLLOW_NEITHER, os.fsencode(new)
    libc(LIBC.renameat2(*paths, flags))


def fallocate(fd, mode, offset, length):
    size = ctypes.c_longlong
    libc(LIBC.fallocate(fd, mode, size(offset), size(length)))


class Opened:
    """Opens for one operation."""

    def __init__(self, path, flags):
        self.fd = os.open(path, flags | os.O_CLOEXEC)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def content(length, mark):
    return bytes((mark + i * 7) % 251 for i in range(min(length, 997))) * (length // 997 + 1)


def write(path, offset, length, mark, flags):
    with Opened(path, os.O_WRONLY | flags) as fd:
        return os.pwrite(fd, content(length, mark)[:length], offset)


def read(path, offset, length):
    with Opened(path, os.O_RDONLY) as fd:
        return os.pread(fd, length, offset)


def make_file(path, mode, flags, length, mark):
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | flags, mode)
    try:
        return os.write(fd, content(length, mark)[:length])
    finally:
        os.close(fd)


def allocate(path, mode, offset, length):
    with Opened(path, os.O_RDWR) as fd:
        fallocate(fd, mode, offset, length)


def copy_range(source, target, length, source_offset, target_offset):
    with Opened(source, os.O_RDONLY) as from_fd, Opened(target, os.O_WRONLY) as to_fd:
        return os.copy_file_range(from_fd, to_fd, length, source_offset, target_offset)


def listing(path):
    return sorted(os.listdir(path))


def described(path):
    """What is the same in any file system; times are, where they were set."""
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    told = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_nlink, info.st_rdev]
    return told if kind == stat.S_IFDIR else told + [info.st_size]


def set_times(path, seconds):
    os.utime(path, ns=(seconds * 10**9 + 5, seconds * 10**9 + 7), follow_symlinks=False)
    return os.lstat(path).st_mtime_ns


def change_mode(path, mode):
    """Directories stay readable: what is in them is compared."""
    os.chmod(path, mode | 0o700 if os.path.isdir(path) else mode)


def write_twice(path, flags):
    with Opened(path, os.O_WRONLY | flags) as fd:
        return os.write(fd, b"one"), os.write(fd, b"three")


class Held:
    """Files that are open, with or without a name."""

    def __init__(self):
        self.fds = {}

    def open(self, number, path):
        self.close(number)
        self.fds[number] = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, number):
        if number in self.fds:
            os.close(self.fds.pop(number))

    def fd(self, number):
        if number not in self.fds:
            raise OSError(errno.EBADF, "not open")
        return self.fds[number]

    def write(self, number, offset, length, mark):
        return os.pwrite(self.fd(number), content(length, mark)[:length], offset)

    def read(self, number):
        return os.pread(self.fd(number), 1 << 20, 0)

    def truncate(self, number, size):
        os.ftruncate(self.fd(number), size)

    def stat(self, number):
        info = os.fstat(self.fd(number))
        return [oct(info.st_mode), info.st_nlink, info.st_size]


def entry(chance, root):
    """A path below the root, most often one that is there."""
    path = ""
    for _ in range(chance.randint(1, 4)):
        try:
            names = [name for name in os.listdir(root + path)]
        except OSError:
            break
        if not names or chance.random() < 0.3:
            return path + "/" + chance.choice(NAMES)
        path += "/" + chance.choice(sorted(names))
        if chance.random() < 0.4:
            break
    return path


def operation(chance, root):
    """A name, the function, and its arguments; those that begin with a slash are paths."""
    path = lambda: entry(chance, root)
    offset = lambda: chance.choice([0, 1, 511, 4096, 5000, 65536, 100000])
    size = lambda: chance.choice(SIZES)
    mark = chance.randrange(251)
    mode = chance.choice([0o600, 0o644, 0o755, 0o700, 0o4755, 0o2711])
    held = chance.randrange(3)
    exclusive = chance.choice([0, 0, os.O_EXCL, os.O_TRUNC])
    flags = chance.choice([0, 0, os.O_TRUNC, os.O_APPEND])
    area = chance.choice([0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
    if area & ZERO_RANGE:
        area = 0  # tmpfs knows no ZERO_RANGE.
    target = chance.choice(["a", "/nowhere", "d/e", ".", "f" * 200])
    return chance.choice([
        ("make", make_file, path(), mode, exclusive, size(), mark),
        ("make", make_file, path(), mode, exclusive, size(), mark),
        ("mkdir", os.mkdir, path(), chance.choice([0o755, 0o700, 0o1777])),
        ("mkdir", os.mkdir, path(), chance.choice([0o755, 0o700, 0o2755])),
        ("unlink", os.unlink, path()),
        ("rmdir", os.rmdir, path()),
        ("rename", os.rename, path(), path()),
        ("rename", os.rename, path(), path()),
        ("rename without replacing", rename2, path(), path(), 1),
        ("exchange", rename2, path(), path(), 2),
        ("link", os.link, path(), path()),
        ("symlink", symlink, path(), "=" + target),
        ("readlink", os.readlink, path()),
        ("mkfifo", os.mkfifo, path(), 0o640),
        ("truncate", os.truncate, path(), size()),
        ("write", write, path(), offset(), size(), mark, flags & ~os.O_APPEND),
        ("append", write_twice, path(), os.O_APPEND | flags),
        ("read", read, path(), offset(), size()),
        ("chmod", change_mode, path(), mode),
        ("utime", set_times, path(), chance.choice([-5, 0, 1, 10**9, 2**33])),
        ("fallocate", allocate, path(), area, offset(), size()),
        ("copy range", copy_range, path(), path(), size(), offset(), offset()),
        ("list", listing, path()),
        ("stat", described, path()),
        ("setxattr", os.setxattr, path(), "=" + chance.choice(XATTRS), b"v" * chance.choice([0, 1, 300]),
         chance.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])),
        ("getxattr", os.getxattr, path(), "=" + chance.choice(XATTRS)),
        ("removexattr", os.removexattr, path(), "=" + chance.choice(XATTRS)),
        ("open", "open", held, path()),
        ("open", "open", held, path()),
        ("close", "close", held),
        ("write held", "write", held, offset(), size(), mark),
        ("read held", "read", held),
        ("truncate held", "truncate", held, size()),
        ("stat held", "stat", held),
    ])


def symlink(path, target):
    os.symlink(target, path)


def perform(root, held, function, arguments):
    def placed(value):
        if not isinstance(value, str):
            return value
        return value[1:] if value.startswith("=") else root + value

    if isinstance(function, str):
        function = getattr(held, function)
    try:
        return function(*[placed(value) for value in arguments])
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)


def is_fifo(path):
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def tree(root):
    """Everything below a directory, hard links by the first name of each node."""
    found, first = {}, {}
    for directory, names, files in os.walk(root):
        for name in sorted(names + files):
            path = os.path.join(directory, name)
            shown = path[len(root):]
            info = os.lstat(path)
            told = described(path)
            told.append(first.setdefault(info.st_ino, shown))
            if stat.S_ISLNK(info.st_mode):
                told.append(os.readlink(path))
            elif not stat.S_ISFIFO(info.st_mode):
                names_of = sorted(os.listxattr(path))
                told.append({name: os.getxattr(path, name) for name in names_of if name[:5] == "user."})
            if stat.S_ISREG(info.st_mode):
                told.append(read(path, 0, info.st_size + 1))
            found[shown] = told
        names.sort()
    return found


def shortened(value):
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "…"


def differ(what, one, other):
    sys.exit(f"{what}:\n  {shortened(one)}\n  {shortened(other)}")


def compare(one, other):
    trees = tree(one), tree(other)
    for path in sorted(set(trees[0]) | set(trees[1])):
        here, there = trees[0].get(path), trees[1].get(path)
        if here != there:
            differ(f"{path} differs", here, there)
    return len(trees[0])


def populate(root, seed):
    chance, held = random.Random(seed), Held()
    for _ in range(400):
        name, function, *arguments = operation(chance, root)
        if name != "rmdir" and name != "unlink" and not isinstance(function, str):
            if not any(is_fifo(root + value) for value in arguments if str(value)[:1] == "/"):
                perform(root, held, function, arguments)


def run(roots, seed, count):
    chance, held, done = random.Random(seed), (Held(), Held()), 0
    for number in range(count):
        name, function, *arguments = operation(chance, roots[1])
        # Opening a fifo waits for somebody at its other end.
        if any(is_fifo(roots[1] + value) for value in arguments if str(value)[:1] == "/"):
            if name in ("make", "write", "append", "read", "open", "fallocate", "copy range", "truncate"):
                continue
        results = [perform(root, holding, function, arguments) for root, holding in zip(roots, held)]
        if results[0] != results[1]:
            differ(f"operation {number}, {name} {shortened(arguments)}", *results)
        done += not isinstance(results[0], str)
        if number % 500 == 499:
            compare(*roots)
    for numbered in range(3):
        for holding in held:
            holding.close(numbered)
    print(f"{count} operations, {done} with success; {compare(*roots)} nodes at the end")


def main():
    os.umask(0o022)
    random.seed(0)
    command, *words = sys.argv[1:]
    if command == "populate":
        populate(words[0], int(words[1]))
    elif command == "run":
        run(words[:2], int(words[2]), int(words[3]))
    else:
        print(f"{compare(*words[:2])} nodes are the same")


main()
