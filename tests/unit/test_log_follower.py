"""A log that is read while it is written: across segments, at every size of frame, and what is damaged in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import aeon
from aeon import log_follower
from aeon.files import OsFileSystem
from aeon.format import FRAME, SEGMENT_HEADER, segment_name
from aeon.log_follower import LogFollower
from aeon.manifest import Manifest
from aeon.options import Options
from aeon.recovery import start_log
from aeon.wal import LogPosition, Wal

MANIFEST = Manifest(uuid=bytes(range(16)), dim=8, rows="int8", embedder="", created=0)
FILES = OsFileSystem()


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[Wal]:
    (tmp_path / "wal").mkdir()
    start_log(FILES, str(tmp_path), MANIFEST)
    header = (tmp_path / "wal" / segment_name(MANIFEST.segment)).read_bytes()
    position = LogPosition(MANIFEST.segment, SEGMENT_HEADER.size, MANIFEST.lsn + 1, MANIFEST.next_id, _crc(header))
    log = Wal(FILES, str(tmp_path), MANIFEST.uuid, replace(Options(), segment_bytes_max=70_000), position)
    yield log
    log.close()


def _crc(header: bytes) -> int:
    return int.from_bytes(header[SEGMENT_HEADER.size - 4 : SEGMENT_HEADER.size], "little")


def bodies() -> list[bytes]:
    """Commits of sizes around what is read at once, and longer than a segment."""
    around = range(log_follower._READ_BYTES - FRAME.size - 2, log_follower._READ_BYTES - FRAME.size + 3)
    sizes = [1, 7, 8, 9, *around, 100, 30_000, 5, 200_000, 4096, *[600] * 200, 12_000, 12_000]
    return [bytes([n % 250 + 1]) * size for n, size in enumerate(sizes)]


def test_what_is_appended_is_followed_across_segments(wal: Wal, tmp_path: Path) -> None:
    wal.append(b"before", 1)
    position = wal.begin_checkpoint()
    follower = LogFollower(FILES, str(tmp_path), MANIFEST.uuid, position)
    for body in bodies()[:3]:
        wal.append(body, 2)
    found = [follower.read() for _ in range(3)]  # and it goes on while it is read
    for body in bodies()[3:]:
        wal.append(body, 2)
    found += [follower.read() for _ in bodies()[3:]]
    follower.close()
    assert [bytes(frame.payload) for frame in found] == bodies()
    assert [frame.lsn for frame in found] == list(range(position.lsn, position.lsn + len(found)))
    assert [frame.first_id for frame in found] == list(range(position.next_id, position.next_id + 2 * len(found), 2))
    assert wal.segment > position.segment + 2


def test_what_was_read_before_it_was_written_is_read_again(wal: Wal, tmp_path: Path) -> None:
    position = wal.begin_checkpoint()
    follower = LogFollower(FILES, str(tmp_path), MANIFEST.uuid, position)
    for n in range(50):
        wal.append(bytes([n + 1]) * 100, 1)  # room is reserved behind it, and read along
        assert bytes(follower.read().payload) == bytes([n + 1]) * 100
    follower.close()


def test_it_begins_in_a_segment_that_begins_with_the_checkpoint(wal: Wal, tmp_path: Path) -> None:
    wal.append(b"before", 1)
    wal.prepare_checkpoint()
    position = wal.begin_checkpoint()
    assert position.offset == SEGMENT_HEADER.size
    follower = LogFollower(FILES, str(tmp_path), MANIFEST.uuid, position)
    wal.append(b"behind", 1)
    assert bytes(follower.read().payload) == b"behind"
    follower.close()


@pytest.mark.parametrize("place", [0, 4, FRAME.size, FRAME.size + 40_000 - 1])
def test_a_damaged_frame_is_told_by_file_and_offset(place: int, wal: Wal, tmp_path: Path) -> None:
    wal.append(b"before" * 9000, 1)
    position = wal.begin_checkpoint()
    wal.append(b"x" * 40_000, 1)  # does not fit into the segment, and begins one
    path, at = tmp_path / "wal" / segment_name(position.segment + 1), SEGMENT_HEADER.size
    data = bytearray(path.read_bytes())
    data[at + place] ^= 1
    path.write_bytes(data)
    follower = LogFollower(FILES, str(tmp_path), MANIFEST.uuid, position)
    with pytest.raises(aeon.CorruptionError) as caught:
        follower.read()
    follower.close()
    assert str(path) in str(caught.value) and str(at) in str(caught.value)


def test_a_frame_that_is_not_there_yet_is_an_error(wal: Wal, tmp_path: Path) -> None:
    """Who follows knows what is there: to wait for ever would hide that it is not."""
    position = wal.begin_checkpoint()
    follower = LogFollower(FILES, str(tmp_path), MANIFEST.uuid, position)
    with pytest.raises(aeon.CorruptionError, match=f"the frame of LSN {position.lsn}"):
        follower.read()
    follower.close()
