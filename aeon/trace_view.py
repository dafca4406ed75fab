"""The episode graph of a store, read: `store.trace`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon import dreams, intake, timeline, traversal
from aeon.engine import View, find
from aeon.errors import InvalidInputError
from aeon.format import ROLE_NUMBERS, EdgeKind
from aeon.graph import Edges, Ids, joined
from aeon.recall import select_alive
from aeon.results import Duplicates, Edge, Episode, Hit, Memory
from aeon.salience import Salience

Direction = Literal["out", "in", "both"]
_DIRECTIONS: dict[str, Callable[[View, Ids, traversal.Kinds], Edges]] = {
    "out": traversal.out_of, "in": traversal.into, "both": traversal.both,
}  # fmt: skip
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REF = frozenset({EdgeKind.REF})
_HOPS_MAX = 64  # of activation: at a decay of 0.5 nothing is left long before
_WEIGHT_MAX = 1e6


class Subgraph(NamedTuple):
    """A part of the graph as arrays.

    Attributes
    ----------
    ids : uint64[n], nearest first. distances : int32[n], steps from the nearest seed.
    src, dst : uint64[m], ends of the edges between them. kinds : uint32[m], see `names`. names : from a number to a kind.
    """

    ids: Ids
    distances: NDArray[np.int32]
    src: Ids
    dst: Ids
    kinds: NDArray[np.uint32]
    names: dict[int, str]

    def edges(self) -> list[Edge]:
        """The edges as objects."""
        rows = zip(self.src.tolist(), self.dst.tolist(), self.kinds.tolist(), strict=True)
        return [Edge(src, dst, self.names[kind]) for src, dst, kind in rows]


class TraceView:
    """The episode graph: what happened before, why, and what belongs together. Every call reads one snapshot.

    Kinds are names: ref, replaces, parent, causes, derived_from, summarises, contradicts, contains, repeats, those of your
    own, and next (of one event of a session to the following one), which is implied and only looked at where it is named.
    `kinds=None` is all but next. A kind that was never used here is an InvalidInputError.
    """

    def __init__(
        self, view: Callable[[], View], as_query: Callable[[Any], NDArray[np.float32]], salience: Salience
    ) -> None:
        self._view = view
        self._as_query = as_query
        self._salience = salience

    def _seeds(self, view: View, ids: Any) -> Ids:
        given = intake.check_ids(ids)
        if len(given) == 1:  # looked up in a tenth of the time that arrays take
            find(view, given[0])
            return np.array(given, np.uint64)
        chosen = np.unique(np.array(given, np.uint64))
        for id_ in chosen[~traversal.readable_mask(view, chosen)].tolist():
            find(view, id_)  # says what is wrong with it
        return chosen

    # -- edges --------------------------------------------------------------------------------------------------

    def neighbours(
        self, ids: int | Iterable[int], kinds: str | Collection[str] | None = None, direction: Direction = "both"
    ) -> list[Edge]:
        """Return the edges that leave one event or several ("out"), reach them ("in"), or "both"; NotFoundError if one was
        forgotten."""
        view = self._view()
        seeds = self._seeds(view, ids)
        if direction not in _DIRECTIONS:
            raise InvalidInputError(f"direction is 'out', 'in' or 'both', not {direction!r}")
        edges = _DIRECTIONS[direction](view, seeds, traversal.kind_numbers(view, kinds))
        name = view.engine.trace.names.kind_name
        rows = zip(edges.src.tolist(), edges.dst.tolist(), edges.kind.tolist(), strict=True)
        return [Edge(src, dst, name(kind)) for src, dst, kind in rows]

    def ancestors(
        self, ids: int | Iterable[int], kinds: str | Collection[str] | None = None, hops: int | None = None
    ) -> list[int]:
        """Return what an event came from, nearest first: over ref, parent, derived_from, summarises, replaces, repeats and a
        user's kinds as they point, over causes and contains against it. contradicts and next only if named."""
        return self._line(ids, kinds, hops, origin=True)

    def descendants(
        self, ids: int | Iterable[int], kinds: str | Collection[str] | None = None, hops: int | None = None
    ) -> list[int]:
        """Return what came of an event, nearest first: `ancestors` the other way round."""
        return self._line(ids, kinds, hops, origin=False)

    def _line(self, ids: Any, kinds: Any, hops: int | None, *, origin: bool) -> list[int]:
        view = self._view()
        seeds = self._seeds(view, ids)
        numbers = traversal.kind_numbers(view, kinds)
        steps = None if hops is None else intake.check_count(hops, "hops")
        found, _, _ = traversal.walk(
            view, seeds, lambda frontier: traversal.towards(view, frontier, numbers, origin=origin), steps
        )
        return found[len(seeds) :].tolist()

    def paths(
        self, src: int, dst: int, kinds: str | Collection[str] | None = None, *, length_max: int = 8, limit: int = 16
    ) -> list[list[int]]:
        """Return simple paths along edges from one event to another as lists of ids, shortest first, at most `limit`."""
        view = self._view()
        start, end = (intake.check_id(id_, name) for id_, name in ((src, "src"), (dst, "dst")))
        for id_ in (start, end):
            find(view, id_)
        return traversal.paths(
            view, start, end, traversal.kind_numbers(view, kinds), intake.check_count(length_max, "length_max"),
            intake.check_count(limit, "limit"),
        )  # fmt: skip

    def subgraph(
        self,
        ids: int | Iterable[int],
        hops: int = 1,
        kinds: str | Collection[str] | None = None,
        *,
        direction: Direction = "both",
        limit: int | None = None,
    ) -> Subgraph:
        """Return the neighbourhood of events: all that is within `hops` steps, at most `limit` of them, nearest first, and
        the edges between them. hops=0 gives the events themselves."""
        view = self._view()
        seeds = self._seeds(view, ids)
        if direction not in _DIRECTIONS:
            raise InvalidInputError(f"direction is 'out', 'in' or 'both', not {direction!r}")
        steps = 0 if hops == 0 and hops is not False else intake.check_count(hops, "hops")
        most = None if limit is None else max(intake.check_count(limit, "limit"), len(seeds))
        numbers, step = traversal.kind_numbers(view, kinds), _DIRECTIONS[direction]
        found, distances, seen = traversal.walk(view, seeds, lambda ids: step(view, ids, numbers), steps, most)
        # What the walk saw are the edges of all but the last; those among the last are looked up.
        last = np.sort(found[distances == steps]) if steps else np.sort(found)
        rim = traversal.out_of(view, last, numbers)
        src, dst, kind = joined([seen, rim])
        inside = np.sort(found)
        keep = _among(src, inside) & _among(dst, inside)
        src, dst, kind = src[keep], dst[keep], kind[keep]
        if len(src):
            rows = np.lexsort((kind, dst, src))
            src, dst, kind = src[rows], dst[rows], kind[rows]
            new = np.ones(len(src), bool)
            new[1:] = (src[1:] != src[:-1]) | (dst[1:] != dst[:-1]) | (kind[1:] != kind[:-1])
            src, dst, kind = src[new], dst[new], kind[new]
        name = view.engine.trace.names.kind_name
        return Subgraph(found, distances, src, dst, kind, {number: name(number) for number in set(kind.tolist())})

    # -- export -------------------------------------------------------------------------------------------------

    def to_networkx(
        self, *, session: str | Sequence[str] | None = None, ids: int | Iterable[int] | None = None, hops: int = 1
    ) -> Any:
        """Return a networkx.MultiDiGraph (the extra `graph`): the current memories of sessions, or what is within `hops` of
        `ids`, or all. Nodes are ids with text, session, role, timestamp and archived; edges are keyed by their kind, and the
        order of a session is told by edges of kind "next".

        Raises ImportError, with what to install, where networkx is not there.
        """
        try:
            import networkx
        except ImportError as error:
            raise ImportError("to export the graph install networkx: pip install 'aeon-memory[graph]'") from error
        if ids is not None and session is not None:
            raise InvalidInputError("which memories? give session or ids, not both")
        view = self._view()
        trace = view.engine.trace
        if ids is not None:
            nodes = self.subgraph(ids, hops).ids.tolist()
        else:
            nodes = [trace.event(index).id for index in select_alive(view, intake.make_filters(session))]
        graph = networkx.MultiDiGraph()
        for id_ in nodes:
            memory = Memory(view.engine, trace.index_of(id_), id_)
            graph.add_node(
                id_, text=memory.text, session=memory.session, role=memory.role, timestamp=memory.timestamp,
                archived=trace.graph.archived_by(id_, view.lsn) is not None,
            )  # fmt: skip
        inside = np.unique(np.array(nodes, np.uint64))
        following = traversal.out_of(view, inside, frozenset({EdgeKind.NEXT}))
        edges = joined([traversal.out_of(view, inside), following])
        for src, dst, kind in zip(edges.src.tolist(), edges.dst.tolist(), edges.kind.tolist(), strict=True):
            if dst in graph:
                graph.add_edge(src, dst, key=trace.names.kind_name(kind), kind=trace.names.kind_name(kind))
        return graph

    def to_graphml(self, **options: Any) -> str:
        """Return the graph as GraphML, an XML text; options and errors as in `to_networkx`. Characters that XML cannot hold
        (control characters) are replaced by U+FFFD."""
        graph = self.to_networkx(**options)
        import networkx

        for _, values in graph.nodes(data=True):
            for name in ("text", "session"):
                values[name] = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", values[name])
        for _, _, values in graph.edges(data=True):
            values["kind"] = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", values["kind"])
        plain = networkx.MultiDiGraph()
        plain.add_nodes_from(graph.nodes(data=True))
        plain.add_edges_from((src, dst, values) for src, dst, values in graph.edges(data=True))
        return "\n".join(networkx.generate_graphml(plain)) + "\n"

    # -- along time ---------------------------------------------------------------------------------------------

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        since: Any = None,
        until: Any = None,
        session: str | Sequence[str] | None = None,
        probes: int | None = None,
        archived: bool = False,
    ) -> list[Hit]:
        """Return the `k` memories nearest to `query`, best first; filters as in `Store.recall`.

        A stretch of time costs what is in it, whatever the size of the store. probes : groups of some 64 memories of the
        blocks of time that are scored; None = the page index, which is faster at the same recall, or, in a store that has
        none yet, as many groups as its size asks for (docs/decisions/0009). The first call through the blocks makes them: some
        3 ms each.
        """
        view = self._view()
        count = intake.check_count(k, "k")
        most = None if probes is None else intake.check_count(probes, "probes")
        filters = intake.make_filters(session, None, None, since, until, None, archived)
        return timeline.search(view, self._as_query(query), count, filters, most)

    def timeline(
        self,
        query: Any,
        *,
        since: Any = None,
        until: Any = None,
        session: str | Sequence[str] | None = None,
        k: int = 100,
        gap: timedelta = timedelta(hours=6),
        within: float = 0.6,
    ) -> list[Episode]:
        """Tell when something was talked about: stretches of time that hold the best memories, in the order of time.

        k : so many of the best memories are looked at. gap : a longer pause begins a new stretch. within : memories that
        score less than so much of the best one's score are left out.
        """
        view = self._view()
        if not isinstance(gap, timedelta) or gap < timedelta(0):
            raise InvalidInputError(f"gap is a timedelta that is not negative, not {gap!r}")
        if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 <= within <= 1:
            raise InvalidInputError(f"within is a number from 0 to 1, not {within!r}")
        return timeline.timeline(
            view, self._as_query(query), intake.make_filters(session, None, None, since, until),
            k=intake.check_count(k, "k"), gap=gap // timedelta(microseconds=1), within=within,
        )  # fmt: skip

    # -- what belongs together ----------------------------------------------------------------------------------

    def cooccurring(self, concept: int, k: int = 10) -> list[tuple[int, int]]:
        """Return the concepts that memories refer to together with this one, as (id, how many memories), most first."""
        view = self._view()
        seeds = self._seeds(view, intake.check_id(concept, "concept"))
        count = intake.check_count(k, "k")
        memories = np.unique(traversal.into(view, seeds, _REF).src)
        edges = traversal.out_of(view, memories, _REF)
        pairs = np.unique(np.stack([edges.src, edges.dst]), axis=1) if len(edges.src) else np.empty((2, 0), np.uint64)
        others, counts = np.unique(pairs[1][pairs[1] != seeds[0]], return_counts=True)
        trace = view.engine.trace
        concepts = trace.take(trace.indexes_of(others), "role") == ROLE_NUMBERS["concept"]
        ranked = sorted(
            zip(others[concepts].tolist(), counts[concepts].tolist(), strict=True), key=lambda p: (-p[1], p[0])
        )
        return ranked[:count]

    def activate(
        self,
        seeds: int | Iterable[int] | Mapping[int, float],
        k: int = 10,
        *,
        hops: int = 3,
        decay: float = 0.5,
        kinds: str | Collection[str] | None = None,
        time_weight: float = 0.25,
    ) -> list[tuple[int, float]]:
        """Spread activation from seeds over edges, either way, and to neighbours in time; (id, activation), highest first.

        seeds : ids, or a mapping from id to weight above 0 (scores of hits, say); an id counts 1. hops : at most 64.
        decay : what is passed on at each hop, shared among a memory's edges by the square root of their number.
        time_weight : of a neighbour in time, an edge being 1; 0 = none. What is returned adds up over all ways: it has no
        fixed scale, and a seed need not come first.
        """
        view = self._view()
        weights = dict(seeds) if isinstance(seeds, Mapping) else dict.fromkeys(intake.check_ids(seeds), 1.0)
        for id_ in intake.check_ids(list(weights)):
            find(view, id_)
        for id_, weight in weights.items():
            if not _is_number(weight) or not 0 < weight <= _WEIGHT_MAX:
                raise InvalidInputError(
                    f"the weight of seed {id_} is a number above 0 and at most {_WEIGHT_MAX:g}, not {weight!r}"
                )
        for name, value, most in (("decay", decay, 1), ("time_weight", time_weight, _WEIGHT_MAX)):
            if not _is_number(value) or not 0 <= value <= most:
                raise InvalidInputError(f"{name} is a number from 0 to {most:g}, not {value!r}")
        if intake.check_count(hops, "hops") > _HOPS_MAX:
            raise InvalidInputError(f"activation spreads over at most {_HOPS_MAX} hops, not {hops}")
        found = traversal.activate(
            view, {int(id_): float(weight) for id_, weight in weights.items()}, hops=hops,
            decay=decay, kinds=traversal.kind_numbers(view, kinds), time_weight=time_weight,
        )  # fmt: skip
        return found[: intake.check_count(k, "k")]

    # -- salience -----------------------------------------------------------------------------------------------

    def accesses(self, id_: int) -> tuple[int, int | None]:
        """Return (how often `recall` returned a memory, when last in us; None = never). NotFoundError if it was forgotten.

        Counted in memory and kept at a checkpoint and at `close`: a process that dies loses those since. A read-only store
        shows what its writer kept, and counts nothing.
        """
        view = self._view()
        checked = intake.check_id(id_)
        find(view, checked)
        return self._salience.of(checked)

    def retention(
        self, ids: int | Iterable[int], *, stability: timedelta = timedelta(days=7), now: Any = None
    ) -> NDArray[np.float64]:
        """Return how much of each memory would be retained, 0 to 1, float64[n]: exp(-t / S) after Ebbinghaus, t since it was
        last recalled or remembered, S = `stability` times one more than it was recalled."""
        view = self._view()
        if not isinstance(stability, timedelta) or stability <= timedelta(0):
            raise InvalidInputError(f"stability is a timedelta above 0, not {stability!r}")
        indexes = np.array([find(view, id_) for id_ in intake.check_ids(ids)], np.int64)
        moment = intake.as_timestamp(now, "now")
        return dreams.retention_of(view, indexes, self._salience, moment, stability // timedelta(microseconds=1))

    def duplicates(self, near: float | None = None, *, session: str | Sequence[str] | None = None) -> list[Duplicates]:
        """Report memories that say the same: exactly, in one session, role and namespace; or with `near` those whose
        vectors have at least that cosine, of whatever session. Changes nothing; `Store.fold` archives exact repeats.

        Archived, keyed (for exact ones) and concepts and summaries are left out. Cost: the previews of all; with `near`
        one search for each memory.
        """
        view = self._view()
        filters = intake.make_filters(session)
        if near is None:
            return dreams.exact_duplicates(view, filters)
        if isinstance(near, bool) or not isinstance(near, (int, float)) or not 0 < near <= 1:
            raise InvalidInputError(f"near is a cosine above 0 and at most 1, not {near!r}")
        return dreams.near_duplicates(view, filters, near)

    # -- archives -----------------------------------------------------------------------------------------------

    def archived(self, by: int | None = None) -> list[int]:
        """Return the memories that are out of recall, in the order they were remembered; by : only those that this summary
        stands for, which may be forgotten itself."""
        view = self._view()
        summary = None if by is None else intake.check_id(by, "by")
        graph = view.engine.trace.graph
        ids = np.unique(graph.all_archived(view.lsn)["id"])
        ids = ids[graph.archived_mask(ids, view.lsn)]
        found = ids[traversal.readable_mask(view, ids)].tolist()
        return found if summary is None else [id_ for id_ in found if graph.archived_by(id_, view.lsn) == summary]

    def is_archived(self, id_: int) -> bool:
        """Whether a memory is out of recall. NotFoundError if it was forgotten."""
        view = self._view()
        checked = intake.check_id(id_)
        find(view, checked)
        return view.engine.trace.graph.archived_by(checked, view.lsn) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _among(values: Ids, ordered: Ids) -> NDArray[np.bool_]:
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values
