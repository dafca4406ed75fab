"""What a store gives back: small typed objects. Text and metadata are read from the arena when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aeon.format import ROLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aeon.engine import Engine
    from aeon.operations import Extra
    from aeon.trace import Event

Answered = Literal["atlas", "exact", "certified", "approximate"]
Progress = Callable[[str, int, int], None]  # (what, done, total): how far long work has come
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Memory:
    """One memory, as it was in the snapshot it came from; stays readable after the store is closed or changed.

    Attributes are read when first asked for, and may then raise CorruptionError if the bytes on disk are damaged.
    """

    def __init__(self, engine: Engine, index: int, id_: int) -> None:
        self._engine = engine
        self._index = index
        self.id = id_

    @cached_property
    def _event(self) -> Event:
        return self._engine.event(self._index)

    @cached_property
    def _extra(self) -> Extra:
        return self._engine.extra(self._index)

    @cached_property
    def text(self) -> str:
        """The text, read from the arena and checked against its checksum."""
        return self._engine.text(self._index)

    @property
    def preview(self) -> str:
        """The text's first bytes (at most 64), without reading the arena."""
        return self._event.preview.decode("utf-8")

    @property
    def session(self) -> str:
        """Name of the session."""
        return self._engine.trace.names.sessions[self._event.session]

    @property
    def namespace(self) -> tuple[str, ...]:
        """The namespace, () if none was given."""
        return self._engine.trace.names.namespaces[self._event.namespace]

    @property
    def role(self) -> str:
        """user, assistant, system, tool, concept or summary."""
        return ROLES[self._event.role - 1]

    @property
    def timestamp(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return self._event.timestamp

    @property
    def time(self) -> datetime:
        """The timestamp as an aware datetime, UTC."""
        return _EPOCH + timedelta(microseconds=self.timestamp)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata, {} if none was given."""
        return self._extra.metadata or {}

    @property
    def key(self) -> str | None:
        """The key under which it was remembered, or None."""
        return self._extra.key

    @property
    def refs(self) -> tuple[int, ...]:
        """Ids this memory refers to."""
        return self._extra.refs

    @property
    def parent(self) -> int | None:
        """Id of the event this one follows from, or None."""
        return self._event.parent or None

    @property
    def previous(self) -> int | None:
        """Id of the event before this one in its session, or None."""
        return self._event.previous or None

    @cached_property
    def vector(self) -> NDArray[np.float32] | None:
        """The vector as the store keeps it, normalised, float32[dim], a copy; None if there is none."""
        row = self._event.row
        return None if row < 0 else self._engine.atlas.vector(row)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vector, as JSON-friendly values."""
        return {
            "id": self.id,
            "text": self.text,
            "session": self.session,
            "role": self.role,
            "timestamp": self.timestamp,
            "namespace": list(self.namespace),
            "key": self.key,
            "metadata": self.metadata,
            "parent": self.parent,
            "refs": list(self.refs),
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label()}{self.session}/{self.role}: {self.preview!r}>"

    def _label(self) -> str:
        return f"{self.id} "


class Hit(Memory):
    """A memory found by `recall`.

    Attributes
    ----------
    score : cosine of the query and the memory's vector, within 0.005 for INT8 rows (so an identical text may score 1.004).
    answered : by what: "atlas" (a search), or by the SLB: "exact", "certified" or "approximate" (see `aeon.slb`).
    """

    score: float
    answered: Answered

    def __init__(self, engine: Engine, id_: int, score: float, answered: Answered = "atlas") -> None:
        self._engine = engine
        self.id = id_
        self.score = score
        self.answered = answered

    @cached_property
    def _index(self) -> int:  # type: ignore[override]
        return self._engine.trace.index_of(self.id)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vector, as JSON-friendly values, with the score."""
        return {"score": self.score, **super().to_dict()}

    def _label(self) -> str:
        return f"{self.id} {self.score:.3f} "


class Edge(NamedTuple):
    """An edge of the episode graph: from `src` to `dst` (ids), and its kind by name."""

    src: int
    dst: int
    kind: str


@dataclass(frozen=True)
class Episode:
    """A stretch of time in which something was talked about.

    Attributes
    ----------
    since, until : timestamps (us) of its first and its last memory. score : of the best one.
    ids : the memories, in the order of time. sessions : where they were said.
    """

    since: int
    until: int
    score: float
    ids: tuple[int, ...]
    sessions: tuple[str, ...]


@dataclass(frozen=True)
class Duplicates:
    """Memories that say the same (`exact`), or nearly: ids oldest first; score: the least cosine that holds them together."""

    ids: tuple[int, ...]
    score: float
    exact: bool


@dataclass(frozen=True)
class Dream:
    """An episode that was consolidated, or would be.

    Attributes
    ----------
    session, ids, since, until : where and when it was said (us). retention : mean of its memories, 0 to 1.
    redundancy : mean cosine of its memories to their mean. summary, summary_id : what stands for it; None = a dry run.
    """

    session: str
    ids: tuple[int, ...]
    since: int
    until: int
    retention: float
    redundancy: float
    summary: str = ""
    summary_id: int | None = None

    def told(self, summary: str, summary_id: int | None) -> Dream:
        """The same with its summary."""
        return replace(self, summary=summary, summary_id=summary_id)


@dataclass(frozen=True)
class DreamReport:
    """What `dream` did, or with `dry_run` would do: episodes consolidated, and groups of exact repeats folded."""

    dry_run: bool
    episodes: tuple[Dream, ...]
    folded: tuple[Duplicates, ...]


@dataclass(frozen=True)
class SessionInfo:
    """A session: its name, how many of its memories are current, and the timestamp (us) of its newest event."""

    name: str
    count: int
    last_timestamp: int


@dataclass(frozen=True)
class Stats:
    """Figures of a store. Sizes in bytes.

    Attributes
    ----------
    memories, vectors : current ones (not forgotten, not replaced). events : all that are kept.
    log_bytes : the log, space reserved for it included. disk_bytes : all files together. files : each, by its path.
    kernels : "compiled", "reference" (the NumPy twins serve) or what the loader says.
    slb : figures of the SLB: answers by kind, hit rates, tau, measured recall of hits, drift, bytes (see `Slb.stats`).
    """

    path: str
    memories: int
    vectors: int
    events: int
    sessions: int
    keys: int
    dim: int
    rows: str
    embedder: str
    durability: str
    read_only: bool
    generation: int
    lsn: int
    durable_lsn: int
    log_bytes: int
    disk_bytes: int
    files: dict[str, int]
    kernels: str
    slb: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompactReport:
    """What `Store.compact` did.

    Attributes
    ----------
    generation : number of the new generation. memories : how many it holds, older versions included.
    dropped : how many forgotten memories it left out.
    bytes_before, bytes_after : of the generation's files. seconds : from the call to the swap and the clean-up.
    pauses : seconds for which writers could not commit, at the freeze and at the swap.
    files_removed : files of the old generation, and log segments, that were deleted.
    purged : nothing that was forgotten before the call is in any file of the store.
    held_by_readers : results, pins, arrays or searches of this process still map files of older generations: the system gives
        their blocks back when the last of them is gone. (Other processes may hold them as well until they `refresh`.)
    """

    generation: int
    memories: int
    dropped: int
    bytes_before: int
    bytes_after: int
    seconds: float
    pauses: tuple[float, float]
    files_removed: Sequence[str]
    purged: bool
    held_by_readers: bool


@dataclass(frozen=True)
class Problem:
    """One finding of `check`: the file, the byte (or -1 if it is about no single byte), and what is wrong."""

    path: str
    offset: int
    message: str


@dataclass(frozen=True)
class CheckReport:
    """What `check` read and found.

    Attributes
    ----------
    counts : how many records of each kind were verified.
    """

    problems: Sequence[Problem]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


IdRanges = Sequence[tuple[int, int]]  # (first, last) of each run of ids, both included, increasing


def id_ranges(ids: Iterable[int]) -> IdRanges:
    """Ids, or LSNs, as runs: in any order, each counted once."""
    found: list[tuple[int, int]] = []
    for id_ in sorted(set(ids)):
        if found and found[-1][1] == id_ - 1:
            found[-1] = (found[-1][0], id_)
        else:
            found.append((id_, id_))
    return tuple(found)


@dataclass(frozen=True)
class Loss:
    """Bytes that `repair` found damaged or missing, and what went with them.

    Attributes
    ----------
    path, offset, length : where in the damaged store; length 0 if a file (or its end, of unknown length) is not there.
    reason : what is wrong, and what was lost.
    ids : memories that are gone, or whose vector is (the reason says which). lsns : commits that are gone.
    """

    path: str
    offset: int
    length: int
    reason: str
    ids: IdRanges = ()
    lsns: IdRanges = ()


@dataclass(frozen=True)
class RepairReport:
    """What `repair` salvaged into a new store, and what it could not.

    Attributes
    ----------
    path, to : the damaged store, which is as it was, and the new one.
    memories, vectors : how many are in the new store; older versions under a key count.
    lost : what is gone. rebuilt : damage that cost nothing, since the bytes could be derived from others.
    missing_lsns : commits that had been made and are nowhere.
    doubtful : ids that are in the new store though a missing commit may have forgotten or replaced them.
    doubts : why, in words.
    """

    path: str
    to: str
    memories: int
    vectors: int
    lost: Sequence[Loss]
    rebuilt: Sequence[Problem]
    missing_lsns: IdRanges = ()
    doubtful: IdRanges = ()
    doubts: Sequence[str] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing was lost and nothing is doubtful."""
        return not self.lost and not self.doubtful


@dataclass(frozen=True)
class BackupReport:
    """A copy that was made and verified.

    Attributes
    ----------
    path, to : the store and its copy. lsn : the newest commit in the copy. bytes : its size.
    attempts : 1, and one more for each checkpoint of the writer that made the copy start over.
    counts : how many records of each kind were verified in the copy.
    """

    path: str
    to: str
    lsn: int
    bytes: int
    attempts: int
    counts: dict[str, int] = field(default_factory=dict)
