"""The graph: typed edges between memories, and which memories are archived. FORMAT: EDGE, LINK, ARCHIVED.

An edge of `edges` (ref, replaces) and a parent are born with their source. A link was made later, by a commit of its own,
and may be ended by another. Every edge lives as long as both its ends can be read: whoever reads looks at the ends as well
(`aeon.traversal`), so a `forget` takes an edge away in the same commit. Everything here is told by id; an edge carries the
LSNs between which it holds, so a snapshot sees one consistent graph.

Safety in one sentence: lists are only appended to, and what is appended or ended carries an LSN beyond every snapshot that
was taken before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from aeon.format import ARCHIVED, EDGE, LINK, OP, EdgeKind, FileKind, OpKind
from aeon.generation_files import MappedFile
from aeon.operations import Operation

Ids = NDArray[np.uint64]
_EVERY = (1 << 63) - 1  # an LSN, or an id, beyond all others


class Edges(NamedTuple):
    """Edges as columns: src and dst uint64[n], kind uint32[n]."""

    src: Ids
    dst: Ids
    kind: NDArray[np.uint32]


_NO_IDS = np.empty(0, np.uint64)
NO_EDGES = Edges(_NO_IDS, _NO_IDS, np.empty(0, np.uint32))


class Link:
    """An edge made or ended since the generation was written."""

    __slots__ = ("dst", "ended", "kind", "lsn", "src")

    def __init__(self, src: int, dst: int, kind: int, lsn: int) -> None:
        self.src, self.dst, self.kind, self.lsn, self.ended = src, dst, kind, lsn, 0

    def holds(self, lsn: int) -> bool:
        """Whether it is there in a snapshot at `lsn`."""
        return self.lsn <= lsn and (not self.ended or self.ended > lsn)


class Graph:
    """Edges and archived ids of one generation and of what came since.

    Parameters
    ----------
    files : the generation's mapped files by kind; LINKS, REVERSE and ARCHIVED are mapped private.
    parents : returns (ids, parents) of the generation's events, uint64[n] each: for one made before there was REVERSE.
    """

    def __init__(self, files: dict[FileKind, MappedFile], parents: Callable[[], tuple[Ids, Ids]]) -> None:
        self._files = files
        self._parents = parents
        self._born: dict[int, list[tuple[int, int]]] = {}  # by src: (dst, kind)
        self._born_into: dict[int, list[tuple[int, int]]] = {}  # by dst: (src, kind)
        self._links: dict[int, list[Link]] = {}
        self._links_into: dict[int, list[Link]] = {}
        self._archived: dict[int, list[list[int]]] = {}  # by id: [by, lsn, restored]
        self.archives_changed = 0  # LSN of the last commit since the generation that archived or restored
        self._held: tuple[int, Ids] = (-1, _NO_IDS)  # (that LSN, ids that are archived from it on, increasing)
        self.log: list[tuple[int, bytes]] = []  # (LSN, operation) of what a checkpoint has to add to the arena

    def _content(self, kind: FileKind, dtype: np.dtype[Any]) -> NDArray[Any]:
        return self._files[kind].content() if kind in self._files else np.empty(0, dtype)

    # Tables are verified when they are first needed; the columns that are searched are copied out of the records then.
    @cached_property
    def base_edges(self) -> NDArray[Any]:
        """EDGE[n] of the generation, sorted by src."""
        return self._content(FileKind.EDGES, EDGE.dtype)

    @cached_property
    def base_links(self) -> NDArray[Any]:
        """LINK[n] of the generation, sorted by src, LSN, kind and dst."""
        return self._content(FileKind.LINKS, LINK.dtype)

    @cached_property
    def base_reverse(self) -> NDArray[Any]:
        """LINK[n] of the generation, sorted by dst: links, edges and parents."""
        if FileKind.EDGES in self._files and FileKind.REVERSE not in self._files:
            return reverse_of(self.base_edges, self.base_links, parents_of(*self._parents()))
        return self._content(FileKind.REVERSE, LINK.dtype)

    @cached_property
    def base_archived(self) -> NDArray[Any]:
        """ARCHIVED[n] of the generation, sorted by id."""
        return self._content(FileKind.ARCHIVED, ARCHIVED.dtype)

    @cached_property
    def _edge_sources(self) -> Ids:
        return np.ascontiguousarray(self.base_edges["src"])

    @cached_property
    def _link_sources(self) -> Ids:
        return np.ascontiguousarray(self.base_links["src"])

    @cached_property
    def _reverse_targets(self) -> Ids:
        return np.ascontiguousarray(self.base_reverse["dst"])

    @cached_property
    def _archived_ids(self) -> Ids:
        return np.ascontiguousarray(self.base_archived["id"])

    def warm(self) -> None:
        """Verify the tables, so that nobody has to later."""
        for table in (self.base_edges, self.base_links, self.base_reverse, self.base_archived):
            assert table.ndim == 1

    # -- writing (under the index lock) -------------------------------------------------------------------------

    def add_born(self, src: int, dst: int, kind: int) -> None:
        """Add an edge that is born with its source; a parent stands in the event and is only noted in reverse."""
        if kind != EdgeKind.PARENT:
            self._born.setdefault(src, []).append((dst, kind))
        self._born_into.setdefault(dst, []).append((src, kind))

    def link(self, src: int, dst: int, kind: int, lsn: int) -> bool:
        """Add a link; False if it is there."""
        if self.has_link(src, dst, kind, lsn):
            return False
        link = Link(src, dst, kind, lsn)
        self._links.setdefault(src, []).append(link)
        self._links_into.setdefault(dst, []).append(link)
        return True

    def unlink(self, src: int, dst: int, kind: int, lsn: int) -> bool:
        """End a link; False if there is none."""
        for link in self._links.get(src, ()):
            if link.dst == dst and link.kind == kind and not link.ended:
                link.ended = lsn
                return True
        base = self.base_links
        for at in _positions(self._link_sources, src):
            if base[at]["dst"] == dst and base[at]["kind"] == kind and not base[at]["ended"]:
                base["ended"][at] = lsn
                reverse = self.base_reverse
                for back in _positions(self._reverse_targets, dst):
                    row = reverse[back]
                    if row["src"] == src and row["kind"] == kind and row["lsn"] and not row["ended"]:
                        reverse["ended"][back] = lsn
                return True
        return False

    def archive(self, id_: int, by: int, lsn: int) -> bool:
        """Take a memory out of recall; False if it is out already."""
        if self.archived_by(id_, lsn) is not None:
            return False
        self.archives_changed = lsn
        self._archived.setdefault(id_, []).append([by, lsn, 0])
        self.archives = True
        return True

    def restore(self, id_: int, lsn: int) -> bool:
        """Take a memory back into recall; False if it is in."""
        for record in self._archived.get(id_, ()):
            if not record[2]:
                self.archives_changed = lsn
                record[2] = lsn
                return True
        base = self.base_archived
        for at in _positions(self._archived_ids, id_):
            if not base[at]["restored"]:
                self.archives_changed = lsn
                base["restored"][at] = lsn
                return True
        return False

    # -- reading ------------------------------------------------------------------------------------------------

    def edges_from(self, id_: int) -> list[tuple[int, int]]:
        """(dst, kind) of the edges that were born with `id_`, in order of creation."""
        base = self.base_edges
        found = [(int(base[at]["dst"]), int(base[at]["kind"])) for at in _positions(self._edge_sources, id_)]
        return found + self._born.get(id_, [])

    def has_link(self, src: int, dst: int, kind: int, lsn: int) -> bool:
        """Whether the link is there at `lsn`."""
        if any(link.dst == dst and link.kind == kind and link.holds(lsn) for link in self._links.get(src, ())):
            return True
        base = self.base_links
        return any(
            base[at]["dst"] == dst and base[at]["kind"] == kind and _holds(base[at], lsn)
            for at in _positions(self._link_sources, src)
        )

    def out_of(self, ids: Ids, lsn: int) -> Edges:
        """Edges and links that leave `ids` (uint64[n], sorted) at `lsn`; parents are in the events."""
        edges, links = self.base_edges, self.base_links
        parts = []
        if len(edges):
            parts.append(_columns(edges[_ranges(self._edge_sources, ids)]))
        if len(links):
            parts.append(_holding(links[_ranges(self._link_sources, ids)], lsn))
        if self._born or self._links:
            rows = []
            for id_ in ids.tolist():
                rows += [(id_, dst, kind) for dst, kind in self._born.get(id_, ())]
                rows += [(id_, link.dst, link.kind) for link in self._links.get(id_, ()) if link.holds(lsn)]
            parts.append(_from_rows(rows))
        return joined(parts)

    def into(self, ids: Ids, lsn: int) -> Edges:
        """Edges, links and parents that reach `ids` (uint64[n], sorted) at `lsn`."""
        reverse = self.base_reverse
        parts = []
        if len(reverse):
            parts.append(_holding(reverse[_ranges(self._reverse_targets, ids)], lsn))
        if self._born_into or self._links_into:
            rows = []
            for id_ in ids.tolist():
                rows += [(src, id_, kind) for src, kind in self._born_into.get(id_, ())]
                rows += [(link.src, id_, link.kind) for link in self._links_into.get(id_, ()) if link.holds(lsn)]
            parts.append(_from_rows(rows))
        return joined(parts)

    @cached_property  # an attribute from then on: every search asks
    def archives(self) -> bool:
        """Whether any memory was ever archived."""
        return len(self.base_archived) > 0

    def archived_by(self, id_: int, lsn: int) -> int | None:
        """The summary that stands for an archived memory at `lsn` (0 = none does); None if it is not archived."""
        for by, since, restored in self._archived.get(id_, ()):
            if since <= lsn and (not restored or restored > lsn):
                return by
        base = self.base_archived
        for at in _positions(self._archived_ids, id_):
            if base[at]["lsn"] <= lsn and (not base[at]["restored"] or base[at]["restored"] > lsn):
                return int(base[at]["by"])
        return None

    def archived_mask(self, ids: Ids, lsn: int) -> NDArray[np.bool_]:
        """Which of `ids` are archived at `lsn`: bool[n]."""
        changed, (known, held) = self.archives_changed, self._held
        if known != changed or lsn < changed:
            held = _held_at(self.all_archived(lsn))
            if lsn >= changed:  # it is so until something is archived or restored
                self._held = (changed, held)
        if not len(held):
            return np.zeros(len(ids), bool)
        found: NDArray[np.bool_] = held[np.minimum(np.searchsorted(held, ids), len(held) - 1)] == ids
        return found

    # -- for a checkpoint ---------------------------------------------------------------------------------------

    # Others may go on writing: dict.copy is one step (a list of items is not, it makes objects and so lets the collector, and
    # behind it others, run), and what they add has a later LSN or a newer source.
    def all_edges(self, before_id: int = _EVERY) -> NDArray[Any]:
        """Every edge that was born with its source as EDGE[n], sorted by src, then in order of creation.

        before_id : only of sources with an id below it.
        """
        born = [(src, edges) for src, edges in self._born.copy().items() if src < before_id]
        tail = [(src, dst, kind, 0) for src, edges in born for dst, kind in edges]
        merged = np.concatenate([self.base_edges, np.array(tail, EDGE.dtype)])
        return merged[np.argsort(merged["src"], kind="stable")]

    def all_links(self, lsn: int = _EVERY) -> NDArray[Any]:
        """Every link as it was at `lsn`, ended ones too, as LINK[n], sorted by src, LSN, kind and dst."""
        merged = _as_of(np.concatenate([self.base_links, _records_of(self._links)]), lsn, "ended")
        return merged[np.lexsort((merged["dst"], merged["kind"], merged["lsn"], merged["src"]))]

    def all_reverse(self, lsn: int = _EVERY, before_id: int = _EVERY) -> NDArray[Any]:
        """Every edge, link and parent at `lsn` as LINK[n], in the order of `sort_reverse`; before_id as in `all_edges`."""
        into = [(dst, list(edges)) for dst, edges in self._born_into.copy().items()]
        born = [(src, dst, kind, 0, 0, 0) for dst, edges in into for src, kind in edges if src < before_id]
        merged = np.concatenate([self.base_reverse, np.array(born, LINK.dtype), _records_of(self._links_into)])
        return sort_reverse(_as_of(merged, lsn, "ended"))

    def all_archived(self, lsn: int = _EVERY) -> NDArray[Any]:
        """Every time a memory was archived up to `lsn` as ARCHIVED[n], sorted by id, then lsn."""
        since = self._archived.copy().items()
        tail = [(id_, *record) for id_, records in since for record in list(records)]
        merged = _as_of(np.concatenate([self.base_archived, np.array(tail, ARCHIVED.dtype)]), lsn, "restored")
        return merged[np.lexsort((merged["lsn"], merged["id"]))]


def _held_at(archived: NDArray[Any]) -> Ids:
    return np.unique(archived["id"][archived["restored"] == 0])


def _records_of(links: dict[int, list[Link]]) -> NDArray[Any]:
    found = [link for of_one in links.copy().values() for link in list(of_one)]
    return np.array([(k.src, k.dst, k.kind, 0, k.lsn, k.ended) for k in found], LINK.dtype)


def _as_of(records: NDArray[Any], lsn: int, ended: str) -> NDArray[Any]:
    """A copy of the records without what came after `lsn`, and with what ended after it as it was."""
    records = records[records["lsn"] <= np.uint64(lsn)]
    records[ended][records[ended] > np.uint64(lsn)] = 0
    return records


def reverse_of(edges: NDArray[Any], links: NDArray[Any], parents: NDArray[Any]) -> NDArray[Any]:
    """The reverse table: LINK[n] in the order of `sort_reverse`.

    edges : EDGE[n]. links : LINK[n]. parents : LINK[n], one for each event that has a parent.
    """
    merged = np.zeros(len(parents) + len(edges) + len(links), LINK.dtype)
    merged[: len(parents)] = parents
    born = merged[len(parents) : len(parents) + len(edges)]
    for field in ("src", "dst", "kind"):
        born[field] = edges[field]
    merged[len(parents) + len(edges) :] = links
    return sort_reverse(merged)


def sort_reverse(records: NDArray[Any]) -> NDArray[Any]:
    """LINK[n] in the order of the reverse table: by dst, src, LSN and kind."""
    return records[np.lexsort((records["kind"], records["lsn"], records["src"], records["dst"]))]


def parents_of(ids: Ids, parents: Ids) -> NDArray[Any]:
    """The edges to parents as LINK[n]; 0 = no parent."""
    with_parent = np.flatnonzero(parents)
    out = np.zeros(len(with_parent), LINK.dtype)
    out["src"], out["dst"], out["kind"] = ids[with_parent], parents[with_parent], EdgeKind.PARENT
    return out


# -- operations ---------------------------------------------------------------------------------------------------


def encode_link(pairs: Iterable[tuple[int, int]], kind: str, timestamp: int, *, ends: bool = False) -> bytes:
    """Return a `link` operation (or, with `ends`, an `unlink`) for edges of one kind, told as (src, dst)."""
    return _encode(
        OpKind.UNLINK if ends else OpKind.LINK, [kind], [end for pair in pairs for end in pair], 0, timestamp
    )


def encode_archive(ids: Iterable[int], by: int, timestamp: int) -> bytes:
    """Return an `archive` operation; by : the summary that stands for them, 0 = none."""
    return _encode(OpKind.ARCHIVE, [], list(ids), by, timestamp)


def encode_restore(ids: Iterable[int], timestamp: int) -> bytes:
    """Return a `restore` operation."""
    return _encode(OpKind.RESTORE, [], list(ids), 0, timestamp)


def encode_branch(session: str, event_id: int, trunk: str, timestamp: int) -> bytes:
    """Return a `branch` operation: a new session that continues from an event of the session `trunk`."""
    return _encode(OpKind.BRANCH, [session, trunk], [], event_id, timestamp)


def _encode(kind: OpKind, names: list[str], ids: list[int], parent: int, timestamp: int) -> bytes:
    extra, text = msgpack.packb(names), np.array(ids, "<u8").tobytes()
    return OP.pack(kind, 0, 0, 0, len(extra), len(text), 0, parent, timestamp) + extra + text


class Change(NamedTuple):
    """A decoded operation on the graph: its kind, the names in it ("" if none), ids, and `parent`."""

    kind: OpKind
    name: str
    second: str
    ids: list[int]
    parent: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The ids as (src, dst)."""
        return list(zip(self.ids[::2], self.ids[1::2], strict=True))


CHANGES = frozenset({OpKind.LINK, OpKind.UNLINK, OpKind.ARCHIVE, OpKind.RESTORE, OpKind.BRANCH})
_NAMES = {OpKind.LINK: 1, OpKind.UNLINK: 1, OpKind.BRANCH: 2}


def decode_change(operation: Operation) -> Change:
    """Read an operation on the graph; ValueError if it is not what `encode_...` makes."""
    kind = OpKind(operation.kind)
    try:
        names = msgpack.unpackb(operation.extra)
    except (msgpack.UnpackException, ValueError) as error:
        raise ValueError(f"malformed {kind.name.lower()}: {error}") from error
    if not isinstance(names, list) or len(names) != _NAMES.get(kind, 0) or not all(type(n) is str and n for n in names):
        raise ValueError(f"a {kind.name.lower()} with the names {names!r}")
    width = 16 if kind in (OpKind.LINK, OpKind.UNLINK) else 8
    if len(operation.text) % width or (kind == OpKind.BRANCH and (len(operation.text) or not operation.parent)):
        raise ValueError(f"a {kind.name.lower()} with {len(operation.text)} bytes of ids")
    name, second = [*names, "", ""][:2]
    return Change(kind, name, second, np.frombuffer(operation.text, "<u8").tolist(), operation.parent)


def operations_of(
    links: NDArray[Any],
    archived: NDArray[Any],
    kind_name: Callable[[int], str],
    branches: list[tuple[str, int, int, str]],
) -> list[tuple[int, bytes]]:
    """The operations that make a graph anew, as (LSN, operation) in the order of LSNs: for a compaction.

    links : LINK[n]. archived : ARCHIVED[n]. kind_name : from a kind's number to its name.
    branches : (session, event, LSN, session of the event).
    """
    made: dict[tuple[int, int, int], list[tuple[int, int]]] = {}  # (LSN, 0 link or 1 unlink, kind): pairs
    for src, dst, kind, _, lsn, ended in links.tolist():
        made.setdefault((lsn, 0, kind), []).append((src, dst))
        if ended:
            made.setdefault((ended, 1, kind), []).append((src, dst))
    found = [
        (lsn, ends, encode_link(pairs, kind_name(kind), 0, ends=bool(ends)))
        for (lsn, ends, kind), pairs in made.items()
    ]
    for id_, by, lsn, restored in archived.tolist():
        found.append((lsn, 0, encode_archive([id_], by, 0)))
        if restored:
            found.append((restored, 1, encode_restore([id_], 0)))
    found += [(lsn, 0, encode_branch(session, event, trunk, 0)) for session, event, lsn, trunk in branches]
    return [(lsn, operation) for lsn, _, operation in sorted(found, key=lambda change: change[:2])]


# -- columns ------------------------------------------------------------------------------------------------------


def _positions(column: Ids, id_: int) -> range:
    value = np.uint64(id_)
    return range(int(np.searchsorted(column, value, "left")), int(np.searchsorted(column, value, "right")))


def _ranges(column: Ids, ids: Ids) -> NDArray[np.int64]:
    """Indexes into a sorted column of every record that has one of `ids`."""
    wanted = np.empty(
        (len(ids), 2), np.uint64
    )  # where each begins, and behind it, while the way there is still in the cache
    wanted[:, 0], wanted[:, 1] = ids, ids + np.uint64(1)
    ends = np.searchsorted(column, wanted.ravel())
    low, counts = ends[::2], ends[1::2] - ends[::2]
    total = int(counts.sum())
    return np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(total)


def _holds(record: Any, lsn: int) -> bool:
    return bool(record["lsn"] <= lsn and (not record["ended"] or record["ended"] > lsn))


def _columns(records: NDArray[Any]) -> Edges:
    return Edges(records["src"], records["dst"], records["kind"])


def _holding(records: NDArray[Any], lsn: int) -> Edges:
    ended = records["ended"]
    return _columns(records[(records["lsn"] <= lsn) & ((ended == 0) | (ended > lsn))])


def _from_rows(rows: list[tuple[int, int, int]]) -> Edges:
    if not rows:
        return NO_EDGES
    table = np.array(rows, np.uint64)
    return Edges(table[:, 0], table[:, 1], table[:, 2].astype(np.uint32))


def joined(parts: Sequence[Edges]) -> Edges:
    """Edges one behind the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NO_EDGES
    return Edges(
        np.concatenate([part.src for part in parts]),
        np.concatenate([part.dst for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )
