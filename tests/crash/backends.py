"""File systems that stand in for the real one behind `aeon.files`: in memory, recording, and failing on purpose.

    MemoryFileSystem      files in memory; counts what is changed and what is left open
    RecordingFileSystem   the same, and logs every change and sync with its place in the code, and what callers were promised
    FaultyFileSystem      the same, and fails by a plan; after a failed sync the unsynced bytes are gone

Objects (files and directories) have numbers, and a log refers to them by number: a file that is renamed stays the same file.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aeon.files import NoSpaceError

HOME = "/home"  # the directory that the stores of all tests stand in
STORE = f"{HOME}/agent.aeon"
LOCK_NAME = "LOCK"


class Inode:
    """A file's bytes. `data` is `bytes` until the file is written to, so that images share what they do not change."""

    __slots__ = ("data", "number", "synced")

    def __init__(self, number: int, data: bytes | bytearray = b"") -> None:
        self.number = number
        self.data = data
        self.synced: bytes = b""

    def writable(self) -> bytearray:
        """The bytes, ready to be changed."""
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
        return self.data


class Directory:
    """A directory's entries."""

    __slots__ = ("entries", "number", "synced")

    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: dict[str, Inode | Directory] = {}
        self.synced: dict[str, Inode | Directory] = {}


def change(data: bytearray, offset: int, piece: bytes) -> None:
    """Write `piece` at `offset`; a gap before it reads as zeros."""
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


class MemoryFile:
    """See `aeon.files.File`."""

    __slots__ = ("_files", "_inode", "path")

    def __init__(self, files: MemoryFileSystem, path: str, inode: Inode) -> None:
        self._files = files
        self._inode = inode
        self.path = path
        files.handles.add(self)

    def _required(self) -> Inode:
        if self not in self._files.handles:
            raise OSError(errno.EBADF, "the file was closed", self.path)
        return self._inode

    def pread(self, count: int, offset: int) -> bytes:
        inode = self._required()
        self._files.about("pread", self.path)
        return bytes(inode.data[offset : offset + count])

    def pwrite(self, data: Any, offset: int) -> int:
        inode = self._required()
        piece = bytes(memoryview(data).cast("B")) if not isinstance(data, bytes) else data
        piece = piece[: self._files.about("pwrite", self.path, len(piece))]
        self._files.changed(self.path, "write", inode, offset, piece)
        change(inode.writable(), offset, piece)
        return len(piece)

    def size(self) -> int:
        return len(self._required().data)

    def truncate(self, size: int) -> None:
        inode = self._required()
        self._files.about("truncate", self.path)
        self._files.changed(self.path, "truncate", inode, size)
        data = inode.writable()
        if size < len(data):
            del data[size:]
        else:
            data.extend(bytes(size - len(data)))

    def allocate(self, offset: int, count: int) -> None:
        inode = self._required()
        self._files.about("allocate", self.path)
        self._files.changed(self.path, "allocate", inode, offset + count)
        data = inode.writable()
        if offset + count > len(data):
            data.extend(bytes(offset + count - len(data)))

    def fsync(self) -> None:
        inode = self._required()
        self._files.sync("fsync", self.path, inode)

    def fdatasync(self) -> None:
        inode = self._required()
        self._files.sync("fdatasync", self.path, inode)

    def map(self, length: int, *, private: bool = False) -> Any:
        inode = self._required()
        self._files.about("map", self.path)
        if length > len(inode.data):
            raise ValueError("mmap length is greater than file size")
        if private:
            return bytearray(inode.data[:length])
        # A copy where the file is being written to: a resize must not move bytes under a mapping.
        return memoryview(inode.data if isinstance(inode.data, bytes) else bytes(inode.data))[:length]

    def close(self) -> None:
        self._files.handles.discard(self)


class MemoryLock:
    """See `aeon.files.Lock`."""

    __slots__ = ("_files", "_path")

    def __init__(self, files: MemoryFileSystem, path: str) -> None:
        self._files = files
        self._path = path

    def release(self) -> None:
        self._files.locks.pop(self._path, None)

    def abandon(self) -> None:
        pass


class MemoryFileSystem:
    """See `aeon.files.FileSystem`. `HOME` exists from the start.

    Attributes
    ----------
    mutations : paths that were changed, LOCK left out. handles, locks : what is open and what is held.
    """

    def __init__(self, root: Directory | None = None) -> None:
        self._next = 2
        if root is None:
            root, home = Directory(0), Directory(1)
            root.entries[HOME[1:]] = home
            root.synced[HOME[1:]] = home
        self.root = root
        self.mutations: list[str] = []
        self.handles: set[MemoryFile] = set()
        self.locks: dict[str, str] = {}

    # -- what the other file systems refine ---------------------------------------------------------------------

    def about(self, kind: str, path: str, count: int = 0) -> int:
        """Called before each operation; returns how many of `count` bytes a write takes."""
        return count

    def changed(self, path: str, kind: str, *arguments: Any) -> None:
        """Called with each change before it is made."""
        if not path.endswith(LOCK_NAME):
            self.mutations.append(f"{kind} {path}")

    def sync(self, kind: str, path: str, target: Inode | Directory) -> None:
        """Called for each sync."""
        self.about(kind, path)

    # -- names --------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Inode | Directory | None:
        """The file or directory at `path`, or None."""
        found: Inode | Directory = self.root
        for name in path.split("/"):
            if name:
                if not isinstance(found, Directory) or name not in found.entries:
                    return None
                found = found.entries[name]
        return found

    def _directory(self, path: str) -> Directory:
        found = self.find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        if not isinstance(found, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return found

    def _holder(self, path: str) -> tuple[Directory, str]:
        parent, _, name = path.rpartition("/")
        return self._directory(parent), name

    def _number(self) -> int:
        self._next += 1
        return self._next

    # -- the seam -----------------------------------------------------------------------------------------------

    def open(self, path: str, *, writable: bool = False, create: bool = False) -> MemoryFile:
        if create:
            holder, name = self._holder(path)
            self.about("create", path)
            if name in holder.entries:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            inode = Inode(self._number())
            self.changed(path, "link", holder, name, inode)
            holder.entries[name] = inode
            return MemoryFile(self, path, inode)
        self.about("open", path)
        found = self.find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if isinstance(found, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return MemoryFile(self, path, found)

    def listdir(self, path: str) -> list[str]:
        self.about("listdir", path)
        return sorted(self._directory(path).entries)

    def exists(self, path: str) -> bool:
        return self.find(path) is not None

    def is_dir(self, path: str) -> bool:
        return isinstance(self.find(path), Directory)

    def mkdir(self, path: str) -> None:
        holder, name = self._holder(path)
        self.about("mkdir", path)
        if name in holder.entries:
            raise FileExistsError(errno.EEXIST, "file exists", path)
        made = Directory(self._number())
        self.changed(path, "link", holder, name, made)
        holder.entries[name] = made

    def rename(self, source: str, target: str) -> None:
        holder, old = self._holder(source)
        other, new = self._holder(target)
        assert holder is other, "aeon renames within one directory"
        self.about("rename", source)
        if old not in holder.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        moved = holder.entries[old]
        self.changed(target, "rename", holder, old, new, moved)
        del holder.entries[old]
        holder.entries[new] = moved

    def unlink(self, path: str) -> None:
        holder, name = self._holder(path)
        self.about("unlink", path)
        if not isinstance(holder.entries.get(name), Inode):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self.changed(path, "unlink", holder, name)
        del holder.entries[name]

    def rmdir(self, path: str) -> None:
        holder, name = self._holder(path)
        self.about("rmdir", path)
        if self._directory(path).entries:
            raise OSError(errno.ENOTEMPTY, "directory not empty", path)
        self.changed(path, "unlink", holder, name)
        del holder.entries[name]

    def fsync_dir(self, path: str) -> None:
        self.sync("fsync_dir", path, self._directory(path))

    def lock(self, path: str, holder: str) -> MemoryLock:
        self.about("lock", path)
        if path in self.locks:
            raise BlockingIOError(errno.EWOULDBLOCK, self.locks[path])
        directory, name = self._holder(path)
        if name not in directory.entries:
            inode = Inode(self._number())
            self.changed(path, "link", directory, name, inode)
            directory.entries[name] = inode
        self.locks[path] = holder
        return MemoryLock(self, path)

    # -- for tests ----------------------------------------------------------------------------------------------

    def contents(self) -> list[tuple[str, bytes]]:
        """(path, bytes) of every file, and (path + "/", b"") of every directory, LOCK left out."""
        return list(_walk(self.root, ""))

    def clone(self) -> MemoryFileSystem:
        """A copy that shares no state; nothing is open in it."""
        return MemoryFileSystem(_copy(self.root))

    def write_file(self, path: str, data: bytes) -> None:
        """Replace a file's bytes behind the store's back."""
        holder, name = self._holder(path)
        holder.entries[name] = Inode(self._number(), data)

    def read_file(self, path: str) -> bytes:
        """A file's bytes."""
        found = self.find(path)
        assert isinstance(found, Inode), path
        return bytes(found.data)

    def require_nothing_open(self) -> None:
        """Fail if a descriptor or a lock was left behind."""
        assert not self.handles, f"left open: {sorted(file.path for file in self.handles)}"
        assert not self.locks, f"left locked: {sorted(self.locks)}"


def _walk(directory: Directory, path: str) -> Iterator[tuple[str, bytes]]:
    for name in sorted(directory.entries):
        entry = directory.entries[name]
        if isinstance(entry, Directory):
            yield f"{path}/{name}/", b""
            yield from _walk(entry, f"{path}/{name}")
        elif name != LOCK_NAME:
            yield f"{path}/{name}", bytes(entry.data)


def _copy(directory: Directory) -> Directory:
    copy = Directory(directory.number)
    for name, entry in directory.entries.items():
        copy.entries[name] = _copy(entry) if isinstance(entry, Directory) else Inode(entry.number, bytes(entry.data))
    return copy


# -- recording ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One entry of a log.

    Parameters
    ----------
    kind : write, truncate, allocate (of a file); link, unlink, rename (of a directory); sync; promise.
    target : number of the file or directory; of a promise, how many commits were acknowledged.
    arguments : of a write (offset, bytes); of truncate and allocate (size,); of link (name, number); of unlink (name,);
        of rename (old name, new name, number); of a promise (kind of promise,).
    place : which line of aeon did it.
    """

    kind: str
    target: int
    arguments: tuple[Any, ...]
    place: str


def _place() -> str:
    """The innermost frame in aeon above the seam."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/aeon/" in name and not name.endswith("/files.py") and "/tests/" not in name:
            return f"{name.rpartition('/')[2]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


class RecordingFileSystem(MemoryFileSystem):
    """Logs every change and every sync. `base` is the state that was on disk before the log begins.

    Attributes
    ----------
    log : what happened, in order. kinds : 0 = file, 1 = directory, by number.
    """

    def __init__(self, root: Directory | None = None, next_number: int = 2) -> None:
        super().__init__(root)
        self._next = next_number
        self.base = _copy(self.root)
        self.log: list[Change] = []
        self.is_directory: dict[int, bool] = {}
        self._note(self.root)

    def _note(self, entry: Inode | Directory) -> None:
        self.is_directory[entry.number] = isinstance(entry, Directory)
        self._next = max(self._next, entry.number)
        if isinstance(entry, Directory):
            for inner in entry.entries.values():
                self._note(inner)

    def changed(self, path: str, kind: str, *arguments: Any) -> None:
        super().changed(path, kind, *arguments)
        target, *rest = arguments
        numbers = []
        for argument in rest:
            if isinstance(argument, (Inode, Directory)):
                self.is_directory[argument.number] = isinstance(argument, Directory)
                argument = argument.number
            numbers.append(argument)
        self.log.append(Change(kind, target.number, tuple(numbers), _place()))

    def sync(self, kind: str, path: str, target: Inode | Directory) -> None:
        super().sync(kind, path, target)
        self.log.append(Change("sync", target.number, (kind,), _place()))

    def promise(self, kind: str, commits: int) -> None:
        """Note what a caller was told: "begun", "acknowledged" or "durable", and of how many commits."""
        self.log.append(Change("promise", commits, (kind,), ""))


# -- failing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """The `nth` operation (from 1) of a `kind` fails with `error` (an errno, or 0 for a short write), once or for ever."""

    kind: str
    nth: int
    error: int
    forever: bool = False


class FaultyFileSystem(MemoryFileSystem):
    """Fails by a plan. Remembers what is on disk: after a failed sync the unsynced bytes are gone, and the next sync is fine.

    Attributes
    ----------
    counts : how many operations of each kind there were. fired : how many of them failed.
    """

    def __init__(self, plan: Fault | None = None, root: Directory | None = None) -> None:
        super().__init__(root)
        if root is not None:
            _mark_synced(root)
        self.plan = plan
        self.counts: dict[str, int] = {}
        self.fired = 0

    def about(self, kind: str, path: str, count: int = 0) -> int:
        number = self.counts[kind] = self.counts.get(kind, 0) + 1
        plan = self.plan
        if plan is None or plan.kind != kind or not (number == plan.nth or (plan.forever and number > plan.nth)):
            return count
        self.fired += 1
        if plan.error == 0:
            return count // 2
        if kind == "allocate" and plan.error == errno.ENOSPC:
            raise NoSpaceError(plan.error, "injected", path)
        raise OSError(plan.error, "injected", path)

    def sync(self, kind: str, path: str, target: Inode | Directory) -> None:
        try:
            self.about(kind, path)
        except OSError:
            if isinstance(target, Inode):
                target.data = target.synced
            else:
                target.entries = dict(target.synced)
            raise
        if isinstance(target, Inode):
            target.synced = bytes(target.data)
        else:
            target.synced = dict(target.entries)

    def after_power_cut(self) -> MemoryFileSystem:
        """What is on disk if the power goes now: what was synced, and nothing else."""
        return MemoryFileSystem(_copy_synced(self.root))

    def after_kill(self) -> MemoryFileSystem:
        """What is there if the process dies now and the machine goes on."""
        return self.clone()


def _mark_synced(directory: Directory) -> None:
    """What was there at the start is on disk."""
    directory.synced = dict(directory.entries)
    for entry in directory.entries.values():
        if isinstance(entry, Directory):
            _mark_synced(entry)
        else:
            entry.synced = bytes(entry.data)


def _copy_synced(directory: Directory) -> Directory:
    copy = Directory(directory.number)
    for name, entry in directory.synced.items():
        copy.entries[name] = _copy_synced(entry) if isinstance(entry, Directory) else Inode(entry.number, entry.synced)
    return copy
