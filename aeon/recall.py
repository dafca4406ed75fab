"""Recall: filters applied before ranking, then the Atlas, then hits.

Filters on columns (session, namespace, role, time) choose the events first; their rows are scored exactly. A filter on
metadata is evaluated on the best-ranked candidates first, in growing batches until k match or none are left.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon.engine import Engine, View, alive_mask
from aeon.errors import FilterError
from aeon.format import OpFlag
from aeon.results import Answered, Hit
from aeon.trace import FIELDS_MAX
from aeon.where import Where

_BLOCK = 256  # events of a session that are looked at together
_FIRST_BATCH = 64  # candidates whose metadata is read first; grows eightfold


class Effort(NamedTuple):
    """How thoroughly the Atlas is searched: every row, or as many pages as a recall target takes (None = 0.95)."""

    exact: bool = False
    recall_target: float | None = None


DEFAULT_EFFORT = Effort()


@dataclass(frozen=True)
class Filters:
    """Checked filters. Times in microseconds: since <= timestamp < until."""

    sessions: tuple[str, ...] | None = None
    namespace: tuple[str, ...] = ()
    roles: tuple[int, ...] | None = None
    since: int | None = None
    until: int | None = None
    where: Where | None = None

    @property
    def on_columns(self) -> bool:
        """Whether any filter needs the events' columns."""
        return self.sessions is not None or bool(self.namespace) or self.roles is not None or self.on_time

    @property
    def on_time(self) -> bool:
        """Whether time is filtered."""
        return self.since is not None or self.until is not None


NO_FILTERS = Filters()


def require_known_fields(view: View, where: Where) -> None:
    """Raise FilterError if `where` names a field that no memory has ever had; an empty store knows no field to miss."""
    known = view.engine.trace.names.fields
    if not view.events or len(known) > FIELDS_MAX:
        return
    for field in sorted(where.required_fields - known):
        near = difflib.get_close_matches(field, list(known), 1)  # a copy: a writer may add a name meanwhile
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FilterError(
            f"no memory in this store has a metadata field {field!r}{hint} (opened with unknown_fields='ignore' it is no match)"
        )


def select(view: View, filters: Filters) -> NDArray[np.int64] | None:
    """Indexes of the events that pass the column filters, dead ones included, increasing; None = all."""
    if filters is NO_FILTERS or not filters.on_columns:
        return None
    trace = view.engine.trace
    namespaces = None
    if filters.namespace:
        depth = len(filters.namespace)
        names = trace.names.namespaces
        namespaces = np.array([n for n, parts in enumerate(names) if parts[:depth] == filters.namespace], np.uint32)
    if filters.sessions is not None:
        numbers = {trace.names.session_numbers.get(name, -1) for name in filters.sessions} - {-1}
        runs = [trace.session_events(number) for number in numbers]
        indexes = np.sort(np.concatenate(runs)) if runs else np.empty(0, np.int64)
        indexes = indexes[indexes < view.events]
        keep = _mask(filters, namespaces, len(indexes), lambda field: trace.take(indexes, field))
        return indexes if keep is None else indexes[keep]
    found = []
    for first, records in trace.columns(view.events):
        keep = _mask(filters, namespaces, len(records), lambda field, run=records: run[field])
        if keep is not None:
            found.append(first + np.flatnonzero(keep))
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _mask(filters: Filters, namespaces, count, column):  # type: ignore[no-untyped-def]
    keep = None

    def narrow(condition: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return condition if keep is None else keep & condition

    if namespaces is not None:
        keep = narrow(np.isin(column("namespace"), namespaces))
    if filters.roles is not None:
        keep = narrow(np.isin(column("role"), np.array(filters.roles, np.uint8)))
    if filters.since is not None:
        keep = narrow(column("timestamp") >= filters.since)
    if filters.until is not None:
        keep = narrow(column("timestamp") < filters.until)
    return keep


def matches(view: View, index: int, where: Where) -> bool:
    """Whether the metadata of the event at `index` satisfies `where`."""
    if not view.engine.event(index).flags & OpFlag.METADATA:
        return where.matches(None)
    return where.matches(view.engine.extra(index).metadata)


def select_alive(view: View, filters: Filters) -> Sequence[int]:
    """Indexes of all current events that pass every filter, increasing."""
    indexes = select(view, filters)
    if indexes is None:
        indexes = np.arange(view.events)
    indexes = indexes[alive_mask(view, indexes)]
    if filters.where is None:
        return indexes.tolist()
    return [index for index in indexes.tolist() if matches(view, index, filters.where)]


def recall(
    view: View, query: NDArray[np.float32], k: int, filters: Filters, effort: Effort = DEFAULT_EFFORT
) -> list[Hit]:
    """Return the k best current memories that pass the filters, best first; fewer only if fewer match.

    query : float32[dim]. Cost: the pages looked at, or with `effort.exact` one pass over the candidates' rows.
    """
    engine = view.engine
    atlas = engine.atlas
    among = _rows_of(view, select(view, filters))
    available = view.rows if among is None else len(among)
    want = min(k if filters.where is None else max(_FIRST_BATCH, 4 * k), available)
    while True:
        ids, scores = atlas.search_ids(
            query[None], want, rows=view.rows, lsn=view.lsn, among=among, exact=effort.exact,
            recall_target=effort.recall_target,
        )  # fmt: skip
        if filters.where is None:
            return as_hits(engine, ids[0], scores[0])
        hits: list[Hit] = []
        for id_, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True):
            if not id_:
                return hits
            index = engine.trace.index_of(id_)
            if matches(view, index, filters.where):
                hits.append(Hit(engine, id_, score))
                if len(hits) == k:
                    return hits
        if want >= available:
            return hits
        want = min(8 * want, available)


def as_hits(
    engine: Engine, ids: NDArray[np.uint64], scores: NDArray[np.float32], answered: Answered = "atlas"
) -> list[Hit]:
    """Hits of what a search found; an id of 0 ends them."""
    return [Hit(engine, id_, score, answered) for id_, score in zip(ids.tolist(), scores.tolist(), strict=True) if id_]


def search_batch(
    view: View, queries: NDArray[np.float32], k: int, filters: Filters, effort: Effort = DEFAULT_EFFORT
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Search the Atlas for each row of `queries` float32[n, dim]; (ids uint64[n, k], cosines float32[n, k])."""
    atlas = view.engine.atlas
    among = _rows_of(view, select(view, filters))
    return atlas.search_ids(
        queries, k, rows=view.rows, lsn=view.lsn, among=among, exact=effort.exact, recall_target=effort.recall_target
    )


def _rows_of(view: View, indexes: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Rows of the events at `indexes` that have one; increasing, as rows are given out in the order of events."""
    if indexes is None:
        return None
    rows = view.engine.trace.take(indexes, "row").astype(np.int64) - 1
    return rows[rows >= 0]


def current_events(view: View, session: int) -> Iterator[NDArray[np.int64]]:
    """Indexes of a session's current events, in blocks: the newest block first, increasing within a block."""
    trace = view.engine.trace
    end = trace.session_count(session)
    while end > 0:
        start = max(0, end - _BLOCK)
        indexes = trace.session_events(session, start, end)
        indexes = indexes[indexes < view.events]
        yield indexes[alive_mask(view, indexes)]
        end = start
