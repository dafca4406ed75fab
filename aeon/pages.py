"""The page index: rows' sketches in pages under centroids, derived from the rows and the only thing that ever moves.

A page is a unit centroid and up to some hundred sketches of the rows nearest to it; pages are grouped under centroids of
their own in the same layout, so a search descends with one kernel call. Rows stay where they are in the arena: a page
knows their numbers.

Safety in one sentence: one writer changes pages; what a reader holds is a `Snapshot`, whose pages are never changed
except by sketches of rows that are too new for it, and whose memory is given out again only when it is gone.
"""

from __future__ import annotations

import copy
import ctypes
import hashlib
import math
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aeon import page_building, page_check
from aeon.page_building import GROUP_ROWS, PAGE_BLOCKS, PAGE_BLOCKS_MAX, PAGE_ROWS, Rows
from aeon.page_memory import Frames, Level, Snapshot, StoredLevel
from aeon_native import dispatch
from aeon_native.page_layout import (
    FIELDS,
    LANES,
    NO_ROW,
    ROTATIONS,
    block_dtype,
    padded_dim,
    scratch_bytes,
)

_NEIGHBOURS = 16  # pages looked at after a split
_MOVES_PAGES_MAX = 10  # pages rewritten after a split: bounds its pause
_MARGIN = 1e-3  # a row moves only for a gain that is more than rounding
_SPARSE_ROWS = 16  # a page with fewer live rows is dissolved
_DEATHS_A_SWEEP = 8  # deaths between two looks at a page


class RowSource(Protocol):
    """Where rows come from: the Atlas."""

    def row_fields(self) -> tuple[dict[str, int], tuple[Any, ...]]:
        """Fields of the context that say where rows lie and how many they reach, and what has to live on."""
        ...

    def unit_rows(self, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(rows as float32[n, padded dim] in the order given, their scales float32[n])."""
        ...

    def dead(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of `rows` have ended: bool[n]."""
        ...


def rotation_signs(seed: bytes, dim: int) -> NDArray[np.float32]:
    """The sign flips of the store's rotation: float32[4, dim], +1 or -1, from BLAKE2b of its uuid."""
    count = ROTATIONS * dim
    digest = b"".join(
        hashlib.blake2b(number.to_bytes(4, "little"), key=seed, person=b"aeon-rotation").digest()
        for number in range(-(-count // 512))
    )
    bits = np.unpackbits(np.frombuffer(digest, np.uint8), count=count, bitorder="little")
    return np.ascontiguousarray(1.0 - 2.0 * bits, np.float32).reshape(ROTATIONS, dim)


@dataclass
class _Shown:
    """A snapshot that was shown: its number, and what is given back when it is gone, with the first snapshot that showed it."""

    number: int
    snapshot: weakref.ref[Snapshot]
    retired: list[tuple[int, Callable[[], None]]] = field(default_factory=list)


@dataclass
class IndexCounters:
    """What the writer did since the index was made."""

    splits: int = 0
    moved_rows: int = 0
    grown: int = 0
    dissolved: int = 0
    rewritten: int = 0
    group_splits: int = 0


class PageIndex:
    """Pages over the rows of one Atlas.

    Parameters
    ----------
    source : the rows, borrowed: it holds the index, and both are to go at once when it is let go.
    dim : length of the vectors. seed : what the rotation is made from (the store's uuid).
    """

    def __init__(self, source: RowSource, dim: int, seed: bytes) -> None:
        self.dim = padded_dim(dim)
        self._source: RowSource = weakref.proxy(source)
        self.signs = rotation_signs(seed, self.dim)
        self._dtype = block_dtype(self.dim)
        self._frames = Frames(self.dim)
        self._slots, self._groups = Level(self.dim), Level(self.dim)
        self._scratch = np.empty(3 * scratch_bytes(self.dim), np.uint8)
        self._number = 0  # of the newest snapshot
        self._shown: list[_Shown] = []  # those before it that are held yet
        self._retired: list[tuple[int, Callable[[], None]]] = []  # since the newest snapshot: it shows them
        self._deaths = 0
        self._sweep_at = 0
        self.rows = 0  # rows below it are in pages, but for those that have ended
        self.built = 0  # so many were there when all pages were made at once, or came from a file
        self.counters = IndexCounters()
        self.snapshot = self._make_snapshot()

    # -- what readers see ---------------------------------------------------------------------------------------

    def _make_snapshot(self) -> Snapshot:
        fields, keep = self._source.row_fields()
        fields["dim"] = self.dim
        fields["signs"] = self.signs.ctypes.data
        fields["rows"] = self.rows
        kept: list[Any] = [keep, self._frames, self.signs]
        levels = {}
        for name, level in (("top", self._groups), ("slot", self._slots)):
            count = level.count
            pages = level.pages[:count].copy()
            blocks = ((level.counts[:count] + np.uint32(LANES - 1)) >> np.uint32(5)).astype(np.uint32)
            arrays = {
                "codes": level.codes, "scales": level.scales, "lengths": level.lengths, "pages": pages, "blocks": blocks
            }  # fmt: skip
            fields[f"{name}_count"] = count
            levels[name] = arrays
            for column, array in arrays.items():
                fields[f"{name}_{column}"] = array.ctypes.data
                kept.append(array)
        ctx = np.array([fields[name] for name in FIELDS], np.uint64).view(np.int64)
        return Snapshot(ctx, tuple(kept), self._slots.live, self._groups.live, levels)

    def publish(self) -> None:
        """Show readers everything done so far, by one assignment; reclaim what no snapshot shows any more."""
        self._shown.append(_Shown(self._number, weakref.ref(self.snapshot), self._retired))
        self.snapshot = self._make_snapshot()
        self._number, self._retired = self._number + 1, []
        held: list[_Shown] = []
        for shown in self._shown:  # the oldest first
            if shown.snapshot() is not None:
                held.append(shown)
                continue
            for first, reclaim in shown.retired:
                if held and held[-1].number >= first:  # an older one shows it as well
                    held[-1].retired.append((first, reclaim))
                else:
                    reclaim()
        self._shown = held

    def read_from(self, source: RowSource) -> None:
        """Take rows from `source` from here on, which have the same numbers, and keep it alive: until it is handed over."""
        self._source = source

    def handed_to(self, source: RowSource) -> PageIndex:
        """The index to go on with over `source`, where the rows below `rows` have the same numbers.

        This one is changed no more: its snapshot stays what it is, for those who read the rows it was made of.
        """
        index = copy.copy(self)
        index._source = weakref.proxy(source)
        index.publish()
        return index

    # -- pages --------------------------------------------------------------------------------------------------

    def _page(self, level: Level, slot: int) -> NDArray[Any]:
        """The blocks of a page as records; a view."""
        blocks = int(level.capacities[slot]) // LANES
        if not blocks:
            return np.empty(0, self._dtype)
        raw = (ctypes.c_uint8 * (blocks * self._dtype.itemsize)).from_address(int(level.pages[slot]))
        return np.frombuffer(memoryview(raw), self._dtype)

    def _numbers(self, level: Level, slot: int) -> NDArray[np.int64]:
        """What a page lists: int64[count], a copy."""
        return self._page(level, slot)["rows"].reshape(-1)[: level.counts[slot]].astype(np.int64)

    def _retire_page(self, level: Level, slot: int) -> None:
        frames, address, blocks = self._frames, int(level.pages[slot]), int(level.capacities[slot]) // LANES
        self._retired.append((int(level.page_since[slot]), lambda: frames.give(address, blocks)))

    def _retire_slot(self, level: Level, slot: int) -> None:
        self._retire_page(level, slot)
        level.pages[slot] = 0
        level.counts[slot] = level.capacities[slot] = 0
        level.live -= 1
        self._retired.append((int(level.since[slot]), lambda: level.free.append(slot)))

    def _blocks_for(self, count: int) -> int:
        blocks = -(-count // LANES)
        return blocks if blocks <= PAGE_BLOCKS else 1 << (blocks - 1).bit_length()  # a page that grows doubles

    def _new_page(self, level: Level, slot: int, count: int) -> int:
        """Give a slot an empty page with room for `count`; its address. The old one is the caller's to retire."""
        blocks = self._blocks_for(count)
        address = self._frames.take(blocks)
        dispatch.kernels.clear_lanes(address, 0, blocks * LANES, self.dim)
        level.pages[slot], level.capacities[slot], level.counts[slot] = address, blocks * LANES, 0
        level.page_since[slot] = self._number + 1
        return address

    def _fill(
        self, level: Level, slot: int, vectors: NDArray[np.float32], scales: NDArray[np.float32], numbers: Rows
    ) -> None:
        """Append sketches to a page that has room and that no snapshot shows."""
        start = int(level.counts[slot])
        dispatch.kernels.encode_lanes(
            vectors, scales, numbers.astype(np.uint32), level.codes[slot], float(level.lengths[slot] * level.scales[slot]),
            self.signs, int(level.pages[slot]), start, self._scratch,
        )  # fmt: skip
        level.counts[slot] = start + len(numbers)

    def _new_slot(
        self, level: Level, centroid: NDArray[np.float32], vectors: NDArray[np.float32], scales: NDArray[np.float32],
        numbers: Rows, room: int = 0,
    ) -> int:  # fmt: skip
        """A new page around a unit centroid."""
        slot = level.take(self.dim)
        level.since[slot] = self._number + 1
        dispatch.kernels.quantize(centroid[None], level.codes[slot : slot + 1], level.scales[slot : slot + 1])
        along = _dots(vectors, level.centroids(np.array([slot])))
        level.lengths[slot] = along.mean() if len(along) else 1.0
        self._new_page(level, slot, max(len(numbers), room))
        self._fill(level, slot, vectors, scales, numbers)
        return slot

    def _rewrite(self, level: Level, slot: int, keep: NDArray[np.int64], room: int) -> None:
        """Copy the lanes `keep` of a page to a new one with room for `room`."""
        source = int(level.pages[slot])
        self._retire_page(level, slot)
        target = self._new_page(level, slot, max(room, len(keep)))
        dispatch.kernels.copy_lanes(source, keep, target, 0, self.dim)
        level.counts[slot] = len(keep)

    # -- groups -------------------------------------------------------------------------------------------------

    def _regroup(self, removed: Iterable[int], added: Iterable[int], parent: int) -> None:
        """Take slots out of their groups and put new ones into the group `parent`."""
        groups, slots = self._groups, self._slots
        gone: dict[int, set[int]] = {parent: set()} if parent >= 0 else {}
        for slot in removed:
            gone.setdefault(int(slots.parents[slot]), set()).add(slot)
        new = np.array(list(added), np.int64)
        for group, leaving in gone.items():
            numbers = self._numbers(groups, group)
            keep = np.flatnonzero(~np.isin(numbers, np.array(list(leaving), np.int64)))
            joining = new if group == parent else new[:0]
            if len(keep) + len(joining) == 0:
                self._retire_slot(groups, group)
                continue
            self._rewrite(groups, group, keep, len(keep) + len(joining))
            if len(joining):
                self._fill(groups, group, slots.centroids(joining), slots.scales[joining].copy(), joining)
                slots.parents[joining] = group
            if groups.counts[group] > GROUP_ROWS:
                self._split_group(group)

    def _split_group(self, group: int) -> None:
        groups, slots = self._groups, self._slots
        members = self._numbers(groups, group)
        vectors = slots.centroids(members)
        centroids, side, ones = self._halve(vectors)
        if not ones:
            return
        self.counters.group_splits += 1
        for half in (0, 1):
            chosen = np.flatnonzero(side == half)
            new = self._new_slot(
                groups, centroids[half], vectors[chosen], slots.scales[members[chosen]], members[chosen], GROUP_ROWS
            )
            slots.parents[members[chosen]] = new
        self._retire_slot(groups, group)

    def _halve(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8], int]:
        """(centroids float32[2, dim], side uint8[n], rows on side 1; 0 if the rows are equal)."""
        centroids = np.empty((3, self.dim), np.float32)
        side, projections = np.empty(len(vectors), np.uint8), np.empty(len(vectors), np.float32)
        ones = dispatch.kernels.split_rows(vectors, centroids, projections, side)
        return centroids[:2], side, ones

    # -- inserting ----------------------------------------------------------------------------------------------

    def insert(self, first: int, stop: int, splits: float = math.inf) -> None:
        """Add the rows `first` to `stop` and show them; `first` is where the index ends.

        splits : after so many the rest is left for the next call: each takes two or three milliseconds.
        """
        vectors, scales = self._source.unit_rows(np.arange(first, stop))
        if stop > self.snapshot.reach:  # the snapshot's tables end before these rows, and a split is going to read them
            self.publish()
        done, count = 0, stop - first
        full = np.empty(1, np.int64)
        self._ensure_root(vectors)
        while done < count:
            slots = self._slots
            done += dispatch.kernels.insert_rows(
                self.snapshot.ctx, vectors[done:], scales[done:], first + done, slots.counts, slots.capacities,
                self._scratch, full,
            )  # fmt: skip
            if done < count:
                if not splits:
                    break
                self.split(int(full[0]))
                splits -= 1
        self.rows = first + done
        self.publish()

    def _ensure_root(self, vectors: NDArray[np.float32]) -> None:
        """Make the first page of an empty index."""
        if self._slots.live:
            return
        none = np.empty(0, np.int64)
        slot = self._new_slot(self._slots, vectors[0], vectors[:0], np.empty(0, np.float32), none)
        one = np.array([slot])
        group = self._new_slot(
            self._groups, vectors[0], self._slots.centroids(one), self._slots.scales[one], one, GROUP_ROWS
        )
        self._slots.parents[slot] = group
        self.publish()

    def split(self, slot: int) -> None:
        """Make room in a full page: drop its dead rows, or part it in two, or let it grow; publishes."""
        slots = self._slots
        numbers = self._numbers(slots, slot)
        alive = np.flatnonzero(~self._source.dead(numbers))
        if 4 * len(alive) <= 3 * len(numbers):
            self._rewrite(slots, slot, alive, len(alive) + 8)
            self.counters.rewritten += 1
            self.publish()
            return
        if slots.capacities[slot] < PAGE_ROWS:
            self._enlarge(slot, alive)
            self.publish()
            return
        numbers = numbers[alive]
        vectors, scales = self._source.unit_rows(numbers)
        centroids, side, ones = self._halve(vectors)
        if ones:
            self.counters.splits += 1
            self._part(slot, numbers, vectors, scales, centroids, side)
        elif slots.capacities[slot] < PAGE_BLOCKS_MAX * LANES:
            self._enlarge(slot, alive)
        else:
            half = np.arange(len(numbers)) < len(numbers) // 2
            self._replace(
                slot, [(slots.centroid(slot), vectors[part], scales[part], numbers[part]) for part in (half, ~half)]
            )
        self.publish()

    def _enlarge(self, slot: int, alive: NDArray[np.int64]) -> None:
        """Give a full page a block more, or twice the room if it cannot be split."""
        self.counters.grown += 1
        capacity = int(self._slots.capacities[slot])
        self._rewrite(self._slots, slot, alive, capacity + LANES if capacity < PAGE_ROWS else 2 * capacity)

    def _replace(self, slot: int, parts: list[tuple[Any, Any, Any, Any]]) -> list[int]:
        """Put new pages in the place of one."""
        parent = int(self._slots.parents[slot])
        new = [self._new_slot(self._slots, *part, room=len(part[3]) + 8) for part in parts]
        self._regroup([slot], new, parent)
        self._retire_slot(self._slots, slot)
        return new

    def _part(
        self, slot: int, numbers: Rows, vectors: NDArray[np.float32], scales: NDArray[np.float32],
        centroids: NDArray[np.float32], side: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        """Replace a page by two; rows that are nearer to another page go there, rows of near pages come (LIRE)."""
        near, nothing = self._neighbours(slot, _NEIGHBOURS), np.empty(0, np.int64)
        keep = np.ones(len(numbers), bool)
        leaving: dict[int, NDArray[np.int64]] = {}
        if len(near):
            both = _dots(vectors, centroids)
            others = _dots(vectors, self._slots.centroids(near))
            best = others.argmax(1)
            movers = np.flatnonzero(others[np.arange(len(best)), best] > both.max(1) + _MARGIN)
            for at in np.unique(best[movers]).tolist():
                moving = movers[best[movers] == at]
                target = int(near[at])
                room = 7 * PAGE_ROWS // 8 - int(self._slots.counts[target])  # or it splits next
                if len(moving) <= room and len(moving) < len(numbers) // 2:
                    leaving[target] = moving
                    keep[moving] = False
        arrivals = self._arrivals(near, centroids)
        parts = []
        coming: list[list[NDArray[np.int64]]] = [[], []]
        lost: dict[int, NDArray[np.int64]] = {}
        for source, lanes, which in arrivals[:_MOVES_PAGES_MAX]:
            lost[source] = lanes
            moved = self._numbers(self._slots, source)[lanes]
            for half in (0, 1):
                coming[half].append(moved[which == half])
        for half in (0, 1):
            own = np.flatnonzero((side == half) & keep)
            incoming = np.concatenate([nothing, *coming[half]])
            new_vectors, new_scales = self._source.unit_rows(incoming)
            parts.append((
                centroids[half], np.concatenate([vectors[own], new_vectors]),
                np.concatenate([scales[own], new_scales]), np.concatenate([numbers[own], incoming]),
            ))  # fmt: skip
        slots = self._slots
        for target in dict.fromkeys([*lost, *leaving]):
            gone, moving = lost.get(target, nothing), leaving.get(target, nothing)
            stay = np.delete(np.arange(int(slots.counts[target])), gone)
            self._rewrite(slots, target, stay, len(stay) + len(moving))
            if len(moving):
                self._fill(slots, target, vectors[moving], scales[moving], numbers[moving])
            self.counters.moved_rows += len(gone) + len(moving)
        self._replace(slot, parts)

    def _neighbours(self, slot: int, count: int) -> NDArray[np.int64]:
        """The slots whose centroids are nearest to that of `slot`, without it."""
        found = min(count + 1, self._slots.live)
        scores, slots = np.empty((1, found), np.float32), np.empty((1, found), np.int64)
        counts = np.zeros(1, np.int64)
        dispatch.kernels.nearest_pages(
            self.snapshot.ctx, self._slots.centroid(slot)[None], 4, 2.0, self._scratch, scores, slots, counts
        )
        near = slots[0, : counts[0]]
        return near[near != slot]

    def _arrivals(
        self, near: NDArray[np.int64], centroids: NDArray[np.float32]
    ) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Rows of the pages `near` that belong to one of two new centroids: (slot, lanes, which), most rows first."""
        slots = self._slots
        near = near[slots.counts[near] <= PAGE_ROWS]
        if not len(near):
            return []
        out = np.empty((PAGE_ROWS, 3), np.int64)
        found = dispatch.kernels.closer_rows(
            self.snapshot.ctx, near, slots.counts[near], np.ascontiguousarray(centroids), _MARGIN, self._scratch, out
        )
        arrivals = []
        for slot in np.unique(out[:found, 0]).tolist():
            rows = out[:found][out[:found, 0] == slot]
            if len(rows) < slots.counts[slot]:  # an emptied page would be a page for nothing
                arrivals.append((slot, rows[:, 1], rows[:, 2]))
        arrivals.sort(key=lambda arrival: -len(arrival[1]))
        return arrivals

    # -- deaths -------------------------------------------------------------------------------------------------

    def note_death(self) -> None:
        """A row has ended: now and then look at a page, and rewrite or dissolve it if many of its rows have."""
        self._deaths += 1
        if self._deaths % _DEATHS_A_SWEEP or not self._slots.live:
            return
        slots = self._slots
        for _ in range(slots.count):
            self._sweep_at = (self._sweep_at + 1) % slots.count
            if slots.pages[self._sweep_at]:
                break
        slot = self._sweep_at
        numbers = self._numbers(slots, slot)
        alive = np.flatnonzero(~self._source.dead(numbers))
        if 4 * len(alive) > 3 * len(numbers) and len(alive) >= _SPARSE_ROWS:
            return
        if len(alive) < _SPARSE_ROWS and slots.live > 1 and self._dissolve(slot, numbers[alive]):
            self.counters.dissolved += 1
        elif len(alive) < len(numbers):
            self._rewrite(slots, slot, alive, len(alive) + 8)
            self.counters.rewritten += 1
        else:
            return
        self.publish()

    def _dissolve(self, slot: int, numbers: Rows) -> bool:
        """Move a page's rows to the nearest pages with room and give up the page; False if there is no room."""
        slots = self._slots
        near = self._neighbours(slot, _NEIGHBOURS)
        if len(numbers):
            if not len(near):
                return False
            vectors, scales = self._source.unit_rows(numbers)
            scores = _dots(vectors, slots.centroids(near))
            room = PAGE_ROWS - slots.counts[near].astype(np.int64)
            chosen = np.empty(len(numbers), np.int64)
            for row in range(len(numbers)):
                at = int(np.where(room > 0, scores[row], -np.inf).argmax())
                if room[at] <= 0:
                    return False
                chosen[row] = at
                room[at] -= 1
            for at in np.unique(chosen).tolist():
                moving, target = np.flatnonzero(chosen == at), int(near[at])
                count = int(slots.counts[target])
                self._rewrite(slots, target, np.arange(count), count + len(moving))
                self._fill(slots, target, vectors[moving], scales[moving], numbers[moving])
        self._regroup([slot], [], -1)
        self._retire_slot(slots, slot)
        return True

    # -- building a whole index ---------------------------------------------------------------------------------

    def build(self, rows: int, *, stop: Callable[[], bool] = lambda: False) -> bool:
        """Make pages for the rows below `rows` of an empty index; False if `stop` said so meanwhile. See `page_building`."""
        self.built = rows
        return page_building.build(self, rows, stop)

    # -- on disk ------------------------------------------------------------------------------------------------

    def load(self, groups: StoredLevel, pages: StoredLevel, blocks: NDArray[Any], rows: int) -> None:
        """Take over what a pages file holds, into an empty index; publishes.

        blocks : writable and private, kept: pages are filled further where they lie.
        """
        self._frames.adopt(blocks)
        address = blocks.ctypes.data
        for level, stored in ((self._groups, groups), (self._slots, pages)):
            count = len(stored.slots)
            level.reserve(count, self.dim)
            level.codes[:count], level.scales[:count], level.lengths[:count] = (
                stored.codes,
                stored.scales,
                stored.lengths,
            )
            level.counts[:count], level.capacities[:count] = stored.counts, stored.blocks * np.uint32(LANES)
            sizes = stored.blocks.astype(np.int64) * self._dtype.itemsize
            level.pages[:count] = address + np.cumsum(sizes) - sizes
            address += int(sizes.sum())
            level.count = level.live = count
        for group in range(len(groups.slots)):
            self._slots.parents[self._numbers(self._groups, group)] = group
        self.rows = self.built = rows
        self.publish()

    # -- looking at it ------------------------------------------------------------------------------------------

    def sizes(self) -> NDArray[np.int64]:
        """Rows of each page, dead ones included."""
        return self._slots.counts[self._slots.used()].astype(np.int64)

    @property
    def bytes(self) -> int:
        """Memory of pages and centroids."""
        levels = (self._slots, self._groups)
        return self._frames.bytes + sum(level.count * (self.dim + 48) for level in levels)

    def verify(self) -> list[str]:
        """What is wrong: rows below `rows` and alive must be in exactly one page, with the sketch their codes give."""
        return page_check.problems(self)


def _dots(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """x @ y.T of small matrices, without waking the threads of a BLAS."""
    out = np.empty((len(x), len(y)), np.float32)
    dispatch.kernels.dot_table(np.ascontiguousarray(x), np.ascontiguousarray(y), out)
    return out


assert NO_ROW == 0xFFFF_FFFF
