"""Opening a store: make it or find it, take the lock, recover, hand out a `Store`."""

from __future__ import annotations

import time
import uuid
from os import PathLike
from typing import Any

from aeon import embedding
from aeon import manifest as manifests
from aeon.embedding import Embed
from aeon.engine import Engine
from aeon.errors import CorruptionError, InvalidInputError, LockedError, NotAStoreError, OpenError
from aeon.files import FileSystem, Lock, OsFileSystem, absolute, describe_process, parent, read_whole
from aeon.format import SEGMENT_HEADER, segment_name
from aeon.manifest import MANIFEST_NAME, Manifest
from aeon.options import Durability, Options, Rows
from aeon.recovery import Recovery, Replayed, cut_torn_tail, read_engine, remove_leftovers, replay, start_log
from aeon.store import Store
from aeon.wal import Wal, list_segments

LOCK_NAME = "LOCK"
_MADE_BEFORE_MANIFEST = {LOCK_NAME, f"{MANIFEST_NAME}.new", "wal"}


def open_store(
    path: str | PathLike[str],
    dim: int | None = None,
    *,
    durability: Durability = "full",
    embed: Embed | None = None,
    read_only: bool = False,
    rows: Rows = "int8",
    create: bool = True,
    files: FileSystem | None = None,
    **settings: Any,
) -> Store:
    """Open the store at `path`, and make it if nothing is there. Also a context manager.

    Parameters
    ----------
    path : the store's directory; its parent must exist.
    dim : length of the vectors the caller brings, 1 to 8192. An existing store knows it.
    durability : "full" (a commit is on disk when it returns), "normal" (it survives the death of the process), "off".
    embed : callable from list[str] to float[n, dim]. Its `name` attribute, or its module and name, is its identity:
        a store refuses another one. With neither `dim` nor `embed` a new store uses the built-in embedder.
    read_only : share the store with its writer; `Store.refresh` follows it.
    rows : "int8", a quarter of the memory, or "float32"; fixed when the store is made.
    create : False to refuse a path where no store is.
    settings : recall_target, unknown_fields, slb, slb_bytes_max, slb_shared, ttl, max_bytes, keep_versions, compact_share,
        checkpoint_log_bytes, background, segment_bytes_max, segment_growth_bytes (see `Options`).

    Recovers from a crash by itself: `Store.recovery` says what was done.
    Raises LockedError (names the holder's pid), NotAStoreError, VersionError, CorruptionError, EmbedderMismatchError,
    InvalidInputError; OpenError for what the operating system refuses. Cost: maps files and reads no vectors, so it does
    not grow with the store; plus replay of the log since the last checkpoint.
    """
    if rows not in ("int8", "float32"):
        raise InvalidInputError(f"rows is 'int8' or 'float32', not {rows!r}")
    try:
        options = Options(durability=durability, **settings)
    except TypeError as error:
        raise InvalidInputError(str(error).replace("Options.__init__()", "aeon.open()")) from None
    seam = files or OsFileSystem()
    root = str(path)
    try:
        root = absolute(path)
        if read_only:
            return _open_reader(seam, root, dim, embed, options)
        return _open_writer(seam, root, dim, embed, options, rows, create)
    except OSError as error:
        raise OpenError(f"{root}: {error.strerror or error}") from error


def _open_reader(files: FileSystem, root: str, dim: int | None, embed: Embed | None, options: Options) -> Store:
    manifest = manifests.load(files, root)
    embed = embedding.match(root, manifest.dim, manifest.embedder, dim, embed)
    engine, replayed = read_engine(files, root)
    return Store(files, root, engine, _report(replayed, ()), options, embed, None, None)


def _open_writer(
    files: FileSystem, root: str, dim: int | None, embed: Embed | None, options: Options, rows: Rows, create: bool
) -> Store:
    is_new = _is_new(files, root, create)
    if is_new:
        chosen = embedding.choose(dim, embed)  # before anything is made
        if not files.exists(root):
            files.mkdir(root)
        files.fsync_dir(parent(root))  # also if it is there: whoever made it may have died before this line
    lock = _lock(files, root)
    try:
        if is_new and not files.exists(f"{root}/{MANIFEST_NAME}"):
            _make(files, root, *chosen, rows)
        manifest = manifests.load(files, root)
        embed = embedding.match(root, manifest.dim, manifest.embedder, dim, embed)
        engine = Engine(files, root, manifest)
        replayed = replay(files, root, engine)
        position = cut_torn_tail(files, root, manifest, replayed)
        removed = remove_leftovers(files, root, engine)
        wal = Wal(files, root, manifest.uuid, options, position)
    except BaseException:
        lock.release()
        raise
    return Store(files, root, engine, _report(replayed, removed), options, embed, wal, lock)


def _report(replayed: Replayed, removed: list[str] | tuple[()]) -> Recovery:
    torn = replayed.torn
    if torn is None:
        return Recovery(replayed.commits, replayed.memories, files_removed=tuple(removed))
    return Recovery(
        replayed.commits, replayed.memories, torn.bytes_dropped, torn.reason, torn.segment, torn.offset, tuple(removed)
    )


def _is_new(files: FileSystem, root: str, create: bool) -> bool:
    """Whether a store is to be made at `root`; NotAStoreError if something else is there."""
    if files.exists(root) and not files.is_dir(root):
        raise NotAStoreError(f"{root} is a file; an aeon store is a directory")
    if files.exists(f"{root}/{MANIFEST_NAME}"):
        return False
    if not create:
        raise NotAStoreError(f"{root}: no aeon store here")
    if not files.exists(root):
        if not files.is_dir(parent(root)):
            raise NotAStoreError(f"{parent(root)} is no directory: make it first")
        return True
    foreign = set(files.listdir(root)) - _MADE_BEFORE_MANIFEST
    if foreign:
        raise NotAStoreError(
            f"{root} holds {sorted(foreign)[0]!r} and no {MANIFEST_NAME}: not an aeon store, and not empty"
        )
    if files.is_dir(f"{root}/wal"):
        _require_unused_log(files, root)
    return True


def _require_unused_log(files: FileSystem, root: str) -> None:
    """A store that was being made when the power went has an empty log; anything else is a store without a manifest."""
    for number in list_segments(files, f"{root}/wal"):
        path = f"{root}/wal/{segment_name(number)}"
        if number > 1 or read_whole(files, path)[SEGMENT_HEADER.size :].strip(b"\0"):
            raise CorruptionError(
                f"{root}/{MANIFEST_NAME}", 0, expected="the manifest of the log in wal/", found="no file"
            )


def _lock(files: FileSystem, root: str) -> Lock:
    try:
        return files.lock(f"{root}/{LOCK_NAME}", describe_process())
    except BlockingIOError as error:
        raise LockedError(root, error.strerror or "another process") from None


def _make(files: FileSystem, root: str, dim: int, embedder: str, rows: Rows) -> None:
    """Make an empty store. Order: the log, then the root's entries, then the MANIFEST: with it the store exists."""
    manifest = Manifest(uuid=uuid.uuid4().bytes, dim=dim, rows=rows, embedder=embedder, created=time.time_ns() // 1000)
    wal = f"{root}/wal"
    if files.exists(wal):
        for number in list_segments(files, wal):
            files.unlink(f"{wal}/{segment_name(number)}")
    else:
        files.mkdir(wal)
    start_log(files, root, manifest)
    files.fsync_dir(root)
    manifests.store(files, root, manifest)
