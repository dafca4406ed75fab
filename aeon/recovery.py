"""Recovery: from what a crash left to a store that holds every acknowledged commit, and says what it did.

    manifest -> generation (mapped) -> log segments replayed in order -> torn tail cut off and synced -> open

The generation holds every commit up to the manifest's LSN; the segments from `manifest.segment` on hold the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aeon import manifest as manifests
from aeon.engine import Engine
from aeon.errors import CorruptionError
from aeon.files import FileSystem, read_whole
from aeon.format import FRAME, SEGMENT_HEADER, generation_name, segment_name
from aeon.manifest import MANIFEST_NAME, Manifest
from aeon.wal import (
    LogPosition,
    SegmentHeader,
    SegmentReader,
    TornTail,
    create_segment,
    decode_segment_header,
    list_segments,
)


@dataclass(frozen=True)
class Recovery:
    """What opening a store did.

    Attributes
    ----------
    commits_replayed, memories_replayed : how much of the log was applied on top of the generation.
    bytes_dropped : length of the torn tail that was cut off; 0 after a clean close.
    reason : why those bytes are no commit; "" if none were dropped.
    segment, offset : where they began.
    files_removed : leftovers of an interrupted checkpoint, deleted.
    """

    commits_replayed: int = 0
    memories_replayed: int = 0
    bytes_dropped: int = 0
    reason: str = ""
    segment: str = ""
    offset: int = 0
    files_removed: Sequence[str] = ()


@dataclass(frozen=True)
class Replayed:
    """Where replay ended: the position for the next frame, and what has to be cut off first."""

    position: LogPosition
    commits: int
    memories: int
    torn: TornTail | None
    surplus_segments: tuple[int, ...]


_READ_AGAIN = 3  # readings of one generation that have to fail before that is told
_READ_ATTEMPTS = 100  # a reader that meets a checkpoint starts over; each attempt needs another checkpoint to fail


def read_engine(files: FileSystem, root: str) -> tuple[Engine, Replayed]:
    """Build the state of the store at `root` for reading, while its writer may be at work; changes nothing on disk."""
    unchanged = 0
    for _ in range(_READ_ATTEMPTS):
        manifest = manifests.load(files, root)
        try:
            engine = Engine(files, root, manifest)
            return engine, replay(files, root, engine)
        except (CorruptionError, FileNotFoundError):
            # A checkpoint may have replaced the generation and deleted the log under our feet; or the writer deleted a
            # segment that it had made ahead of time, or wrote between two reads. What is really damaged is so again.
            unchanged += manifests.load(files, root) == manifest
            if unchanged == _READ_AGAIN:
                raise
    raise CorruptionError(
        f"{root}/{MANIFEST_NAME}", 0, expected="a store at rest", found=f"{_READ_ATTEMPTS} checkpoints"
    )


def is_newest(files: FileSystem, root: str, manifest: Manifest, replayed: Replayed) -> bool:
    """Whether nothing was committed since the log was replayed: the same MANIFEST, and no frame where the log ended."""
    try:
        if manifests.load(files, root) != manifest:
            return False
        position = replayed.position
        directory = f"{root}/wal"
        if list_segments(files, directory)[-1] != position.segment:
            return False
        file = files.open(f"{directory}/{segment_name(position.segment)}")
    except (FileNotFoundError, CorruptionError, IndexError):  # the writer is at work: reading all anew finds out
        return False
    try:
        return not any(file.pread(FRAME.size, position.offset))
    finally:
        file.close()


def replay(files: FileSystem, root: str, engine: Engine) -> Replayed:
    """Apply the log to `engine`; changes nothing on disk.

    CorruptionError if a commit is damaged or missing that had been on disk.
    """
    manifest = engine.manifest
    directory = f"{root}/wal"
    numbers = _segments(files, directory, manifest)
    first_event = engine.view.events
    lsn, next_id = manifest.lsn + 1, manifest.next_id
    torn: TornTail | None = None
    position: LogPosition | None = None
    for at, number in enumerate(numbers):
        path = f"{directory}/{segment_name(number)}"
        data = memoryview(read_whole(files, path))
        header = _header(data, path, manifest, number, is_last=number == numbers[-1])
        if header is None:  # made, but a cut came before its header was on disk: nothing was acknowledged into it
            # The tail of the segment before may be torn all the same, and has to be cut off before anything is appended.
            torn = torn or TornTail(path, 0, len(data), "a segment without a header")
            return _replayed(engine, manifest, first_event, position, torn, (number,))
        # A generation may have been written while the log went on: then replay begins in the middle of its first segment.
        offset = manifest.offset if at == 0 else SEGMENT_HEADER.size
        begins = (header.first_lsn, header.first_id)
        if begins != (lsn, next_id) if offset == SEGMENT_HEADER.size else begins > (lsn, next_id):
            raise CorruptionError(
                path, 0, expected=f"a segment that begins at LSN {lsn}, id {next_id}",
                found=f"LSN {header.first_lsn}, id {header.first_id}",
            )  # fmt: skip
        if offset > len(data):
            raise CorruptionError(
                path, len(data), expected=f"the frames up to LSN {lsn - 1}", found="the end of the file"
            )
        following = _following(files, directory, manifest, numbers[at + 1 :])
        synced = bool(following) and following[0].previous_synced
        reader = SegmentReader(data, path, header, lsn=lsn, offset=offset, is_last=not synced)
        for frame in reader:
            if frame.first_id != next_id:
                raise CorruptionError(path, frame.offset, expected=f"first id {next_id}", found=frame.first_id)
            try:
                engine.apply(frame.lsn, frame.first_id, frame.payload)
            except ValueError as error:
                raise CorruptionError(path, frame.offset, expected="a commit", found=str(error)) from error
            next_id = manifest.next_id + engine.view.events - first_event
        lsn, torn = reader.lsn, reader.torn
        position = LogPosition(number, reader.offset, lsn, next_id, header.crc)
        if following and following[0].first_lsn != lsn:
            if synced or _proves(files, directory, following, lsn):
                raise CorruptionError(path, reader.offset, expected=f"the frame of LSN {lsn}", found="nothing valid")
            # Under durability "off" the next segment promised nothing: what follows the gap is dropped with it. One that
            # begins at an LSN that is here was made ahead of time, and the log went on without it.
            if following[0].first_lsn > lsn:
                torn = torn or TornTail(path, reader.offset, 0, "an unsynced segment lost its end")
            return _replayed(engine, manifest, first_event, position, torn, tuple(numbers[at + 1 :]))
    return _replayed(engine, manifest, first_event, position, torn, ())


def _replayed(
    engine: Engine,
    manifest: Manifest,
    first_event: int,
    position: LogPosition | None,
    torn: TornTail | None,
    surplus: tuple[int, ...],
) -> Replayed:
    assert position is not None  # the first segment was synced before the manifest named it: `_header` has raised
    view = engine.view
    return Replayed(position, view.lsn - manifest.lsn, view.events - first_event, torn, surplus)


def _segments(files: FileSystem, directory: str, manifest: Manifest) -> list[int]:
    """Numbers of the segments to replay, which must follow each other."""
    try:
        numbers = [number for number in list_segments(files, directory) if number >= manifest.segment]
    except FileNotFoundError as error:
        raise CorruptionError(directory, 0, expected="the log's directory", found="nothing") from error
    for expected, number in enumerate(numbers, manifest.segment):
        if number != expected:
            raise CorruptionError(
                f"{directory}/{segment_name(expected)}",
                0,
                expected="a log segment",
                found=f"only segment {number} after it",
            )
    if not numbers:
        raise CorruptionError(
            f"{directory}/{segment_name(manifest.segment)}", 0, expected="a log segment", found="no file"
        )
    return numbers


def _header(data: memoryview, path: str, manifest: Manifest, number: int, *, is_last: bool) -> SegmentHeader | None:
    """Decode a segment's header; None if the segment was being made when the power went."""
    try:
        return decode_segment_header(bytes(data[: SEGMENT_HEADER.size]), path, manifest.uuid, number)
    except CorruptionError:
        written_to = bytes(data[SEGMENT_HEADER.size :]).strip(b"\0")
        if not is_last or number == manifest.segment or written_to:
            raise
        return None


def _following(files: FileSystem, directory: str, manifest: Manifest, numbers: list[int]) -> list[SegmentHeader]:
    """Headers of the segments after this one, up to the first that was begun with a sync of all before it."""
    found = []
    for number in numbers:
        path = f"{directory}/{segment_name(number)}"
        header = _header(memoryview(read_whole(files, path)), path, manifest, number, is_last=number == numbers[-1])
        if header is None:
            break
        found.append(header)
        if header.previous_synced:
            break
    return found


def _proves(files: FileSystem, directory: str, following: list[SegmentHeader], lsn: int) -> bool:
    """Whether a later segment says that the frame of `lsn` had been on disk."""
    for header in following:
        if header.previous_synced:
            return True
        path = f"{directory}/{segment_name(header.segment)}"
        data = memoryview(read_whole(files, path))
        reader = SegmentReader(data, path, header, lsn=header.first_lsn, offset=SEGMENT_HEADER.size, is_last=True)
        if any(durable >= lsn for durable in reader.watermarks()):
            return True
    return False


def cut_torn_tail(files: FileSystem, root: str, manifest: Manifest, replayed: Replayed) -> LogPosition:
    """Make the log end where its last whole commit ends, on disk, before anything is appended.

    Surplus segments go newest first, so that a cut in between leaves no gap; then the tail is cut off, and what was
    replayed is synced.
    """
    directory = f"{root}/wal"
    # All that was read here may be in the page cache only, if the process before died and the machine did not. It has to be
    # on disk before anything relies on it: the MANIFEST's new name before the old generation's files are deleted, a new
    # segment's name and header before a commit is acknowledged into it, frames before a later one calls them durable.
    files.fsync_dir(root)
    files.fsync_dir(directory)
    for number in reversed(replayed.surplus_segments):
        files.unlink(f"{directory}/{segment_name(number)}")
        files.fsync_dir(directory)
    position = replayed.position
    for number in range(manifest.segment, position.segment + 1):
        file = files.open(f"{directory}/{segment_name(number)}", writable=True)
        try:
            if number == position.segment and replayed.torn is not None:
                file.truncate(position.offset)
            file.fsync()
        finally:
            file.close()
    return position


def remove_leftovers(files: FileSystem, root: str, engine: Engine) -> list[str]:
    """Delete what an interrupted checkpoint left: files that neither the manifest nor the log refers to.

    What the MANIFEST on disk names stays, whatever the caller takes for the newest generation.
    """
    manifest = engine.manifest
    both = manifest, manifests.load(files, root)
    keep = {entry.path for each in both for entry in each.files.values()}
    if engine.blobs.ahead_end and not manifest.files:
        keep.add(f"{generation_name(manifest.generation + 1)}/blobs.arena")
    removed = []
    for name in files.listdir(root):
        if name == f"{MANIFEST_NAME}.new":
            files.unlink(f"{root}/{name}")
            removed.append(name)
        elif name.startswith("gen-") and files.is_dir(f"{root}/{name}"):
            names = files.listdir(f"{root}/{name}")
            stale = [inner for inner in names if f"{name}/{inner}" not in keep]
            for inner in stale:
                files.unlink(f"{root}/{name}/{inner}")
                removed.append(f"{name}/{inner}")
            if len(stale) == len(names):
                files.rmdir(f"{root}/{name}")
    for number in list_segments(files, f"{root}/wal"):
        if number < min(each.segment for each in both):
            files.unlink(f"{root}/wal/{segment_name(number)}")
            removed.append(f"wal/{segment_name(number)}")
    return removed


def start_log(files: FileSystem, root: str, manifest: Manifest) -> None:
    """Make a new store's first segment."""
    create_segment(
        files, f"{root}/wal", manifest.uuid, manifest.segment, manifest.lsn + 1, manifest.next_id, previous_synced=True
    )
