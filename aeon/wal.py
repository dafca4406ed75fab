"""The write-ahead log: segments of frames, one frame a commit, appended under one lock and synced in groups.

Safety in one sentence: a commit is acknowledged as durable only after an fdatasync that began after its frame was
written, and a segment is followed by another only after it was synced whole, so every frame that may be missing after a
power cut is younger than every frame that was acknowledged.

Order of writes and syncs:
  append      reserve space (fallocate), write the frame at the end of the last segment
  sync        fdatasync of the last segment; many committers share one
  rotate      fdatasync of the full segment, then the new one: write its header, fsync it, fsync `wal/`
  checkpoint  the new segment is made first; the one before it is synced with the first sync of the new one
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aeon.errors import CapacityError, CorruptionError, PoisonedError
from aeon.files import File, FileSystem, NoSpaceError, write_fully
from aeon.format import (
    FORMAT_VERSION,
    FRAME,
    FRAME_ALIGNMENT,
    FRAME_BYTES_MAX,
    FRAME_MAGIC,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    SEGMENT_PREVIOUS_SYNCED,
    FrameType,
    padded,
    segment_name,
)
from aeon_native import dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aeon.options import Options

_COMMIT = int(FrameType.COMMIT)
_PADDING = [bytes(count) for count in range(FRAME_ALIGNMENT)]
_MAGIC_BYTES = FRAME_MAGIC.to_bytes(2, "little")
_JOIN_BYTES_MAX = 1 << 16  # below, one write of header + body; above, copying the body costs more than a second call


@dataclass(frozen=True)
class SegmentHeader:
    """A decoded SEGMENT_HEADER."""

    segment: int
    first_lsn: int
    first_id: int
    previous_synced: bool
    crc: int


class Frame(NamedTuple):
    """One commit as it stands in a segment; `payload` borrows the segment's buffer."""

    lsn: int
    first_id: int
    offset: int
    payload: memoryview


@dataclass(frozen=True)
class LogPosition:
    """Where the log goes on: the next frame's segment, offset, LSN and id."""

    segment: int
    offset: int
    lsn: int
    next_id: int
    header_crc: int


@dataclass(frozen=True)
class TornTail:
    """Bytes at the log's end that no commit stands behind."""

    segment: str
    offset: int
    bytes_dropped: int
    reason: str


def encode_segment_header(uuid: bytes, segment: int, first_lsn: int, first_id: int, previous_synced: bool) -> bytes:
    """Return the 64 bytes a segment begins with."""
    flags = SEGMENT_PREVIOUS_SYNCED if previous_synced else 0
    header = SEGMENT_HEADER.pack(SEGMENT_MAGIC, FORMAT_VERSION, flags, uuid, segment, first_lsn, first_id, 0, 0)
    return header[:-4] + dispatch.kernels.crc32c(header[:-4]).to_bytes(4, "little")


def decode_segment_header(data: bytes, path: str, uuid: bytes, segment: int) -> SegmentHeader:
    """Read a segment's header; CorruptionError if it is not the header of this segment of this store."""
    if len(data) < SEGMENT_HEADER.size:
        raise CorruptionError(path, 0, expected=f"{SEGMENT_HEADER.size} bytes of header", found=f"{len(data)} bytes")
    magic, version, flags, owner, number, first_lsn, first_id, _, crc = SEGMENT_HEADER.unpack_from(data)
    if dispatch.kernels.crc32c(data[: SEGMENT_HEADER.size - 4]) != crc or magic != SEGMENT_MAGIC:
        raise CorruptionError(path, 0, expected="a segment header", found=bytes(data[: SEGMENT_HEADER.size]).hex())
    if owner != uuid or number != segment or version > FORMAT_VERSION:
        raise CorruptionError(
            path, 0, expected=f"segment {segment} of store {uuid.hex()}", found=f"segment {number} of {owner.hex()}"
        )
    return SegmentHeader(number, first_lsn, first_id, bool(flags & SEGMENT_PREVIOUS_SYNCED), crc)


def frame_at(data: memoryview, offset: int, seed: int) -> tuple[int, int, int, int] | str:
    """Return (lsn, durable_lsn, first_id, length) of a whole, valid frame at `offset`, or what is wrong with it."""
    if len(data) - offset < FRAME.size:
        return "the file ends within a frame header"
    magic, kind, _, length, lsn, durable, first_id, payload_crc, header_crc = FRAME.unpack_from(data, offset)
    if magic != FRAME_MAGIC:
        return f"no frame magic ({magic:#06x})"
    crc32c = dispatch.kernels.crc32c
    if crc32c(data[offset : offset + FRAME.size - 4], seed) != header_crc:
        return "the frame header's checksum is wrong"
    if kind != FrameType.COMMIT:
        return f"unknown frame type {kind}"
    start = offset + FRAME.size
    if length > len(data) - start:
        return f"the file ends within a frame of {length} bytes"
    if crc32c(data[start : start + length]) != payload_crc:
        return "the frame's checksum is wrong"
    return lsn, durable, first_id, length


class SegmentReader:
    """Iterates over the frames of a segment; afterwards `offset`, `lsn` and `torn` say where and why it ended.

    A bad frame is corruption if something later proves that it had been durable: `is_last=False` (the next segment says
    that this one was synced), or a later valid frame whose `durable_lsn` covers it. Otherwise it is a torn tail.
    """

    def __init__(
        self, data: memoryview, path: str, header: SegmentHeader, *, lsn: int, offset: int, is_last: bool
    ) -> None:
        self.data = data
        self.path = path
        self.header = header
        self.lsn = lsn
        self.offset = offset
        self.is_last = is_last
        self.torn: TornTail | None = None

    def __iter__(self) -> Iterator[Frame]:
        data, seed = self.data, self.header.crc
        while True:
            found = frame_at(data, self.offset, seed)
            if isinstance(found, str):
                self._judge(found)
                return
            lsn, _, first_id, length = found
            if lsn != self.lsn:
                raise CorruptionError(
                    self.path, self.offset, expected=f"the frame of LSN {self.lsn}", found=f"LSN {lsn}"
                )
            start = self.offset + FRAME.size
            yield Frame(lsn, first_id, self.offset, data[start : start + length])
            self.lsn = lsn + 1
            # Even where the file ends before the padding does (a torn growth): the next frame goes to an aligned offset,
            # since that is where the next replay looks for it.
            self.offset = padded(start + length, FRAME_ALIGNMENT)

    def watermarks(self) -> Iterator[int]:
        """The `durable_lsn` of each valid frame, wherever it stands in the segment."""
        data = bytes(self.data)
        at = data.find(_MAGIC_BYTES, self.offset)
        while at >= 0:
            if at % FRAME_ALIGNMENT == 0:
                found = frame_at(self.data, at, self.header.crc)
                if not isinstance(found, str):
                    yield found[1]
            at = data.find(_MAGIC_BYTES, at + 1)

    def _judge(self, reason: str) -> None:
        """Decide what the bytes from `offset` on are: space never written, a torn tail, or corruption."""
        rest = bytes(self.data[self.offset :]).rstrip(b"\0")
        if not self.is_last:
            # The segment ends where its frames end; the next one's first LSN tells whether any is missing.
            if rest:
                raise CorruptionError(self.path, self.offset, expected=f"the frame of LSN {self.lsn}", found=reason)
            return
        if not rest:
            return
        at = rest.find(_MAGIC_BYTES, 1)
        while at >= 0:
            if at % FRAME_ALIGNMENT == 0:
                found = frame_at(self.data, self.offset + at, self.header.crc)
                if not isinstance(found, str) and found[0] > self.lsn and found[1] >= self.lsn:
                    raise CorruptionError(
                        self.path,
                        self.offset,
                        expected=f"the frame of LSN {self.lsn}, on disk when LSN {found[0]} was written",
                        found=reason,
                    )
            at = rest.find(_MAGIC_BYTES, at + 1)
        self.torn = TornTail(self.path, self.offset, len(rest), reason)


@dataclass(frozen=True)
class _Prepared:
    """A segment made ahead of time: begun if the log still ends at `lsn`. No file while it is being made."""

    segment: int
    lsn: int
    file: File | None
    crc: int


class _Committer:
    """Who waits in `Wal.sync`: for somebody else's sync, or for its turn to lead one."""

    __slots__ = ("gate", "lsn")

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn
        self.gate = threading.Lock()
        self.gate.acquire()

    def wake(self) -> None:
        """Let it go on; harmless if it was woken before."""
        if self.gate.locked():
            self.gate.release()


class Wal:
    """The writer's end of the log. Thread-safe; readers use `SegmentReader`.

    Attributes
    ----------
    appended_lsn : the newest frame written. durable_lsn : the newest one known to be on disk.
    next_id : the id the next `remember` gets.
    bytes_since_checkpoint : length of the log since `begin_checkpoint` last returned.
    """

    def __init__(self, files: FileSystem, root: str, uuid: bytes, options: Options, position: LogPosition) -> None:
        self._files = files
        self._directory = f"{root}/wal"
        self._uuid = uuid
        self._options = options
        self._lock = threading.Lock()  # the log lock: order of frames, LSNs and ids
        self._mutex = threading.Lock()  # of the five below; held for moments only
        self._leader: _Committer | None = None  # who syncs; nobody waits while there is none
        self._waiters: list[_Committer] = []
        self._unsynced: list[File] = []  # segments before this one that were not synced since they were written to
        self._poison: BaseException | None = None
        self._prepared: _Prepared | None = None  # the next segment, made without the log lock: nobody else may make it
        self.segment = position.segment
        self._seed = position.header_crc
        self._file = files.open(self._path(position.segment), writable=True)
        self._offset = position.offset
        self._allocated = self._file.size()
        self.appended_lsn = self.durable_lsn = position.lsn - 1
        self.next_id = position.next_id
        self.bytes_since_checkpoint = position.offset

    def _path(self, segment: int) -> str:
        return f"{self._directory}/{segment_name(segment)}"

    # -- failure is sticky --------------------------------------------------------------------------------------

    @property
    def poisoned(self) -> BaseException | None:
        """The first failure of a write or sync, or None."""
        return self._poison

    def poison(self, cause: BaseException) -> PoisonedError:
        """Take no more writes, because of `cause` (the first one wins); return the error to raise."""
        with self._mutex:
            if self._poison is None:
                self._poison = cause
        return PoisonedError(self._poison)

    def require_healthy(self) -> None:
        """Raise PoisonedError after a failed write or sync."""
        if self._poison is not None:
            raise PoisonedError(self._poison) from self._poison

    # -- appending ----------------------------------------------------------------------------------------------

    def append(self, body: bytes, ids: int) -> tuple[int, int]:
        """Write one frame and return (its LSN, the first of the `ids` new ids); not yet synced.

        CapacityError, with nothing written, if the frame is too large or the device has no room; PoisonedError if the
        write fails.
        """
        length = len(body)
        if length > FRAME_BYTES_MAX:
            raise CapacityError(f"one commit holds at most {FRAME_BYTES_MAX} bytes, not {length}: commit in parts")
        crc32c = dispatch.kernels.crc32c
        payload_crc = crc32c(body)
        tail = _PADDING[-length % FRAME_ALIGNMENT]
        with self._lock:
            if self._poison is not None:
                self.require_healthy()
            end = self._offset + FRAME.size + length + len(tail)
            if end > self._options.segment_bytes_max and self._offset > SEGMENT_HEADER.size and self._prepared is None:
                self._rotate()
                end = self._offset + FRAME.size + length + len(tail)
            if end > self._allocated:
                self._reserve(end)
            lsn, first_id = self.appended_lsn + 1, self.next_id
            header = FRAME.pack(FRAME_MAGIC, _COMMIT, 0, length, lsn, self.durable_lsn, first_id, payload_crc, 0)[:-4]
            header += crc32c(header, self._seed).to_bytes(4, "little")
            try:
                if length <= _JOIN_BYTES_MAX:
                    write_fully(self._file, header + body + tail, self._offset)
                else:
                    write_fully(self._file, body, self._offset + FRAME.size)
                    write_fully(self._file, header, self._offset)
            except Exception as error:
                raise self.poison(error) from error
            self.bytes_since_checkpoint += end - self._offset
            self._offset = end
            self.appended_lsn = lsn
            self.next_id = first_id + ids
            return lsn, first_id

    def _reserve(self, end: int) -> None:
        """Grow the segment, so that the write that follows cannot run out of space."""
        growth = self._options.segment_growth_bytes
        target = max(end, min(padded(end, growth), self._options.segment_bytes_max))
        try:
            self._file.allocate(self._allocated, target - self._allocated)
        except NoSpaceError as error:
            raise CapacityError(f"no space left on the device for {self._file.path}; nothing was written") from error
        except Exception as error:
            raise self.poison(error) from error
        self._allocated = target

    # -- syncing ------------------------------------------------------------------------------------------------

    def sync(self, lsn: int) -> None:
        """Return when every frame up to `lsn` is on disk; concurrent callers share one fdatasync.

        One caller leads. Those who come while it syncs wait; afterwards the ones it covered are woken, and one of the
        others to lead next: nobody wakes in vain.
        """
        if self.durable_lsn >= lsn:
            return
        committer = _Committer(lsn)
        try:
            with self._mutex:
                if self.durable_lsn >= lsn:
                    return
                self.require_healthy()
                if self._leader is None:
                    self._leader = committer
                else:
                    self._waiters.append(committer)
            if self._leader is not committer:
                committer.gate.acquire()
            if self._leader is committer:
                self._lead()
        finally:
            # Ctrl-C may strike anywhere in here: who leaves must not take the lead along, or all others wait for ever.
            try:
                self._leave(committer)
            except KeyboardInterrupt:
                self._leave(committer)
                raise
        if self.durable_lsn < lsn:
            self.require_healthy()

    def _leave(self, committer: _Committer) -> None:
        """Take a committer out; if it led, wake whom it covered (all, after a failure) and one more to lead.

        Doing it twice, or again after half of it, is the same as doing it once.
        """
        with self._mutex:
            if committer in self._waiters:
                self._waiters.remove(committer)
            if self._leader is committer:
                done = [
                    waiter for waiter in self._waiters if waiter.lsn <= self.durable_lsn or self._poison is not None
                ]
                rest = [waiter for waiter in self._waiters if waiter not in done]
                for waiter in done:
                    waiter.wake()
                self._waiters, self._leader = rest[1:], rest[0] if rest else None
            if self._leader is not None:
                self._leader.wake()

    def _lead(self) -> None:
        # Read the target before the sync begins: only frames written before it are covered by it.
        target = self.appended_lsn
        file, full = self._file, self._unsynced  # in this order: `_rotate` sets them the other way round
        try:
            for old in full:
                old.fdatasync()
            file.fdatasync()
        except Exception as error:  # whatever it was, what reached the disk is unknown
            if self._poison is None:  # no call before this line: Ctrl-C must not make the log forget it
                self._poison = error
            raise PoisonedError(self._poison) from error
        # An interrupt (Ctrl-C) passes through: nothing failed, and the next sync covers what this one may not have.
        with self._mutex:
            self.durable_lsn = max(self.durable_lsn, target)
            self._unsynced = [old for old in self._unsynced if old not in full]
        for old in full:
            old.close()

    # -- segments -----------------------------------------------------------------------------------------------

    def _rotate(self) -> None:
        """Begin a new segment. The caller holds the log lock."""
        lazy = self._options.durability == "off"
        if not lazy:
            self.sync(self.appended_lsn)
        number = self.segment + 1
        try:
            crc = create_segment(
                self._files,
                self._directory,
                self._uuid,
                number,
                self.appended_lsn + 1,
                self.next_id,
                previous_synced=not lazy,
            )
            file = self._files.open(self._path(number), writable=True)
        except NoSpaceError as error:
            raise CapacityError(f"no space left on the device for {self._path(number)}") from error
        except Exception as error:
            raise self.poison(error) from error
        self._use(number, file, crc, before_synced=not lazy)

    def _use(self, number: int, file: File, crc: int, *, before_synced: bool) -> None:
        """Append to a new segment from now on; one before it that was not synced is, before a frame in the new one counts."""
        old = self._file
        if not before_synced:
            with self._mutex:
                self._unsynced = [*self._unsynced, old]
        self._file, self.segment, self._seed = (
            file,
            number,
            crc,
        )  # no call from here on: Ctrl-C finds all of it or nothing
        self._offset = self._allocated = SEGMENT_HEADER.size
        if before_synced:
            old.close()

    def prepare_checkpoint(self) -> None:
        """Make the segment that `begin_checkpoint` begins, and sync its header and name, while others append to this one."""
        with self._lock:
            self.require_healthy()
            if self._offset == SEGMENT_HEADER.size or self._prepared is not None:
                return
            number, lsn, next_id = self.segment + 1, self.appended_lsn, self.next_id
            self._prepared = _Prepared(number, lsn, None, 0)  # from here on nobody else makes it
        try:
            # It does not call the one before synced, which may go on: the watermarks of its frames will.
            crc = create_segment(
                self._files, self._directory, self._uuid, number, lsn + 1, next_id, previous_synced=False
            )
            self._prepared = _Prepared(number, lsn, self._files.open(self._path(number), writable=True), crc)
        except NoSpaceError as error:
            self._prepared = None
            raise CapacityError(f"no space left on the device for {self._path(number)}") from error
        except Exception as error:
            raise self.poison(error) from error
        except BaseException:  # Ctrl-C: what there is of the file is in the way of nobody (`create_segment`)
            prepared, self._prepared = self._prepared, None
            if prepared is not None and prepared.file is not None:
                prepared.file.close()
            raise

    def begin_checkpoint(self, *, rotate: bool = False) -> LogPosition:
        """Return where the log stands: what comes from there on is what a generation written now does not hold.

        Begins the segment that was prepared, if nothing was appended meanwhile (else `discard_prepared` comes next); with
        `rotate` it begins one in any case, and may hold up writers for its syncs. Cost: no system call without `rotate`.
        """
        with self._lock:
            self.require_healthy()
            prepared = self._prepared
            if prepared is not None and prepared.file is not None and prepared.lsn == self.appended_lsn:
                self._prepared = None  # before it is used: nobody may discard a segment that is begun
                self._use(prepared.segment, prepared.file, prepared.crc, before_synced=False)
            if rotate and self._offset > SEGMENT_HEADER.size:
                self.discard_prepared()
                self._rotate()
            self.bytes_since_checkpoint = 0
            return LogPosition(self.segment, self._offset, self.appended_lsn + 1, self.next_id, self._seed)

    def discard_prepared(self) -> None:
        """Remove a segment that was prepared and not begun; one that stays is removed by recovery."""
        prepared = self._prepared
        if prepared is None or prepared.file is None:
            return
        # Until its file is gone nobody else may make that segment: what was acknowledged into it would go with it.
        self._prepared = _Prepared(prepared.segment, prepared.lsn, None, 0)
        try:
            prepared.file.close()
            self._files.unlink(prepared.file.path)
        except Exception as error:
            raise self.poison(error) from error
        finally:
            self._prepared = None

    def close(self) -> None:
        """Sync what was appended (unless poisoned) and close the files."""
        try:
            if self._poison is None:
                self.sync(self.appended_lsn)
        finally:
            if self._prepared is not None and self._prepared.file is not None:
                self._prepared.file.close()
            for old in self._unsynced:
                old.close()
            self._file.close()


def create_segment(
    files: FileSystem, directory: str, uuid: bytes, number: int, first_lsn: int, first_id: int, *, previous_synced: bool
) -> int:
    """Make a segment that survives a power cut, and return its header's checksum.

    A file of its name was left by a call that Ctrl-C ended, and holds no commit: nobody has begun it.
    """
    data = encode_segment_header(uuid, number, first_lsn, first_id, previous_synced)
    path = f"{directory}/{segment_name(number)}"
    if files.exists(path):
        files.unlink(path)
    file = files.open(path, create=True)
    try:
        # Header, then the file, then its name: only afterwards may a commit be acknowledged into it.
        write_fully(file, data, 0)
        file.fsync()
        files.fsync_dir(directory)
    finally:
        file.close()
    return int.from_bytes(data[-4:], "little")


def list_segments(files: FileSystem, directory: str) -> list[int]:
    """Numbers of the segments in `wal/`, in order; other names are ignored."""
    numbers = []
    for name in files.listdir(directory):
        stem, dot, suffix = name.partition(".")
        if dot and suffix == "wal" and stem.isdigit() and name == segment_name(int(stem)):
            numbers.append(int(stem))
    return sorted(numbers)
