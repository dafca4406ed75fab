"""What a store gives back: small typed objects. Text and metadata are read from the arena when they are first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from aeon.format import ROLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aeon.engine import Engine
    from aeon.operations import Extra
    from aeon.trace import Event

Answered = Literal["atlas", "exact", "certified", "approximate"]
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
