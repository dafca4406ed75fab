"""How often and when memories were recalled: counted in memory, kept in a file beside the MANIFEST. FORMAT: ACCESS.

Not part of any commit: a recall writes no log record. The file is replaced at a checkpoint and when the store is closed (write
temp, fsync, rename), so a power cut leaves the counts of before or of after. A process that dies loses the accesses since
then, nothing else; a damaged file counts for none, and `check` tells.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.errors import CorruptionError
from aeon.files import FileSystem, read_whole, write_fully
from aeon.format import ACCESS, FILE_HEADER, FileKind
from aeon.generation_files import encode_header
from aeon_native import dispatch

SALIENCE_NAME = "SALIENCE"
_FOLD_EVERY = 256  # recalls that are noted before they are counted


class Salience:
    """Access counts of one store.

    Attributes
    ----------
    error : why the file was not used, "" if it was, or if there is none.
    """

    def __init__(self, files: FileSystem, root: str, uuid: bytes) -> None:
        self._files, self._root, self._uuid = files, root, uuid
        self._noted: deque[tuple[int, Sequence[int]]] = deque()
        self._lock = threading.Lock()
        self._counts: Counter[int] | None = None
        self._last: dict[int, int] = {}  # us, by id
        self._changed = False
        self.error = ""

    def note(self, ids: Sequence[int], now: int) -> None:
        """Note that a recall returned `ids` at `now` (ns)."""
        self._noted.append((now, ids))
        if len(self._noted) >= _FOLD_EVERY:
            self._folded()

    def _folded(self) -> tuple[Counter[int], dict[int, int]]:
        """(How often, and when last in us) by id."""
        with self._lock:
            if self._counts is None:
                records = self._load()
                ids = records["id"].tolist()
                self._counts = Counter(dict(zip(ids, records["count"].tolist(), strict=True)))
                self._last = dict(zip(ids, records["last"].tolist(), strict=True))
            counts, last = self._counts, self._last
            while self._noted:  # by what Python does in C: a recall now and then waits for all of it
                now, ids = self._noted.popleft()
                counts.update(ids)
                last.update(dict.fromkeys(ids, now // 1000))
                self._changed = self._changed or bool(ids)
            return counts, last

    def of(self, id_: int) -> tuple[int, int | None]:
        """(how often it was recalled, when last in us or None if never)."""
        counts, last = self._folded()
        return counts[id_], last.get(id_)

    def columns(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(counts, last accesses in us; the least int64 if never) of `ids`: int64[n] each."""
        counts, last = self._folded()
        never = np.iinfo(np.int64).min
        asked = ids.tolist()
        return np.array([counts[id_] for id_ in asked], np.int64), np.array(
            [last.get(id_, never) for id_ in asked], np.int64
        )

    def _load(self) -> NDArray[np.void]:
        try:
            return read_salience(self._files, self._root, self._uuid)
        except CorruptionError as error:
            self.error = str(error)
        except OSError:
            pass
        return np.empty(0, ACCESS.dtype)

    def save(self, keep: Callable[[NDArray[np.uint64]], NDArray[np.bool_]]) -> None:
        """Replace the file if anything was recalled; what the disk refuses is let go.

        keep : which ids can still be read. The others are no longer counted, or a store whose memories come and go would
            count for ever more of them.
        """
        if not self._noted and not self._changed:
            return
        counts, last = self._folded()
        ids = np.array(sorted(counts), np.uint64)
        try:
            kept = keep(ids)
            with self._lock:
                for id_ in ids[~kept].tolist():
                    counts.pop(id_, None)
                    last.pop(id_, None)
            ids = ids[kept]
            records = np.zeros(len(ids), ACCESS.dtype)
            records["id"] = ids
            records["count"] = [counts[id_] for id_ in ids.tolist()]
            records["last"] = [last[id_] for id_ in ids.tolist()]
            self._write(records.tobytes(), len(records))
            self._changed = False
        except (OSError, CorruptionError) as error:  # damage elsewhere is told by whoever reads there
            self.error = str(error)

    def _write(self, content: bytes, count: int) -> None:
        """Order: the whole file reaches the disk under another name, then the name is swapped."""
        path, temporary = f"{self._root}/{SALIENCE_NAME}", f"{self._root}/{SALIENCE_NAME}.new"
        header = encode_header(FileKind.SALIENCE, self._uuid, 0, count, ACCESS.size, dispatch.kernels.crc32c(content))
        if self._files.exists(temporary):
            self._files.unlink(temporary)
        file = self._files.open(temporary, create=True)
        try:
            write_fully(file, header + content, 0)
            file.fsync()
        finally:
            file.close()
        self._files.rename(temporary, path)


def write_salience(files: FileSystem, root: str, uuid: bytes, records: NDArray[Any]) -> None:
    """Write the file of a store that is being made, ACCESS[n], and sync it; whoever makes the store syncs its name."""
    content = records.tobytes()
    header = encode_header(FileKind.SALIENCE, uuid, 0, len(records), ACCESS.size, dispatch.kernels.crc32c(content))
    file = files.open(f"{root}/{SALIENCE_NAME}", create=True)
    try:
        write_fully(file, header + content, 0)
        file.fsync()
    finally:
        file.close()


def read_salience(files: FileSystem, root: str, uuid: bytes) -> NDArray[np.void]:
    """The records of the file, ACCESS[n]; FileNotFoundError if there is none, CorruptionError if it is damaged."""
    path = f"{root}/{SALIENCE_NAME}"
    data = read_whole(files, path)
    size = FILE_HEADER.size
    if len(data) < size or dispatch.kernels.crc32c(data[: size - 4]) != int.from_bytes(data[size - 4 : size], "little"):
        raise CorruptionError(path, 0, expected="a file header", found=f"{len(data)} bytes")
    _, _, kind, owner, count, _, record_bytes, crc, _, _ = FILE_HEADER.unpack_from(data)
    if (kind, owner, record_bytes, len(data)) != (FileKind.SALIENCE, uuid, ACCESS.size, size + count * ACCESS.size):
        raise CorruptionError(path, 0, expected=f"{count} records of this store", found=f"{len(data)} bytes")
    if dispatch.kernels.crc32c(data[size:]) != crc:
        raise CorruptionError(path, size, expected=f"content checksum {crc:#010x}", found="another")
    return np.frombuffer(data, ACCESS.dtype, offset=size)


def retention(now: int, last: NDArray[np.int64], counts: NDArray[np.int64], stability: int) -> NDArray[np.float64]:
    """Ebbinghaus retention exp(-t / S): t since a memory was last recalled, S = `stability` (us) times 1 + its recalls.

    last : int64[n], when they were last recalled, or remembered. Source: MemoryBank (arXiv 2305.10250), section 2.3.
    """
    age = np.maximum(now - last.astype(np.float64), 0.0)
    return np.exp(-age / (stability * (1.0 + counts)))
