"""Reading a log while it is written: the commits behind a position, for whoever knows that they are there.

A generation's engine is brought up to date from here (`aeon.upkeep`): the commits that came since the freeze lie in the log, so
nobody has to hold them in memory meanwhile.
"""

from __future__ import annotations

from aeon.errors import CorruptionError
from aeon.files import FileSystem
from aeon.format import FRAME, FRAME_ALIGNMENT, FRAME_BYTES_MAX, SEGMENT_HEADER, padded, segment_name
from aeon.wal import Frame, LogPosition, decode_segment_header, frame_at

_READ_BYTES = 1 << 16  # read at once. A read lets go of the interpreter: beside a busy writer that may cost 5 ms each time


class LogFollower:
    """The frames from `position` on, one after the other.

    Attributes
    ----------
    lsn : of the frame that is read next.
    """

    def __init__(self, files: FileSystem, root: str, uuid: bytes, position: LogPosition) -> None:
        self._files, self._directory, self._uuid = files, f"{root}/wal", uuid
        self._segment, self._offset, self._seed = position.segment, position.offset, position.header_crc
        self.lsn = position.lsn
        self._data, self._start = memoryview(b""), self._offset  # what was read of the segment, and from where on
        self._file = files.open(f"{self._directory}/{segment_name(self._segment)}")

    def read(self) -> Frame:
        """Return the next frame; CorruptionError, which names file and offset, if it is not there whole."""
        found = self._frame()
        if isinstance(found, str):  # it may have been written since the last read
            self._fill()
            found = self._frame()
        if isinstance(found, str):
            self._next_segment(found)
            self._fill()
            found = self._frame()
        if isinstance(found, str) or found.lsn != self.lsn:
            raise CorruptionError(
                self._file.path, self._offset, expected=f"the frame of LSN {self.lsn}",
                found=found if isinstance(found, str) else f"LSN {found.lsn}",
            )  # fmt: skip
        self._offset = padded(self._offset + FRAME.size + len(found.payload), FRAME_ALIGNMENT)
        self.lsn += 1
        return found

    def _frame(self) -> Frame | str:
        """The frame at the offset, in what was read, or why there is none."""
        at = self._offset - self._start
        found = frame_at(self._data, at, self._seed)
        if isinstance(found, str):
            return found
        lsn, _, first_id, length = found
        return Frame(lsn, first_id, self._offset, self._data[at + FRAME.size : at + FRAME.size + length])

    def _fill(self) -> None:
        """Read from the offset on: a frame at least, if there is a whole one."""
        data = self._file.pread(_READ_BYTES, self._offset)
        if len(data) >= FRAME.size:
            size = FRAME.size + int(FRAME.unpack_from(data)[3])
            if len(data) < size <= FRAME.size + FRAME_BYTES_MAX:
                data = self._file.pread(size, self._offset)
        self._data, self._start = memoryview(data), self._offset

    def _next_segment(self, reason: str) -> None:
        path = f"{self._directory}/{segment_name(self._segment + 1)}"
        if not self._files.exists(path):
            raise CorruptionError(
                self._file.path, self._offset, expected=f"the frame of LSN {self.lsn}", found=reason
            )
        self.close()
        self._segment, self._offset = self._segment + 1, SEGMENT_HEADER.size
        self._file = self._files.open(path)
        header = decode_segment_header(self._file.pread(SEGMENT_HEADER.size, 0), path, self._uuid, self._segment)
        self._seed = header.crc

    def close(self) -> None:
        """Close the segment that is open."""
        self._file.close()
