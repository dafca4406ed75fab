"""Pins: a snapshot of a store that is held for as long as somebody reads it, with rows and texts as they lie in memory.

Safety in one sentence: an array or memoryview handed out here refers to the mapping it lies in, and a mapping is given back
when nothing refers to it any more; so no view can point at memory that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aeon import reading
from aeon.atlas_view import AtlasView
from aeon.engine import Engine, View, find, view_of
from aeon.errors import ClosedError, InvalidInputError
from aeon.intake import check_id
from aeon.recall import Effort
from aeon.results import Hit, Memory

if TYPE_CHECKING:
    from aeon.store import Store


class RowBlock:
    """Rows that lie one behind the other in memory. Arrays are read-only views, valid for as long as they are held.

    Attributes
    ----------
    ids : uint64[n]. codes : int8[n, dim] or float32[n, dim]. scales : float32[n]; a vector is scale * codes.
    """

    __slots__ = ("_died", "_lsn", "codes", "ids", "scales")

    def __init__(
        self, ids: NDArray[np.uint64], codes: NDArray[Any], scales: NDArray[np.float32], died: NDArray[Any], lsn: int
    ) -> None:
        self.ids = ids
        self.codes = codes
        self.scales = scales
        self._died = died
        self._lsn = lsn

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which rows belong to a current memory: bool[n], a copy."""
        alive: NDArray[np.bool_] = (self._died == 0) | (self._died > self._lsn)
        return alive

    def __len__(self) -> int:
        return len(self.ids)


class _Held:
    """A view that stays, for an `AtlasView`: it outlives the pin."""

    __slots__ = ("_effort", "_held")

    def __init__(self, view: View, effort: Callable[[bool, float | None], Effort]) -> None:
        self._held, self._effort = view, effort

    def _view(self) -> View:
        return self._held


class Pin:
    """A snapshot: what is written, compacted or swapped meanwhile does not show. Made by `Store.pin`; a context manager.

    Readable after the store is closed. `close` (or dropping it) lets go of the generation; what it handed out stays valid.
    """

    __slots__ = ("_engine", "_published", "_store")

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine: Engine | None = engine
        self._published = engine.published  # the view is made when it is read: making it costs as much as all of this

    @property
    def _view(self) -> View:
        engine = self._engine
        if engine is None:
            raise ClosedError("this pin was closed")
        return view_of(engine, self._published)

    @property
    def lsn(self) -> int:
        """The newest commit in the snapshot."""
        return self._view.lsn

    @property
    def atlas(self) -> AtlasView:
        """The bare vector layer of the snapshot."""
        return AtlasView(_Held(self._view, self._store._effort))

    def recall(self, query: Any, k: int = 10, **options: Any) -> list[Hit]:
        """See `Store.recall`; a pin is a snapshot already, so there is no `as_of`."""
        if "as_of" in options:
            raise InvalidInputError("a pin shows one commit: ask store.recall(as_of=...) for another")
        return self._store._recall(self._view, query, k, **options)

    def get(self, id_: int) -> Memory:
        """See `Store.get`."""
        return reading.get(self._view, id_)

    def history(self, session: str = "default", limit: int | None = 100, before: int | None = None) -> list[Memory]:
        """See `Store.history`."""
        return reading.history(self._view, session, limit, before)

    def memories(
        self,
        *,
        session: str | Sequence[str] | None = None,
        namespace: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        roles: str | Sequence[str] | None = None,
    ) -> Iterator[Memory]:
        """See `Store.memories`."""
        view = self._view
        return reading.memories(view, self._store._filters(view, session, namespace, where, since, until, roles))

    def __iter__(self) -> Iterator[Memory]:
        return self.memories()

    def text(self, id_: int) -> memoryview:
        """A memory's text as UTF-8, where it lies: read-only, not copied, checked against its checksum."""
        view = self._view
        engine = view.engine
        text = engine.blobs.text(engine.operation(find(view, check_id(id_))))
        return text if text.readonly else text.toreadonly()

    def rows(self) -> list[RowBlock]:
        """All rows, those of ended memories included, where they lie: the generation's in one block, then those since.

        Not copied and not verified. Cost: under a microsecond for a generation, however large.
        """
        engine, _, rows, lsn = self._view
        return [RowBlock(ids, codes, scales, died, lsn) for ids, codes, scales, died in engine.atlas.blocks(rows)]

    def close(self) -> None:
        """Let go; calling it again does nothing."""
        self._engine = None

    def __enter__(self) -> Pin:
        _ = self._view  # ClosedError
        return self

    def __exit__(self, *_: object) -> None:
        self._engine = None
