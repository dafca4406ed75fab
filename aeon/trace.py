"""The Trace: events in time order per session, the names they use, and the edges between them.

Events are 128-byte records in the order of their ids. A session's events are found through postings (indexes of events,
grouped by session); what came since the last checkpoint is kept in dicts of lists.
"""

from __future__ import annotations

import bisect
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from aeon.columns import CHUNK_RECORDS, Column
from aeon.errors import CorruptionError
from aeon.format import (
    DEATH,
    EVENT,
    SESSION,
    SUPERSEDED,
    USER_KINDS_FROM,
    EdgeKind,
    FileKind,
    cut_preview,
    data_offset,
)
from aeon.generation_files import MappedFile
from aeon.graph import Graph
from aeon_native import dispatch

_ID, _PREVIOUS, _PARENT, _TIMESTAMP, _SESSION, _NAMESPACE, _ROLE, _FLAGS, _PREVIEW_BYTES, _, _ROW = range(11)
_EVENT_BYTES = EVENT.size
_CRC_OFFSET = 60
_NO_POSTINGS = array("I")
_KINDS = {kind.name.lower(): int(kind) for kind in EdgeKind}
_KIND_NAMES = {number: name for name, number in _KINDS.items()}
FIELDS_MAX = 10_000  # distinct metadata paths that are remembered; with more, filters are not checked for unknown ones


class Event:
    """One decoded EVENT record."""

    __slots__ = (
        "blob_bytes",
        "blob_offset",
        "flags",
        "id",
        "namespace",
        "parent",
        "preview",
        "previous",
        "role",
        "row",
        "session",
        "timestamp",
    )  # fmt: skip

    def __init__(self, record: Any, at: int) -> None:
        (self.id, self.previous, self.parent, self.timestamp, self.session, self.namespace, self.role, self.flags,
         preview_bytes, _, row, self.blob_offset, self.blob_bytes, _, preview) = EVENT.unpack_from(record, at)  # fmt: skip
        self.row = row - 1  # -1 = no vector
        self.preview: bytes = preview[:preview_bytes]


class Names:
    """Sessions, namespaces, metadata fields and kinds of edges by number, and where sessions branch off; only ever added to.

    Attributes
    ----------
    kinds : names of the edges' kinds that a user defined. branches : by session number: (event it continues from, LSN,
    session of that event).
    """

    def __init__(self, packed: bytes, path: str) -> None:
        try:
            stored = msgpack.unpackb(packed) if packed else {"sessions": [], "namespaces": [], "fields": []}
            self.sessions: list[str] = list(stored["sessions"])
            self.namespaces: list[tuple[str, ...]] = [tuple(parts) for parts in stored["namespaces"]]
            self.fields: set[str] = set(stored["fields"])
            self.kinds: list[str] = list(stored.get("kinds", ()))
            self.branches: dict[int, tuple[int, int, int]] = {
                number: (event, lsn, trunk) for number, event, lsn, trunk in stored.get("branches", ())
            }
            parts_of = (part for parts in self.namespaces for part in parts)
            for name in (*self.sessions, *self.fields, *self.kinds, *parts_of):
                if type(name) is not str:
                    raise TypeError(f"{name!r} is no name")
            for number, branch in self.branches.items():
                if not all(type(value) is int and value >= 0 for value in (number, *branch)):
                    raise TypeError(f"session {number} cannot branch off as {branch}")
                if max(number, branch[2]) >= len(self.sessions) or number == branch[2]:
                    raise ValueError(f"session {number} cannot branch off session {branch[2]}")
        except (msgpack.UnpackException, ValueError, TypeError, KeyError) as error:
            raise CorruptionError(path, 0, expected="a map of names", found=repr(error)) from error
        self.session_numbers = {name: number for number, name in enumerate(self.sessions)}
        self.namespace_numbers = {parts: number for number, parts in enumerate(self.namespaces)}
        self.branches_from: dict[int, list[int]] = {}  # sessions by the event they continue from
        for number, (event, _, _) in self.branches.items():
            self.branches_from.setdefault(event, []).append(number)
        self.kind_numbers = {name: USER_KINDS_FROM + number for number, name in enumerate(self.kinds)}

    def branch(self, session: int, event: int, lsn: int, trunk: int) -> None:
        """Let a session continue from an event of the session `trunk`."""
        if session not in self.branches and session != trunk:
            self.branches[session] = (event, lsn, trunk)
            self.branches_from.setdefault(event, []).append(session)

    def kind(self, name: str) -> int:
        """Number of a kind of edge, which is made if it is new."""
        number = self.known_kind(name)
        if number is None:
            self.kinds.append(name)
            number = self.kind_numbers[name] = USER_KINDS_FROM + len(self.kinds) - 1
        return number

    def known_kind(self, name: str) -> int | None:
        """Number of a kind of edge; None if there is none by that name."""
        return _KINDS.get(name) or self.kind_numbers.get(name)

    def kind_name(self, number: int) -> str:
        """Name of a kind of edge."""
        return _KIND_NAMES.get(number) or self.kinds[number - USER_KINDS_FROM]

    def session(self, name: str) -> int:
        """Number of a session, which is made if it is new."""
        number = self.session_numbers.get(name)
        if number is None:
            self.sessions.append(name)
            number = self.session_numbers[name] = len(self.sessions) - 1
        return number

    def namespace(self, parts: tuple[str, ...]) -> int:
        """Number of a namespace, which is made if it is new."""
        number = self.namespace_numbers.get(parts)
        if number is None:
            self.namespaces.append(parts)
            number = self.namespace_numbers[parts] = len(self.namespaces) - 1
        return number

    def note_fields(self, metadata: dict[str, Any]) -> None:
        """Remember which dotted paths metadata has."""
        fields = self.fields
        for name, value in metadata.items():
            if name not in fields or isinstance(value, dict):
                self._note(str(name), value, 0)

    def _note(self, path: str, value: Any, depth: int) -> None:
        if len(self.fields) <= FIELDS_MAX:
            self.fields.add(path)
        if isinstance(value, dict) and depth < 32:
            for name, inner in value.items():
                self._note(f"{path}.{name}", inner, depth + 1)

    def pack(
        self,
        sessions: NDArray[np.int64],
        namespaces: NDArray[np.int64],
        branches: list[list[int]],
        fields: Iterable[str] | None = None,
    ) -> bytes:
        """The bytes of the names file, with only these sessions and namespaces, which get new numbers in this order.

        branches : (session, event it continues from, LSN, session of that event), by the new numbers.
        """
        packed: bytes = msgpack.packb(
            {
                "sessions": [self.sessions[number] for number in sessions.tolist()],
                "namespaces": [list(self.namespaces[number]) for number in namespaces.tolist()],
                "fields": sorted(self.fields.copy() if fields is None else fields),
                "kinds": self.kinds.copy(),
                "branches": branches,
            }
        )
        return packed


class Trace:
    """Events, names, postings and edges of one generation and of what came since.

    Parameters
    ----------
    files : the generation's mapped files by kind; empty for a new store.
    next_id : id of the first event that is not in the generation.
    """

    def __init__(self, files: dict[FileKind, MappedFile], next_id: int) -> None:
        self._files = files
        self.tail_first_id = next_id
        self.events = Column(self._content(FileKind.EVENTS, EVENT.dtype))
        self._base_raw = self.events.base.view(np.uint8).reshape(-1).data if self.events.base_count else memoryview(b"")
        self._base_first_id = int(EVENT.unpack_from(self._base_raw, 0)[_ID]) if self.events.base_count else 0
        self._verified = np.zeros(-(-self.events.base_count // CHUNK_RECORDS) + 1, bool)
        self._verified[-1] = True  # what is not in the base has nothing to verify
        self._base_flags: int | None = None
        deaths = files.get(FileKind.EVENT_DEATHS)
        self._deaths = Column(deaths.unverified(DEATH.dtype) if deaths else np.empty(0, DEATH.dtype))
        self._postings: dict[int, array[int]] = {}  # uint32: a list of ints would take nine times as much
        self._last: dict[int, int] = {}
        self._live: dict[int, int] = {}
        myself = weakref.ref(self)  # alive whenever its graph is asked
        self.graph = Graph(files, lambda: cast("Trace", myself()).base_parents())
        self.superseded_at: dict[int, int] = {}  # by index: when an upsert ended what was forgotten later

    def _content(self, kind: FileKind, dtype: np.dtype[Any]) -> NDArray[Any]:
        return self._files[kind].content() if kind in self._files else np.empty(0, dtype)

    # Tables are verified when they are first needed, so that opening a store does not read them.
    @cached_property
    def deaths(self) -> Column:
        """DEATH[n] by event index; writable, private to this process; verified."""
        self._content(FileKind.EVENT_DEATHS, DEATH.dtype)
        return self._deaths

    @cached_property
    def names(self) -> Names:
        """Names by number."""
        file = self._files.get(FileKind.NAMES)
        return Names(file.content().tobytes(), file.path) if file else Names(b"", "")

    @cached_property
    def base_sessions(self) -> NDArray[Any]:
        """SESSION[n] of the generation, by session number."""
        return self._content(FileKind.SESSIONS, SESSION.dtype)

    @cached_property
    def base_postings(self) -> NDArray[np.uint32]:
        """Event indexes of the generation, grouped by session: uint32[n]."""
        return self._content(FileKind.POSTINGS, np.dtype("<u4")).view(np.uint32)

    @cached_property
    def _base_ids(self) -> NDArray[np.uint64]:
        return np.ascontiguousarray(self.events.base["id"])

    # -- writing (under the index lock) -------------------------------------------------------------------------

    def append(
        self, id_: int, *, parent: int, timestamp: int, session: int, namespace: int, role: int, flags: int, row: int,
        blob_bytes: int, text: memoryview,
    ) -> int:  # fmt: skip
        """Add an event with the next id and return its index; `row` is -1 without a vector."""
        events, deaths = self.events, self._deaths
        chunk, position = events.slot()
        preview = cut_preview(bytes(text[:72]))  # room for the character that straddles byte 64
        EVENT.pack_into(
            chunk, position * _EVENT_BYTES, id_, self.last_id(session), parent, timestamp, session, namespace, role,
            flags, len(preview), 0, row + 1, 0, blob_bytes, 0, preview,
        )  # fmt: skip
        deaths.slot()
        deaths.commit()
        index = events.commit()
        postings = self._postings.get(session)
        if postings is None:
            postings = self._postings[session] = array("I")
        postings.append(index)
        self._last[session] = id_
        self._live[session] = self._live.get(session, 0) + 1
        if parent:
            self.graph.add_born(id_, parent, EdgeKind.PARENT)
        return index

    def kill(self, index: int, lsn: int, *, superseded: bool) -> bool:
        """Mark an event as ended at `lsn`; False if it was forgotten before."""
        array, position = self.deaths.locate(index)
        before = int(array[position]["lsn"])
        if before and (superseded or not before & SUPERSEDED):
            return False
        if before:  # written before the death: who sees the new death finds the old one here
            self.superseded_at[index] = before & ~SUPERSEDED
        array[position] = lsn | (SUPERSEDED if superseded else 0)
        if not before:
            session = self.event(index).session
            self._live[session] = self._live.get(session, 0) - 1
        return True

    # -- reading ------------------------------------------------------------------------------------------------

    def index_of(self, id_: int) -> int:
        """Index of the event with this id, dead or alive; -1 if there is none."""
        if id_ >= self.tail_first_id:
            index = self.events.base_count + id_ - self.tail_first_id
            return index if index < self.events.count else -1
        count = self.events.base_count
        guess = min(id_ - self._base_first_id, count - 1)  # ids only have gaps, so the index is never beyond
        if guess >= 0 and self._base_id(guess) == id_:
            return guess
        index = bisect.bisect_left(range(max(guess, 0)), id_, key=self._base_id)
        if index < count and self._base_id(index) == id_:
            if not self._verified[index // CHUNK_RECORDS]:
                self._verify_one(index)  # not where it was expected: a gap in the ids, or events that changed places
            return index
        # Not there: unless a damaged id misled the search, which then ended beside it, or began at a wrong first one.
        for at in {0, index - 1, index}:
            if 0 <= at < count:
                self._verify_one(at)
        return -1

    def _base_id(self, index: int) -> int:
        at = index * _EVENT_BYTES
        return int.from_bytes(self._base_raw[at : at + 8], "little")

    def event(self, index: int) -> Event:
        """Decode the event at `index`; CorruptionError if its bytes are damaged."""
        array, position = self.events.locate(index)
        if index < self.events.base_count:
            if not self._verified[index // CHUNK_RECORDS]:
                self._verify_one(index)
            return Event(self._base_raw, position * _EVENT_BYTES)
        return Event(array, position * _EVENT_BYTES)

    def _verify_one(self, index: int) -> None:
        raw = self._base_raw[index * _EVENT_BYTES : (index + 1) * _EVENT_BYTES]
        found, expected = event_crc(raw), int.from_bytes(raw[_CRC_OFFSET : _CRC_OFFSET + 4], "little")
        if found != expected:
            raise self._damaged(index, expected, found)
        # Ids increase. Two whole events that changed places have good checksums, and a search by id would miss them.
        id_, low, high = self._base_id(index), max(index - 1, 0), min(index + 1, self.events.base_count - 1)
        if (low < index and self._base_id(low) >= id_) or (high > index and self._base_id(high) <= id_):
            raise CorruptionError(
                self._files[FileKind.EVENTS].path, data_offset(FileKind.EVENTS) + index * _EVENT_BYTES,
                expected="ids that increase", found=[self._base_id(at) for at in range(low, high + 1)],
            )  # fmt: skip

    def _damaged(self, index: int, expected: int, found: int) -> CorruptionError:
        offset = data_offset(FileKind.EVENTS) + index * _EVENT_BYTES
        return CorruptionError(
            self._files[FileKind.EVENTS].path,
            offset,
            expected=f"an event with checksum {expected:#010x}",
            found=f"{found:#010x}",
        )

    def columns(self, stop: int, start: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Iterate over (first index, EVENT[m]) of the events from `start` to `stop`, verified."""
        chunks = slice(start // CHUNK_RECORDS, -(-stop // CHUNK_RECORDS))
        self._verify_chunks(chunks.start + np.flatnonzero(~self._verified[chunks]))
        yield from self.events.runs(stop, start)

    def ids(self, stop: int, pause: Callable[[], None]) -> NDArray[np.uint64]:
        """Ids of the events below `stop`: uint64[stop]; `pause` is called between the pieces."""
        ids = np.empty(stop, np.uint64)
        for first in range(0, stop, CHUNK_RECORDS):
            for at, run in self.events.runs(min(first + CHUNK_RECORDS, stop), first):
                ids[at : at + len(run)] = run["id"]
            pause()
        return ids

    def take(self, indexes: NDArray[np.int64], field: str) -> NDArray[Any]:
        """Copy one field of the events at `indexes`, verified."""
        self._verify_touched(indexes)
        return self.events.take(indexes, field)

    def _verify_chunks(self, chunks: NDArray[np.int64]) -> None:
        for chunk in chunks.tolist():
            first = chunk * CHUNK_RECORDS
            records = self.events.base[first : first + CHUNK_RECORDS]
            for index in np.flatnonzero(event_checksums(records) != records["crc"])[:1].tolist():
                self._verify_one(first + index)
            start = max(first - 1, 0)
            ids = self.events.base["id"][start : first + CHUNK_RECORDS]
            for index in np.flatnonzero(ids[1:] <= ids[:-1])[:1].tolist():
                self._verify_one(start + index + 1)
            self._verified[chunk] = True

    def warm(self, pause: Callable[[], None]) -> None:
        """Verify what was mapped, so that nobody has to later; `pause` is called between the pieces."""
        self.base_flags(pause)
        for touch in (
            lambda: self.deaths, lambda: self.names, lambda: self.base_sessions, lambda: self.base_postings,
            self.graph.warm,
        ):  # fmt: skip
            touch()
            pause()

    def base_flags(self, pause: Callable[[], None] = lambda: None) -> int:
        """Every flag that an event of the generation has; the events are verified, and let go of again."""
        if self._base_flags is None:
            found = 0
            for first in range(0, self.events.base_count, CHUNK_RECORDS):
                end = min(first + CHUNK_RECORDS, self.events.base_count)
                for _, records in self.columns(end, first):
                    found |= int(np.bitwise_or.reduce(records["flags"]))
                before = max(first - CHUNK_RECORDS, 0)  # its last id was looked at again
                self._files[FileKind.EVENTS].let_go(before * _EVENT_BYTES, end * _EVENT_BYTES)
                pause()
            self._base_flags = found
        return self._base_flags

    def death(self, index: int) -> int:
        """The DEATH of an event: 0 = alive."""
        array, position = self.deaths.locate(index)
        return int(array[position]["lsn"])

    def last_id(self, session: int) -> int:
        """Id of the newest event of a session; 0 = none."""
        last = self._last.get(session)
        if last is None:
            last = self.base_last_id(session)
        return last

    def base_last_id(self, session: int) -> int:
        """Id of a session's newest event in the generation; 0 = none."""
        base = self.base_sessions
        return int(base[session]["last_id"]) if session < len(base) else 0

    def session_count(self, session: int) -> int:
        """How many events a session has had, dead ones included."""
        base = self.base_sessions
        return (int(base[session]["postings_count"]) if session < len(base) else 0) + len(
            self._postings.get(session, ())
        )

    def session_events(self, session: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
        """Indexes of a session's events from its `start`-th to its `stop`-th, dead ones included: int64[n]."""
        base = self.base_sessions
        tail = self._postings.get(session, _NO_POSTINGS)
        first, count, *_ = base[session].item() if session < len(base) else (0, 0)
        stop = count + len(tail) if stop is None else stop
        in_base = self.base_postings[first + min(start, count) : first + min(stop, count)].astype(np.int64)
        in_tail = tail[max(start - count, 0) : max(stop - count, 0)]  # a copy, so that a writer may append meanwhile
        return np.concatenate([in_base, np.array(in_tail, np.int64)]) if in_tail else in_base

    def session_live(self, session: int) -> int:
        """How many events of a session are alive."""
        base = self.base_sessions
        return (int(base[session]["live"]) if session < len(base) else 0) + self._live.get(session, 0)

    def edges_from(self, id_: int) -> list[tuple[int, int]]:
        """(dst, kind) of the edges that were born with `id_`, in order of creation."""
        return self.graph.edges_from(id_)

    def indexes_of(self, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """`index_of` for many ids at once: int64[n]; the events found in the generation are verified."""
        count = self.events.base_count
        out = np.full(len(ids), -1, np.int64)
        late = ids >= np.uint64(self.tail_first_id)
        if late.any():
            indexes = (ids[late] - np.uint64(self.tail_first_id)).astype(np.int64) + count
            # A damaged id may be as large as an int64 is not.
            out[late] = np.where((indexes >= count) & (indexes < self.events.count), indexes, -1)
        if count and not late.all():
            early = ids[~late]
            gapless = self._base_id(count - 1) - self._base_first_id == count - 1
            if gapless:
                at = early.astype(np.int64) - self._base_first_id
            else:
                at = np.searchsorted(self._base_ids, early)
            at = np.where((at >= 0) & (at < count), at, count - 1)
            self._verify_touched(at)
            found = self.events.base["id"][at] == early
            if gapless and not found.all():  # not told by the ends: a damaged id, or one beyond the ends
                for n in np.flatnonzero(~found).tolist():
                    self.index_of(int(early[n]))
            out[~late] = np.where(found, at, -1)
        return out

    def base_parents(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Ids and parents of the generation's events, verified: uint64[n] each."""
        self._verify_chunks(np.flatnonzero(~self._verified))
        return self._base_ids, np.ascontiguousarray(self.events.base["parent"])

    def _verify_touched(self, indexes: NDArray[np.int64]) -> None:
        chunks = indexes // CHUNK_RECORDS
        if np.count_nonzero(self._verified.take(chunks, mode="clip")) < len(chunks):
            chunks = np.unique(chunks)
            self._verify_chunks(chunks[~self._verified.take(chunks, mode="clip")])

    def readable(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of `ids` can be read: alive, or replaced by a newer version. bool[n]"""
        indexes = self.indexes_of(np.ascontiguousarray(ids))
        out = indexes >= 0
        deaths = self.deaths.take(indexes[out], "lsn")
        out[out] = (deaths == 0) | (deaths >= SUPERSEDED)
        return out


def event_checksums(events: NDArray[Any]) -> NDArray[np.uint32]:
    """The crc of each event, EVENT[n] and contiguous: uint32[n]."""
    out = np.empty(len(events), np.uint32)
    dispatch.kernels.records_checksum(events.view(np.uint8).reshape(-1, _EVENT_BYTES), _CRC_OFFSET, out)
    return out


def event_crc(raw: memoryview) -> int:
    """CRC-32C of an EVENT's 128 bytes without its crc field."""
    crc32c = dispatch.kernels.crc32c
    return int(crc32c(raw[_CRC_OFFSET + 4 :], crc32c(raw[:_CRC_OFFSET])))
