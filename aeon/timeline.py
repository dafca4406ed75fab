"""Search along time: which memories, and in which stretches of time was something talked about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aeon.engine import View
from aeon.recall import Filters, recall, select
from aeon.results import Episode, Hit
from aeon.time_blocks import are_between, best_groups, rows_of

_FEW_ROWS = 16_384  # so many rows of a session are scored outright


def search(view: View, query: NDArray[np.float32], k: int, filters: Filters, probes: int | None = None) -> list[Hit]:
    """Return the k best current memories through the time blocks, best first; fewer only if fewer pass the filters.

    query : float32[dim]. probes : groups of some 64 rows that are scored; more find more, and where the filters leave too
    few of them, more are looked at. None = the page index, which is faster (docs/decisions/0009); in a store without one,
    `Blocks.probes`.
    """
    engine = view.engine
    atlas, trace = engine.atlas, engine.trace
    if probes is None and atlas.index is not None:
        return recall(view, query, k, filters)
    among: NDArray[np.int64] | None = None
    if filters.sessions is not None or filters.roles is not None or filters.namespace:
        chosen = select(view, filters)
        assert chosen is not None
        rows = trace.take(chosen, "row").astype(np.int64) - 1
        among = rows[rows >= 0]
        if len(among) <= _FEW_ROWS:
            return _score(view, query, k, among, filters)
    blocks = engine.time_blocks.upto(atlas, trace, view.rows)
    allowed = None
    if filters.on_time:
        allowed = np.ones(blocks.made, bool)
        if filters.since is not None:
            allowed &= blocks.until[: blocks.made] >= filters.since
        if filters.until is not None:
            allowed &= blocks.since[: blocks.made] < filters.until
    probes = blocks.probes if probes is None else probes
    newest = np.arange(blocks.rows, view.rows)
    while True:
        groups = best_groups(blocks, query, probes, allowed)
        rows = np.concatenate([rows_of(blocks, groups), newest])
        if among is not None:
            rows = rows[np.isin(rows, among, assume_unique=True)]
        elif filters.on_time:
            rows = rows[are_between(atlas, trace, rows, filters.since, filters.until)]
        hits = _score(view, query, k, rows, filters)
        if len(hits) == k or len(groups) < probes:
            return hits
        probes *= 4


def _score(view: View, query: NDArray[np.float32], k: int, rows: NDArray[np.int64], filters: Filters) -> list[Hit]:
    """The k best of these rows (int64[n], increasing), archived ones left out."""
    engine = view.engine
    graph = engine.trace.graph
    hide = not filters.archived and graph.archives
    available = len(rows)
    want = min(available, 4 * k if hide else k)
    while want:
        found, scores = engine.atlas.search(query, want, rows=view.rows, lsn=view.lsn, among=rows, exact=True)
        ids = engine.atlas.ids(found)
        if hide:
            shown = ~graph.archived_mask(ids, view.lsn)
            ids, scores = ids[shown], scores[shown]
        if len(ids) >= k or len(found) < want or want == available:
            pairs = zip(ids[:k].tolist(), scores[:k].tolist(), strict=True)
            return [Hit(engine, id_, score) for id_, score in pairs]
        want = min(available, 8 * want)
    return []


def timeline(
    view: View, query: NDArray[np.float32], filters: Filters, *, k: int, gap: int, within: float
) -> list[Episode]:
    """Gather the k best memories into stretches of time: a pause of more than `gap` us ends one. In the order of time.

    within : memories that score less than the best one times this are left out.
    """
    hits = search(view, query, k, filters)
    if not hits:
        return []
    near = [hit for hit in hits if hit.score >= hits[0].score * within]
    near.sort(key=lambda hit: (hit.timestamp, hit.id))
    groups: list[list[Hit]] = []
    for hit in near:
        if groups and hit.timestamp - groups[-1][-1].timestamp <= gap:
            groups[-1].append(hit)
        else:
            groups.append([hit])
    return [
        Episode(
            since=group[0].timestamp, until=group[-1].timestamp, score=max(hit.score for hit in group),
            ids=tuple(hit.id for hit in group), sessions=tuple(dict.fromkeys(hit.session for hit in group)),
        )
        for group in groups
    ]  # fmt: skip
