"""The file seam: the only module that touches files, and so the one place a test replaces to cut the power.

Every other module gets a `FileSystem` and sees paths as strings. `OsFileSystem` is the real one; the crash tests bring
others that keep files in memory, record every call, or fail on purpose. Nothing here retries, caches or decides.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import socket
import sys
from datetime import datetime, timezone
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DIRECTORY_MODE = 0o700  # what an agent remembers is for its owner only
FILE_MODE = 0o600

_MAPPED_FROM = 1 << 19  # bytes from which memory is the system's own: more than a page split reads
# Private where that can be chosen: after a fork the child must not write into its parent's store.
_PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}

Buffer = Any  # bytes, bytearray, memoryview or a C-contiguous ndarray


class File(Protocol):
    """One open file. Offsets and counts are bytes."""

    path: str

    def pread(self, count: int, offset: int) -> bytes:
        """Read up to `count` bytes; fewer only at the end of the file."""
        ...

    def pwrite(self, data: Buffer, offset: int) -> int:
        """Write at `offset` and return how many bytes were taken; `write_fully` loops over it."""
        ...

    def size(self) -> int:
        """Length of the file."""
        ...

    def truncate(self, size: int) -> None:
        """Set the file's length."""
        ...

    def allocate(self, offset: int, count: int) -> None:
        """Reserve space and grow the file, so that a later write there cannot run out of space."""
        ...

    def fsync(self) -> None:
        """Reach the disk with data and metadata."""
        ...

    def fdatasync(self) -> None:
        """Reach the disk with data, and with the metadata needed to read it back."""
        ...

    def map(self, length: int, *, private: bool = False) -> Buffer:
        """Map the first `length` bytes: read-only, or writable and private to this process (copy on write)."""
        ...

    def close(self) -> None:
        """Close the descriptor; mappings stay valid."""
        ...


class Lock(Protocol):
    """A held writer's lock."""

    def release(self) -> None:
        """Give the lock back."""
        ...

    def abandon(self) -> None:
        """Close the descriptor in a forked child without unlocking the parent."""
        ...


class FileSystem(Protocol):
    """Everything aeon asks of a file system."""

    def open(self, path: str, *, writable: bool = False, create: bool = False) -> File:
        """Open a file; with `create` it must not exist yet."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted; FileNotFoundError if there is none."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or directory stands at `path`."""
        ...

    def is_dir(self, path: str) -> bool:
        """Whether a directory stands at `path`."""
        ...

    def mkdir(self, path: str) -> None:
        """Make one directory, for the owner only."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Replace `target` by `source` in one step."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file's name."""
        ...

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        ...

    def fsync_dir(self, path: str) -> None:
        """Reach the disk with a directory's entries."""
        ...

    def lock(self, path: str, holder: str) -> Lock:
        """Take the writer's lock and write `holder` into it; BlockingIOError(holder of the lock) if it is taken."""
        ...


class NoSpaceError(OSError):
    """The device has no room (or the quota is used up); raised by `allocate` only, before anything was written."""


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path that stays right when the process changes its directory; `~` is the user's home."""
    if not os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, "an empty path names no store", path)
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


def parent(path: str) -> str:
    """The directory that holds `path`."""
    return os.path.dirname(path)


def describe_process() -> str:
    """The line a writer leaves in its LOCK."""
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return f"pid {os.getpid()} on {socket.gethostname()} since {started}"


def write_fully(file: File, data: Buffer, offset: int) -> None:
    """Write all of `data`; a device that takes nothing raises OSError(EIO)."""
    written = file.pwrite(data, offset)
    total = len(data) if type(data) is bytes else memoryview(data).nbytes
    if written == total:
        return
    view = memoryview(data).cast("B")
    while written < total:
        count = file.pwrite(view[written:], offset + written)
        if count <= 0:
            raise OSError(errno.EIO, "write took no bytes", file.path)
        written += count


def read_whole(files: FileSystem, path: str) -> bytes:
    """Read a file of modest size."""
    file = files.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    if hasattr(os, "pread"):

        def pread(self, count: int, offset: int) -> bytes:
            """See `File.pread`."""
            parts = []
            while count > 0:
                part = os.pread(self._fd, count, offset)
                if not part:
                    break
                parts.append(part)
                count -= len(part)
                offset += len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)

        def pwrite(self, data: Buffer, offset: int) -> int:
            """See `File.pwrite`."""
            return os.pwrite(self._fd, data, offset)

    else:  # Windows: the store's locks keep two threads from moving the position at once

        def pread(self, count: int, offset: int) -> bytes:
            """See `File.pread`."""
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, count)

        def pwrite(self, data: Buffer, offset: int) -> int:
            """See `File.pwrite`."""
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.write(self._fd, data)

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(self._fd, size)

    def allocate(self, offset: int, count: int) -> None:
        """See `File.allocate`."""
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, offset, count)
            else:
                os.ftruncate(self._fd, offset + count)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(error.errno, error.strerror, self.path) from error
            raise

    def fsync(self) -> None:
        """See `File.fsync`."""
        if sys.platform == "darwin":  # fsync alone leaves the data in the drive's cache there
            import fcntl

            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(self._fd)

    def fdatasync(self) -> None:
        """See `File.fdatasync`."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(self._fd)
        else:
            self.fsync()

    def map(self, length: int, *, private: bool = False) -> Buffer:
        """See `File.map`."""
        return mmap.mmap(self._fd, length, access=mmap.ACCESS_COPY if private else mmap.ACCESS_READ)

    def close(self) -> None:
        """See `File.close`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # Ctrl-C may have come before it was there
            self.close()


def let_go(mapping: Buffer, start: int, stop: int) -> None:
    """Take the whole pages of a read-only mapping between two offsets out of the process's memory.

    What was mapped stays so, and comes from the system's cache or the disk when it is touched again. Does nothing where the
    system has no such call.
    """
    first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if end > first and isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED, first, end - first)


class OsLock:
    """An advisory lock on an open LOCK file; it goes with the process, whatever kills it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """See `Lock.release`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                _unlock(fd)
            finally:
                os.close(fd)

    def abandon(self) -> None:
        """See `Lock.abandon`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.abandon()  # a store that was dropped without `close` does not lock out the next one


class OsFileSystem:
    """The operating system's files."""

    def open(self, path: str, *, writable: bool = False, create: bool = False) -> OsFile:
        """See `FileSystem.open`."""
        flags = (os.O_RDWR if writable or create else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(path, os.open(path, flags | getattr(os, "O_CLOEXEC", 0), FILE_MODE))

    def listdir(self, path: str) -> list[str]:
        """See `FileSystem.listdir`."""
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        """See `FileSystem.exists`."""
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        """See `FileSystem.is_dir`."""
        return os.path.isdir(path)

    def mkdir(self, path: str) -> None:
        """See `FileSystem.mkdir`."""
        os.mkdir(path, DIRECTORY_MODE)

    def rename(self, source: str, target: str) -> None:
        """See `FileSystem.rename`."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """See `FileSystem.unlink`."""
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        """See `FileSystem.rmdir`."""
        os.rmdir(path)

    def fsync_dir(self, path: str) -> None:
        """See `FileSystem.fsync_dir`."""
        if os.name == "nt":  # directories cannot be opened there; NTFS journals its entries
            return
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str, holder: str) -> OsLock:
        """See `FileSystem.lock`."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        fd = os.open(path, flags, FILE_MODE)
        try:
            if not _try_lock(fd):
                raise BlockingIOError(errno.EWOULDBLOCK, os.read(fd, 4096).decode("utf-8", "replace").strip())
            os.ftruncate(fd, 0)
            os.write(fd, holder.encode())
        except BaseException:
            os.close(fd)
            raise
        return OsLock(fd)


if sys.platform == "win32":  # pragma: no cover - exercised on Windows only
    import msvcrt

    _LOCK_OFFSET = (
        1 << 30
    )  # msvcrt locks are mandatory: lock a byte nobody reads, so that the holder's line stays legible

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`np.zeros`, of memory that costs nothing until it is touched and goes back to the system as soon as it is let go.

    What malloc gave, it keeps: after some large pieces were freed glibc takes more like them from its heap, and hands back
    nothing that lies below something in use (half of a process that filled a store, measured).
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _MAPPED_FROM:
        return np.zeros(shape, dtype)
    return np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), dtype).reshape(shape)
