"""What there is to consolidate: cold episodes, exact and near duplicates. Reads, changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aeon.engine import View
from aeon.format import ROLE_NUMBERS, OpFlag
from aeon.recall import Filters, select_alive
from aeon.results import Dream, Duplicates
from aeon.salience import Salience, retention

PLAIN_ROLES = ("user", "assistant", "system", "tool")
_ROLES = tuple(ROLE_NUMBERS[name] for name in PLAIN_ROLES)
_NEIGHBOURS = 16  # of each memory that are looked at for near duplicates


def _current(view: View, filters: Filters) -> NDArray[np.int64]:
    """Indexes of the current memories of plain roles that are in recall, increasing."""
    trace = view.engine.trace
    indexes = np.array(select_alive(view, replace(filters, roles=_ROLES)), np.int64)
    return indexes[~trace.graph.archived_mask(trace.take(indexes, "id"), view.lsn)]


def retention_of(
    view: View, indexes: NDArray[np.int64], salience: Salience, now: int, stability: int
) -> NDArray[np.float64]:
    """Retention of the memories at `indexes`, from 0 to 1: float64[n]."""
    trace = view.engine.trace
    counts, last = salience.columns(trace.take(indexes, "id"))
    return retention(now, np.maximum(last, trace.take(indexes, "timestamp")), counts, stability)


def cold_episodes(
    view: View, filters: Filters, salience: Salience, *, now: int, older_than: int, retention_below: float,
    stability: int, redundancy: float, gap: int, size_min: int, size_max: int, without: Collection[int],
) -> list[Dream]:  # fmt: skip
    """Runs of cold memories, session by session, oldest first; times in us."""
    trace = view.engine.trace
    indexes = _current(view, filters)
    ids, times = trace.take(indexes, "id"), trace.take(indexes, "timestamp")
    kept = retention_of(view, indexes, salience, now, stability)
    keyed = (trace.take(indexes, "flags") & OpFlag.KEY).astype(bool)
    cold = (times < now - older_than) & (kept < retention_below) & ~keyed
    cold &= ~np.isin(ids, np.fromiter(without, np.uint64, len(without)))
    sessions = trace.take(indexes, "session")
    found = []
    for session in np.unique(sessions[cold]).tolist():
        run: list[int] = []
        here = np.flatnonzero((sessions == session) & ~keyed)
        for at in [*here[np.argsort(times[here], kind="stable")].tolist(), -1]:  # pauses are told by the clock
            breaks = at < 0 or not cold[at] or (run and times[at] - times[run[-1]] > gap) or len(run) == size_max
            if breaks:
                if len(run) >= size_min:
                    found.append(_episode(view, indexes[sorted(run)], float(kept[run].mean())))
                run = []
            if at >= 0 and cold[at]:
                run.append(at)
    return [episode for episode in found if episode.redundancy >= redundancy]


def _episode(view: View, indexes: NDArray[np.int64], kept: float) -> Dream:
    trace = view.engine.trace
    times = trace.take(indexes, "timestamp")
    vectors = [view.engine.atlas.vector(event.row) for event in map(trace.event, indexes.tolist()) if event.row >= 0]
    near = 0.0
    if vectors:
        mean = np.mean(vectors, axis=0)
        length = float(np.linalg.norm(mean))
        near = float(np.mean(np.array(vectors) @ mean)) / length if length > 1e-6 else 0.0
    return Dream(
        session=trace.names.sessions[trace.event(int(indexes[0])).session], ids=tuple(trace.take(indexes, "id").tolist()),
        since=int(times.min()), until=int(times.max()), retention=kept, redundancy=near,
    )  # fmt: skip


def exact_duplicates(view: View, filters: Filters) -> list[Duplicates]:
    """Groups of memories of the same session, role and namespace that say the same, oldest first in each."""
    trace = view.engine.trace
    indexes = _current(view, filters)
    columns = [trace.take(indexes, field) for field in ("session", "role", "namespace", "preview")]
    flags = trace.take(indexes, "flags")
    begun: dict[tuple[object, ...], list[int]] = {}
    for at, *said in zip(range(len(indexes)), *(column.tolist() for column in columns), strict=True):
        if not flags[at] & OpFlag.KEY:  # a keyed memory is named: another with the same text is not a repeat of it
            begun.setdefault(tuple(said), []).append(int(indexes[at]))
    found = []
    for same in begun.values():
        if len(same) > 1:
            texts: dict[str, list[int]] = {}
            for index in same:
                texts.setdefault(view.engine.text(index), []).append(trace.event(index).id)
            found += [Duplicates(tuple(ids), 1.0, True) for ids in texts.values() if len(ids) > 1]
    return sorted(found, key=lambda group: group.ids)


def near_duplicates(view: View, filters: Filters, least: float) -> list[Duplicates]:
    """Groups of memories whose vectors have a cosine of at least `least`, each group held together by such pairs."""
    engine = view.engine
    trace, atlas = engine.trace, engine.atlas
    indexes = _current(view, filters)
    rows = trace.take(indexes, "row").astype(np.int64) - 1
    rows = rows[rows >= 0]
    ids = atlas.ids(rows)
    head = {id_: id_ for id_ in ids.tolist()}
    weakest: dict[int, float] = {}

    def top(id_: int) -> int:
        while head[id_] != id_:
            head[id_] = head[head[id_]]
            id_ = head[id_]
        return id_

    for id_, row in zip(ids.tolist(), rows.tolist(), strict=True):
        found, scores = atlas.search(
            atlas.vector(row), min(_NEIGHBOURS, len(rows)), rows=view.rows, lsn=view.lsn, among=rows
        )
        for other, score in zip(atlas.ids(found).tolist(), scores.tolist(), strict=True):
            if score >= least and other != id_ and top(other) != top(id_):
                low, high = sorted((top(id_), top(other)))
                head[high] = low
                weakest[low] = min(score, weakest.get(low, 1.0), weakest.get(high, 1.0))
    groups: dict[int, list[int]] = {}
    for id_ in ids.tolist():
        groups.setdefault(top(id_), []).append(id_)
    return [Duplicates(tuple(sorted(same)), weakest[first], False) for first, same in groups.items() if len(same) > 1]
