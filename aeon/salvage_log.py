"""Salvage of the log: every whole frame of this store, wherever it stands, and what is missing between them.

Recovery stops at the first bytes that are no frame. This goes on behind them: a frame's header is checksummed from its
segment's header on, which names the store and the segment, so a whole frame proves by itself where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aeon.errors import CorruptionError, VersionError
from aeon.files import FileSystem, read_whole
from aeon.format import (
    FORMAT_VERSION,
    FRAME,
    FRAME_ALIGNMENT,
    FRAME_MAGIC,
    OP,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    OpKind,
    padded,
    segment_name,
)
from aeon.graph import CHANGES, decode_change
from aeon.operations import Operation, decode_commit
from aeon.results import Loss, Problem, id_ranges
from aeon.wal import decode_segment_header, encode_segment_header, frame_at, list_segments
from aeon_native import dispatch

_MAGIC_BYTES = FRAME_MAGIC.to_bytes(2, "little")


@dataclass(frozen=True)
class SalvagedFrame:
    """One commit, whole."""

    lsn: int
    first_id: int
    operations: tuple[Operation, ...]

    @property
    def ids(self) -> int:
        """How many memories it made."""
        return sum(operation.kind == OpKind.REMEMBER for operation in self.operations)


@dataclass(frozen=True)
class Region:
    """Bytes of the log that hold no whole frame; `after_lsn` is the LSN of the whole frame before them."""

    path: str
    offset: int
    length: int
    after_lsn: int
    reason: str


@dataclass(frozen=True)
class Gap:
    """Commits `first` to `last` are nowhere, and with them the ids from `first_id` up to, not including, `end_id`."""

    first: int
    last: int
    first_id: int
    end_id: int


@dataclass
class LogLosses:
    """What the damage of a log means.

    Attributes
    ----------
    lost : gaps, and damage behind the newest commit known. notes : damage that costs nothing. lsns : commits that are gone.
    doubt_before : memories of commits before this LSN may have ended in one that is gone; 0 = none is gone.
    ids_max : how many ids the damage behind the newest commit may have given out.
    """

    lost: list[Loss] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    lsns: list[int] = field(default_factory=list)
    doubt_before: int = 0
    ids_max: int = 0


@dataclass
class SalvagedLog:
    """What the log still holds.

    Attributes
    ----------
    frames : whole ones, by LSN. marks : (LSN, next id) that segment headers vouch for. regions : damage.
    notes : damage that costs nothing.
    """

    frames: dict[int, SalvagedFrame] = field(default_factory=dict)
    marks: list[tuple[int, int]] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def gaps(self, lsn: int, next_id: int) -> tuple[list[Gap], int, int]:
        """Return (what is missing from `lsn` on, the LSN and the id that follow the newest commit known)."""
        found = []
        known = [(mark, 0, first_id, 0) for mark, first_id in self.marks]
        known += [(frame.lsn, 1, frame.first_id, frame.ids) for frame in self.frames.values()]
        for at, is_frame, first_id, ids in sorted(known):
            if at < lsn:
                continue
            if at > lsn:
                found.append(Gap(lsn, at - 1, next_id, first_id))
            lsn, next_id = at + is_frame, max(next_id, first_id + ids)
        return found, lsn, next_id

    def losses(self, directory: str, gaps: Sequence[Gap], lsn: int) -> LogLosses:
        """Tell each gap with the damage that it stands in, and what else is damaged.

        directory : the log's, named for a gap without damage. lsn : the LSN that follows the newest commit known.
        """
        found = LogLosses()
        regions = self.regions
        for gap in gaps:
            here = [region for region in regions if gap.first - 1 <= region.after_lsn <= gap.last]
            regions = [region for region in regions if region not in here]
            place = here[0] if here else Region(directory, 0, 0, gap.first - 1, "no bytes of them are there")
            found.lost.append(
                Loss(
                    place.path, place.offset, place.length, f"commits are missing: {place.reason}",
                    id_ranges(range(gap.first_id, gap.end_id)), ((gap.first, gap.last),),
                )
            )  # fmt: skip
            for region in here[1:]:
                reason = f"part of the same gap: {region.reason}"
                found.lost.append(Loss(region.path, region.offset, region.length, reason))
            found.lsns += range(gap.first, gap.last + 1)
            found.doubt_before = max(found.doubt_before, gap.first)
        for region in regions:
            if region.after_lsn < lsn - 1:
                reason = f"garbage between whole commits: {region.reason}"
                found.notes.append(Problem(region.path, region.offset, reason))
                continue
            # Behind the newest commit known: torn by a crash, or damaged; what it held cannot be said.
            reason = f"what was committed from LSN {lsn} on, if it was: {region.reason}"
            found.lost.append(Loss(region.path, region.offset, region.length, reason, (), ((lsn, lsn),)))
            found.lsns.append(lsn)
            found.doubt_before = max(found.doubt_before, lsn)
            found.ids_max += region.length // OP.size
        found.notes += self.notes
        return found


def read_log(
    files: FileSystem, root: str, uuid: bytes, first_segment: int | None, lsn: int, next_id: int
) -> SalvagedLog:
    """Read every segment from `first_segment` on (None = all there are); changes nothing.

    lsn, next_id : what the first of them begins with, as far as is known.
    """
    return _LogReader(files, root, uuid, lsn, next_id).read(first_segment)


class _LogReader:
    def __init__(self, files: FileSystem, root: str, uuid: bytes, lsn: int, next_id: int) -> None:
        self._files, self._directory, self._uuid = files, f"{root}/wal", uuid
        self._lsn, self._next_id = lsn, next_id  # of the next frame, if nothing is missing
        self.log = SalvagedLog()

    def read(self, first_segment: int | None) -> SalvagedLog:
        try:
            numbers = list_segments(self._files, self._directory)
        except (FileNotFoundError, NotADirectoryError):
            numbers = []
        if first_segment is None:
            first_segment = numbers[0] if numbers else 1
        numbers = [number for number in numbers if number >= first_segment]
        for number in range(first_segment, max(numbers, default=first_segment) + 1):
            path = f"{self._directory}/{segment_name(number)}"
            if number in numbers:
                self._segment(number, path, is_last=number == numbers[-1])
            else:
                self._damaged(path, 0, 0, "no file")
        return self.log

    def _damaged(self, path: str, offset: int, length: int, reason: str) -> None:
        self.log.regions.append(Region(path, offset, length, self._lsn - 1, reason))

    def _segment(self, number: int, path: str, *, is_last: bool) -> None:
        try:
            data = memoryview(read_whole(self._files, path))
        except OSError as error:
            self._damaged(path, 0, 0, f"cannot be read: {error.strerror or error}")
            return
        seed = self._seed(data, path, number)
        if seed is None:
            written = bytes(data).rstrip(b"\0")
            if is_last and len(data) < SEGMENT_HEADER.size and not written:
                return  # it was being made
            self._damaged(path, 0, len(written), "no header of a segment of this store, and no frame behind it")
            return
        self._frames(data, path, seed)

    def _seed(self, data: memoryview, path: str, number: int) -> int | None:
        """The checksum that the segment's frames begin with, or None; a header that is damaged is made anew."""
        raw = bytes(data[: SEGMENT_HEADER.size])
        try:
            header = decode_segment_header(raw, path, self._uuid, number)
        except CorruptionError:
            pass
        else:
            self.log.marks.append((header.first_lsn, header.first_id))
            self._lsn, self._next_id = header.first_lsn, header.first_id
            return header.crc
        if len(raw) < SEGMENT_HEADER.size:
            return None
        magic, version, _, owner, _, first_lsn, first_id, _, crc = SEGMENT_HEADER.unpack_from(raw)
        if magic == SEGMENT_MAGIC and dispatch.kernels.crc32c(raw[:-4]) == crc:
            if version > FORMAT_VERSION:
                raise VersionError(f"{path}: format {version}; this aeon reads up to {FORMAT_VERSION}")
            if owner != self._uuid:
                return None  # whole, and another store's
            self.log.notes.append(Problem(path, 0, "the segment's number is not that of its name"))
            self.log.marks.append((first_lsn, first_id))
            return int(crc)
        # What a header of this store and number must have been: frames that fit its checksum prove it.
        for lsn, id_ in {
            (self._lsn, self._next_id),
            (first_lsn, first_id),
            (self._lsn, first_id),
            (first_lsn, self._next_id),
        }:
            for synced in (True, False):
                made = encode_segment_header(self._uuid, number, lsn, id_, synced)
                seed = int.from_bytes(made[-4:], "little")
                if self._next_frame(data, SEGMENT_HEADER.size, seed) is not None or made[-4:] == raw[-4:]:
                    self.log.notes.append(
                        Problem(path, 0, "the segment's header is damaged; its frames prove what it was")
                    )
                    self.log.marks.append((lsn, id_))
                    return seed
        if not bytes(data[SEGMENT_HEADER.size :]).strip(b"\0"):
            self.log.notes.append(Problem(path, 0, "the segment's header is damaged; no frame was behind it"))
            return 0
        return None

    def _next_frame(self, data: memoryview, offset: int, seed: int) -> int | None:
        """Offset of the first whole frame from `offset` on."""
        whole = bytes(data)
        at = whole.find(_MAGIC_BYTES, offset)
        while at >= 0:
            if at % FRAME_ALIGNMENT == 0 and not isinstance(frame_at(data, at, seed), str):
                return at
            at = whole.find(_MAGIC_BYTES, at + 1)
        return None

    def _frames(self, data: memoryview, path: str, seed: int) -> None:
        at = SEGMENT_HEADER.size
        while True:
            found = frame_at(data, at, seed)
            if isinstance(found, str):
                end = self._next_frame(data, at + FRAME_ALIGNMENT, seed)
                if end is None:
                    rest = bytes(data[at:]).rstrip(b"\0")
                    if rest:
                        self._damaged(path, at, len(rest), found)
                    return
                self._damaged(path, at, end - at, found)
                at = end
                continue
            lsn, _, first_id, length = found
            start = at + FRAME.size
            try:
                operations = tuple(_operations(data[start : start + length]))
            except ValueError as error:
                self._damaged(path, at, FRAME.size + length, str(error))
            else:
                frame = SalvagedFrame(lsn, first_id, operations)
                self.log.frames.setdefault(lsn, frame)
                self._lsn, self._next_id = lsn + 1, first_id + frame.ids
            at = padded(start + length, FRAME_ALIGNMENT)


def _operations(payload: memoryview) -> Iterator[Operation]:
    for operation in decode_commit(payload):
        if operation.kind in CHANGES:
            decode_change(operation)
        elif operation.kind not in (OpKind.REMEMBER, OpKind.FORGET):
            raise ValueError(f"unknown operation {operation.kind}")
        yield operation
