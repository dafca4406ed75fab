"""Recall: filters applied before ranking, then the Atlas, then hits.

Filters choose the rows first, and only those are ranked. A filter on metadata whose fields have no columns yet is asked of
the best-ranked candidates, in growing batches until k match; if that takes many, the columns are made (`Fields`), and it is
a filter like the others from then on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon.engine import Engine, View, alive_among
from aeon.errors import FilterError
from aeon.format import OpFlag
from aeon.results import Answered, Hit
from aeon.trace import FIELDS_MAX
from aeon.where import Where

_new_hit = object.__new__
_BLOCK = 256  # events of a session that are looked at together
_HUB_NEIGHBOURS = 10  # as the paper on CSLS (Conneau et al., 2018) and most who use it
_SELECTIONS = 8  # that are kept
_SELECT_ANEW = 10_000  # events since: then postings are the shorter way
_FIRST_BATCH = 64  # candidates whose metadata is read first; grows eightfold
_READ_MAX = 512  # candidates whose metadata is read rather than make columns of its fields


class Effort(NamedTuple):
    """How thoroughly the Atlas is searched: every row, or as many pages as a recall target takes (None = 0.95).

    beam : groups of pages that are descended into; None = what the target takes.
    """

    exact: bool = False
    recall_target: float | None = None
    beam: int | None = None


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
    archived: bool = False  # archived memories too

    @property
    def on_columns(self) -> bool:
        """Whether any filter needs the events' columns."""
        return self.sessions is not None or bool(self.namespace) or self.roles is not None or self.on_time

    @property
    def on_time(self) -> bool:
        """Whether time is filtered."""
        return self.since is not None or self.until is not None


NO_FILTERS = Filters()


def require_known_fields(view: View, where: Where, *, all_fields: bool = False) -> None:
    """Raise FilterError if `where` needs a field that no memory has ever had; an empty store knows no field to miss.

    all_fields : also if it only names one, as `$ne` and `$exists: false` do, which all memories satisfy then.
    """
    known = view.engine.trace.names.fields
    if not view.events or len(known) > FIELDS_MAX:
        return
    for field in sorted((where.fields if all_fields else where.required_fields) - known):
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
    namespaces = _namespaces(view, filters)
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
    view.engine.fields.read += 1
    return where.matches(view.engine.extra(index).metadata)


def select_alive(view: View, filters: Filters) -> Sequence[int]:
    """Indexes of all current events that pass every filter, increasing."""
    indexes = select(view, filters)
    if indexes is None:
        indexes = np.arange(view.events)
    indexes = alive_among(view, indexes)
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
    graph = engine.trace.graph
    hide = not filters.archived and graph.archives
    among, doubted = None, None
    if filters is NO_FILTERS:
        if not hide:
            ids, scores = nearest(view, query, k, effort)
            return as_hits(engine, ids.tolist()[0], scores.tolist()[0])
    else:
        among, doubted = _rows_among(view, filters, make_columns=engine.fields.read > view.events)
    available = view.rows if among is None else len(among)
    want = min(max(_FIRST_BATCH, 4 * k) if doubted or hide else k, available)
    while True:
        ids, scores = atlas.search_ids(
            query[None], want, rows=view.rows, lsn=view.lsn, among=among, exact=effort.exact,
            recall_target=effort.recall_target,
        )  # fmt: skip
        if not doubted and not hide:
            return as_hits(engine, ids.tolist()[0], scores.tolist()[0])
        hits: list[Hit] = []
        found = ids[0]
        hidden = graph.archived_mask(found, view.lsn) if hide else None
        for n, (id_, score) in enumerate(zip(found.tolist(), scores[0].tolist(), strict=True)):
            if not id_:
                return hits
            if hidden is not None and hidden[n]:
                continue
            if not doubted or matches(view, engine.trace.index_of(id_), doubted):
                hits.append(Hit(engine, id_, score))
                if len(hits) == k:
                    return hits
        if want >= available:
            return hits
        if doubted and want >= _READ_MAX:
            among, doubted = _rows_among(view, filters, make_columns=True)
            available = view.rows if among is None else len(among)
        want = min(8 * want if doubted or hide else k, available)


def as_hits(engine: Engine, ids: list[int], scores: list[float], answered: Answered = "atlas") -> list[Hit]:
    """Hits of what a search found; the first id of 0 ends them."""
    if ids and not ids[-1]:
        ids = ids[: ids.index(0)]
    hits = []
    for id_, score in zip(ids, scores):  # noqa: B905 - `strict` and a call of Hit() take twice as long
        hit = _new_hit(Hit)
        hit._engine = engine
        hit.id = id_
        hit.score = score
        hit.answered = answered
        hits.append(hit)
    return hits


def nearest(
    view: View, query: NDArray[np.float32], k: int, effort: Effort
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """The best of all rows, archived ones included: (ids uint64[1, k], cosines float32[1, k]), as `Atlas.search_ids`."""
    atlas, rows, lsn = view.engine.atlas, view.rows, view.lsn
    want = k if k < rows else rows
    if not effort.exact:
        found = atlas.search_one(query, want, rows, lsn, effort.recall_target)
        if found is not None:
            return found
    return atlas.search_ids(
        query[None], want, rows=rows, lsn=lsn, exact=effort.exact, recall_target=effort.recall_target
    )


def search_batch(
    view: View, queries: NDArray[np.float32], k: int, filters: Filters, effort: Effort = DEFAULT_EFFORT
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Search the Atlas for each row of `queries` float32[n, dim]; (ids uint64[n, k], cosines float32[n, k])."""
    atlas, graph = view.engine.atlas, view.engine.trace.graph
    among, _ = _rows_among(view, filters)
    if filters.archived or not graph.archives:
        return atlas.search_ids(
            queries, k, rows=view.rows, lsn=view.lsn, among=among, exact=effort.exact,
            recall_target=effort.recall_target, beam=effort.beam,
        )  # fmt: skip
    available = view.rows if among is None else len(among)
    ids = np.zeros((len(queries), k), np.uint64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    pending: Sequence[int] = range(len(queries))
    want = min(max(_FIRST_BATCH, 4 * k), available)
    while len(pending):
        found, found_scores = atlas.search_ids(
            queries[pending], want, rows=view.rows, lsn=view.lsn, among=among, exact=effort.exact,
            recall_target=effort.recall_target, beam=effort.beam,
        )  # fmt: skip
        short = []
        for at, n in enumerate(pending):
            present = found[at] != 0
            shown = np.flatnonzero(present & ~graph.archived_mask(found[at], view.lsn))[:k]
            ids[n, : len(shown)] = found[at][shown]
            scores[n, : len(shown)] = found_scores[at][shown]
            if len(shown) < k and present.all() and want < available:
                short.append(n)
        pending = short
        want = min(8 * want, available)
    return ids, scores


def search_without_hubs(
    view: View, queries: NDArray[np.float32], k: int, filters: Filters, effort: Effort = DEFAULT_EFFORT
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """`search_batch`, ranked by 2 * cosine - the mean cosine of a row and its ten nearest others (CSLS).

    Ranked are the best 4 k + 30 rows by cosine. Cost: one search more for each of them.
    """
    atlas = view.engine.atlas
    options: dict[str, Any] = {
        "rows": view.rows,
        "lsn": view.lsn,
        "exact": effort.exact,
        "recall_target": effort.recall_target,
    }
    among, _ = _rows_among(view, filters)
    found, cosines, counts = atlas.search_many(queries, 4 * k + 30, among=among, beam=effort.beam, **options)
    listed = np.arange(found.shape[1]) < counts[:, None]
    if not filters.archived and view.engine.trace.graph.archives:
        listed &= ~view.engine.trace.graph.archived_mask(
            atlas.ids(np.where(listed, found, 0).ravel()), view.lsn
        ).reshape(found.shape)
    rows, places = np.unique(found[listed], return_inverse=True)
    ids, scores = np.zeros((len(queries), k), np.uint64), np.full((len(queries), k), -np.inf, np.float32)
    if not len(rows):
        return ids, scores
    vectors = np.ascontiguousarray(atlas.unit_rows(rows)[0][:, : atlas.dim])
    _, near, near_counts = atlas.search_many(vectors, _HUB_NEIGHBOURS + 1, **options)
    others = np.arange(near.shape[1]) < near_counts[:, None]
    others[:, 0] = False  # the row itself
    hubness = np.where(others, near, 0).sum(1) / np.maximum(others.sum(1), 1)
    corrected = np.full(found.shape, -np.inf, np.float32)
    corrected[listed] = 2 * cosines[listed] - hubness[places].astype(np.float32)
    for n in range(len(queries)):
        best = np.lexsort((found[n], -corrected[n]))
        best = best[listed[n, best]][:k]
        ids[n, : len(best)], scores[n, : len(best)] = atlas.ids(found[n, best]), corrected[n, best]
    return ids, scores


def _rows_of(view: View, indexes: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Rows of the events at `indexes` that have one; increasing, as rows are given out in the order of events."""
    if indexes is None:
        return None
    rows = view.engine.trace.take(indexes, "row").astype(np.int64) - 1
    return rows[rows >= 0]


def _rows_among(
    view: View, filters: Filters, *, make_columns: bool = True
) -> tuple[NDArray[np.int64] | None, Where | None]:
    """(Rows of the events that pass the filters, increasing; None = all, what of the filters has yet to be asked of each).

    What filters chose lately is kept: columns of an event never change, so only the events since are looked at.
    """
    if filters is NO_FILTERS:
        return None, None
    where, fields = filters.where, view.engine.fields
    if where is not None and (make_columns or fields.covers(where)):
        rows = _kept_rows(view, filters, where)
        if rows is not None:
            return rows, where if fields.unreadable else None
    return (_kept_rows(view, filters, None) if filters.on_columns else None), where


def _kept_rows(view: View, filters: Filters, where: Where | None) -> NDArray[np.int64] | None:
    """Rows of the events that pass the filters on columns and `where`; None if that cannot be asked of columns."""
    atlas = view.engine.atlas
    key = (filters.sessions, filters.namespace, filters.roles, filters.since, filters.until, where)
    events, rows = atlas.selections.get(key, (0, None))
    if rows is None or view.events - events > _SELECT_ANEW:
        rows = _select_rows(view, filters, where)
    elif view.events > events:
        later = _rows_of(view, _select_from(view, filters, where, events))
        rows = None if later is None else np.concatenate([rows, later])
    else:
        return rows[: np.searchsorted(rows, view.rows)]
    if rows is None:
        return None
    kept = list(atlas.selections.items())[-_SELECTIONS + 1 :]  # one step under the GIL, as is the assignment
    atlas.selections = {**dict(kept), key: (view.events, rows)}
    return rows


def _select_rows(view: View, filters: Filters, where: Where | None) -> NDArray[np.int64] | None:
    """All rows that pass, of events that ended too."""
    if where is None and filters.sessions is None and filters.roles is None and not filters.namespace:
        engine = view.engine  # bounded in time, and by nothing else
        return engine.time_blocks.rows_between(engine.atlas, engine.trace, view.rows, filters.since, filters.until)
    indexes = select(view, filters)
    if where is not None:
        satisfied = _satisfied(view, where, 0)
        if satisfied is None:
            return None
        indexes = np.flatnonzero(satisfied) if indexes is None else indexes[satisfied[indexes]]
    return _rows_of(view, indexes)


def _select_from(view: View, filters: Filters, where: Where | None, first: int) -> NDArray[np.int64] | None:
    """`select` among the events from `first` on."""
    trace = view.engine.trace
    indexes = np.arange(first, view.events)
    if where is not None:
        satisfied = _satisfied(view, where, first)
        if satisfied is None:
            return None
        indexes = indexes[satisfied]
    namespaces = _namespaces(view, filters)
    if filters.sessions is not None:
        numbers = [trace.names.session_numbers.get(name, -1) for name in filters.sessions]
        indexes = indexes[np.isin(trace.take(indexes, "session").astype(np.int64), numbers)]
    keep = _mask(filters, namespaces, len(indexes), lambda field: trace.take(indexes, field))
    return indexes if keep is None else indexes[keep]


def _satisfied(view: View, where: Where, first: int) -> NDArray[np.bool_] | None:
    """Which events from `first` on satisfy `where`; None if it names a field that has no column."""
    engine = view.engine

    def with_metadata(start: int, stop: int) -> NDArray[np.int64]:
        runs = [at + np.flatnonzero(run["flags"] & OpFlag.METADATA) for at, run in engine.trace.columns(stop, start)]
        return np.concatenate(runs) if runs else np.empty(0, np.int64)

    return engine.fields.mask(where, first, view.events, with_metadata, engine.metadata_of)


def _namespaces(view: View, filters: Filters) -> NDArray[np.uint32] | None:
    """Numbers of the namespaces the filters allow; None = all."""
    if not filters.namespace:
        return None
    depth = len(filters.namespace)
    names = view.engine.trace.names.namespaces
    return np.array([n for n, parts in enumerate(names) if parts[:depth] == filters.namespace], np.uint32)


def current_events(view: View, session: int, block: int = 0) -> Iterator[NDArray[np.int64]]:
    """Indexes of a session's current events, in blocks: the newest block first, increasing within a block.

    block : size of the first one, at most _BLOCK; 0 = that.
    """
    trace = view.engine.trace
    end = trace.session_count(session)
    size = min(block or _BLOCK, _BLOCK)
    while end > 0:
        start, size = max(0, end - size), _BLOCK
        indexes = trace.session_events(session, start, end)
        if len(indexes) and indexes[-1] >= view.events:
            indexes = indexes[indexes < view.events]
        yield alive_among(view, indexes)
        end = start
