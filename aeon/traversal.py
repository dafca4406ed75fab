"""Walks over the graph of one snapshot: edges between memories that can be read in it, in whole steps of arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from aeon.engine import View
from aeon.errors import InvalidInputError
from aeon.format import SUPERSEDED, EdgeKind
from aeon.graph import NO_EDGES, Edges, Ids, joined

ACYCLIC = frozenset({EdgeKind.CAUSES, EdgeKind.DERIVED_FROM, EdgeKind.SUMMARISES, EdgeKind.CONTAINS, EdgeKind.REPEATS})
"""Kinds of links that may not close a circle. Refs, parents and versions cannot: they point to what was there before."""

TO_ORIGIN = frozenset(
    {EdgeKind.REF, EdgeKind.REPLACES, EdgeKind.PARENT, EdgeKind.DERIVED_FROM, EdgeKind.SUMMARISES, EdgeKind.REPEATS}
)
"""Kinds that point to what was there before; a user's own do too. The others point onwards: causes, contains, next."""

_ONWARDS = frozenset({EdgeKind.CAUSES, EdgeKind.CONTAINS, EdgeKind.NEXT})
_NO_ORIGIN = frozenset({EdgeKind.CONTRADICTS, EdgeKind.NEXT})  # left out of ancestors unless asked for
_NO_IDS = np.empty(0, np.uint64)

Kinds = frozenset[int] | None


def readable_mask(view: View, ids: Ids) -> NDArray[np.bool_]:
    """Which of `ids` (uint64[n]) can be read in `view`: bool[n]."""
    trace = view.engine.trace
    indexes = trace.indexes_of(ids)
    out = (indexes >= 0) & (indexes < view.events)
    deaths = trace.deaths.take(indexes[out], "lsn")
    out[out] = (deaths == 0) | (deaths >= SUPERSEDED) | (deaths > view.lsn)
    return out


def out_of(view: View, ids: Ids, kinds: Kinds = None) -> Edges:
    """Edges that leave `ids` (uint64[n], increasing, readable); kinds : None = all but `next`."""
    if not len(ids):
        return NO_EDGES
    trace = view.engine.trace
    parts = [trace.graph.out_of(ids, view.lsn)]
    if kinds is None or EdgeKind.PARENT in kinds:
        parents = trace.take(trace.indexes_of(ids), "parent")
        there = parents != 0
        parts.append(Edges(ids[there], parents[there], np.full(int(there.sum()), EdgeKind.PARENT, np.uint32)))
    if kinds is not None and EdgeKind.NEXT in kinds:
        parts.append(_in_order(view, ids, following=True))
    return _kept(view, parts, kinds, ends="dst")


def into(view: View, ids: Ids, kinds: Kinds = None) -> Edges:
    """Edges that reach `ids` (uint64[n], increasing, readable); kinds : None = all but `next`."""
    if not len(ids):
        return NO_EDGES
    parts = [view.engine.trace.graph.into(ids, view.lsn)]
    if kinds is not None and EdgeKind.NEXT in kinds:
        parts.append(_in_order(view, ids, following=False))
    return _kept(view, parts, kinds, ends="src")


def _kept(view: View, parts: list[Edges], kinds: Kinds, *, ends: str) -> Edges:
    """The edges of the wanted kinds whose other end can be read."""
    src, dst, kind = joined(parts)
    if kinds is not None and len(kind):
        keep = np.isin(kind, np.fromiter(kinds, np.uint32, len(kinds)))
        src, dst, kind = src[keep], dst[keep], kind[keep]
    if not len(kind):
        return NO_EDGES
    keep = readable_mask(view, dst if ends == "dst" else src)
    return Edges(src, dst, kind) if keep.all() else Edges(src[keep], dst[keep], kind[keep])


def _in_order(view: View, ids: Ids, *, following: bool) -> Edges:
    """The implied edges from an event to the next of its session; a branch goes on from the event it branched off."""
    pairs = []
    for id_ in ids.tolist():
        other = next_of(view, id_) if following else previous_of(view, id_)
        pairs += [(id_, one) if following else (one, id_) for one in other]
    if not pairs:
        return NO_EDGES
    table = np.array(pairs, np.uint64)
    return Edges(table[:, 0], table[:, 1], np.full(len(pairs), EdgeKind.NEXT, np.uint32))


def _beside(view: View, id_: int, step: int) -> int:
    """Id of the nearest readable event of the same session after (step 1) or before (step -1) `id_`; 0 = none."""
    trace = view.engine.trace
    index = trace.index_of(id_)
    session = trace.event(index).session
    count = trace.session_count(session)
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if int(trace.session_events(session, middle, middle + 1)[0]) < index:
            low = middle + 1
        else:
            high = middle
    at = low + step
    while 0 <= at < count:
        other = int(trace.session_events(session, at, at + 1)[0])
        if other >= view.events:
            return 0
        death = trace.death(other)
        if not death or (death & ~SUPERSEDED) > view.lsn:
            return trace.event(other).id
        at += step
    return 0


def next_of(view: View, id_: int) -> list[int]:
    """The events that come directly after one: in its session, and in every session that branches off from it."""
    names = view.engine.trace.names
    found = [_beside(view, id_, 1)]
    begun = [one for one in names.branches_from.get(id_, ()) if names.branches[one][1] <= view.lsn]
    found += [_first_of(view, session) for session in begun]
    return [one for one in found if one]


def previous_of(view: View, id_: int) -> list[int]:
    """The event directly before one: in its session, or the one that its session branched off from."""
    before = _beside(view, id_, -1)
    if before:
        return [before]
    trace = view.engine.trace
    branch = trace.names.branches.get(trace.event(trace.index_of(id_)).session)
    if branch is None or branch[1] > view.lsn or not readable_mask(view, np.array([branch[0]], np.uint64))[0]:
        return []
    return [branch[0]]


def _first_of(view: View, session: int) -> int:
    trace = view.engine.trace
    events = trace.session_events(session, 0, 1)
    if not len(events) or int(events[0]) >= view.events:
        return 0
    first = trace.event(int(events[0]))
    death = trace.death(int(events[0]))
    return first.id if not death or (death & ~SUPERSEDED) > view.lsn else _beside(view, first.id, 1)


# -- walks --------------------------------------------------------------------------------------------------------


def towards(view: View, ids: Ids, kinds: Kinds, *, origin: bool) -> Edges:
    """Edges by which one gets from `ids` to what they came from (`origin`), or to what came of them."""
    back: Kinds = None if kinds is None else kinds - _ONWARDS
    on: frozenset[int] = _ONWARDS - _NO_ORIGIN if kinds is None else kinds & _ONWARDS
    first, second = (out_of, into) if origin else (into, out_of)
    edges = first(view, ids, back)
    if back is None:
        keep = ~np.isin(edges.kind, np.fromiter(_ONWARDS | _NO_ORIGIN, np.uint32))
        edges = Edges(edges.src[keep], edges.dst[keep], edges.kind[keep])
    if not on:
        return edges
    return joined([edges, second(view, ids, on)])


def walk(
    view: View, seeds: Ids, step: Callable[[Ids], Edges], hops: int | None, limit: int | None = None
) -> tuple[Ids, NDArray[np.int32], Edges]:
    """Breadth first from `seeds`: (ids uint64[n], nearest first and increasing within a distance, distances, edges seen).

    hops, limit : how far and how many ids at most; None = no bound. Every memory is visited once.
    """
    frontier = _distinct(seeds)
    seen = frontier
    found, distances, edges = [frontier], [np.zeros(len(frontier), np.int32)], []
    count, hop = len(frontier), 0
    while len(frontier) and (hops is None or hop < hops) and (limit is None or count < limit):
        hop += 1
        here = step(frontier)
        edges.append(here)
        # both ends: a step may follow edges either way
        reached = _distinct(np.concatenate([here.src, here.dst]))
        frontier = reached[~_in_sorted(reached, seen)]
        if limit is not None:
            frontier = frontier[: limit - count]
        count += len(frontier)
        found.append(frontier)
        distances.append(np.full(len(frontier), hop, np.int32))
        seen = np.sort(np.concatenate([seen, frontier]))  # they share none
    return np.concatenate(found), np.concatenate(distances), joined(edges)


def _distinct(ids: Ids) -> Ids:
    """The distinct ones, increasing; several times as fast as `np.unique` on some thousand."""
    ordered = np.sort(ids)
    keep = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=keep[1:])
    return ordered[keep]


def _in_sorted(values: Ids, ordered: Ids) -> NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values


def both(view: View, ids: Ids, kinds: Kinds = None) -> Edges:
    """Edges that leave or reach `ids`, each once."""
    out, in_ = out_of(view, ids, kinds), into(view, ids, kinds)
    inner = _in_sorted(in_.src, ids)  # from one of `ids`: it is among those that leave
    return joined([out, Edges(in_.src[~inner], in_.dst[~inner], in_.kind[~inner])])


def closes_circle(view: View, src: int, dst: int, kind: int, since: Mapping[int, Collection[int]]) -> bool:
    """Whether a link src -> dst of a kind would close a circle of links of that kind.

    since : by src, where links of that kind lead that are about to be made in the same transaction.
    """
    seen: set[int] = set()
    frontier = {dst}
    kinds = frozenset({kind})
    while frontier:
        if src in frontier:
            return True
        seen |= frontier
        ids = np.array(sorted(frontier), np.uint64)
        reached = set(out_of(view, ids[readable_mask(view, ids)], kinds).dst.tolist())
        for id_ in frontier:
            reached.update(since.get(id_, ()))
        frontier = reached - seen
    return False


def paths(view: View, src: int, dst: int, kinds: Kinds, length_max: int, limit: int) -> list[list[int]]:
    """Simple paths along edges from src to dst, shortest first, at most `limit` of them.

    Only memories from which `dst` can be reached within what is left of `length_max` are entered.
    """
    ids, distances, _ = walk(view, np.array([dst], np.uint64), lambda frontier: into(view, frontier, kinds), length_max)
    left = dict(zip(ids.tolist(), distances.tolist(), strict=True))
    if src not in left:
        return []
    found: list[list[int]] = []
    level = [[src]]
    for length in range(length_max + 1):
        ends = np.unique(np.array([path[-1] for path in level], np.uint64))
        following: dict[int, list[int]] = {}
        edges = out_of(view, ends, kinds)
        for start, end in zip(edges.src.tolist(), edges.dst.tolist(), strict=True):
            if end not in following.setdefault(start, []):
                following[start].append(end)
        longer = []
        for path in level:
            if path[-1] == dst:
                found.append(path)
                if len(found) == limit:
                    return found
                continue
            longer += [
                [*path, end]
                for end in following.get(path[-1], ())
                if end not in path and left.get(end, length_max) < length_max - length
            ]
        level = longer[: 64 * limit]  # far more than are returned: what is cut off is longer than what is kept
        if not level:
            break
    return found


def kind_numbers(view: View, kinds: str | Collection[str] | None) -> Kinds:
    """Numbers of the kinds with these names; InvalidInputError if one is unknown to the store."""
    if kinds is None:
        return None
    names = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    known = view.engine.trace.names
    numbers = []
    for name in names:
        number = known.known_kind(name) if isinstance(name, str) else None
        if number is None:
            raise InvalidInputError(f"no edge of kind {name!r} was ever made here")
        numbers.append(number)
    return frozenset(numbers)


def activate(
    view: View,
    seeds: dict[int, float],
    *,
    hops: int,
    decay: float,
    kinds: Kinds,
    time_weight: float,
) -> list[tuple[int, float]]:
    """Spread activation from seeds over edges either way, and to neighbours in time; (id, activation), highest first.

    At each hop a memory passes on `decay` of what it received, shared among its edges by the square root of their number,
    so that a concept everything refers to does not light up everything. Neighbours in time get `time_weight` of an edge.
    """
    total = dict(seeds)
    wave = dict(seeds)
    for _ in range(hops):
        ids = np.array(sorted(wave), np.uint64)
        edges = both(view, ids, kinds)
        reached: dict[int, list[tuple[int, float]]] = {id_: [] for id_ in wave}
        for start, end in zip(edges.src.tolist(), edges.dst.tolist(), strict=True):
            if start in reached:
                reached[start].append((end, 1.0))
            if end in reached and start != end:
                reached[end].append((start, 1.0))
        if time_weight:
            for id_ in wave:
                reached[id_] += [(one, time_weight) for one in next_of(view, id_) + previous_of(view, id_)]
        following: dict[int, float] = {}
        for id_, others in reached.items():
            if others:
                share = decay * wave[id_] / len(others) ** 0.5
                for other, weight in others:
                    following[other] = following.get(other, 0.0) + share * weight
        for id_, value in following.items():
            total[id_] = total.get(id_, 0.0) + value
        wave = following
        if not wave:
            break
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))
