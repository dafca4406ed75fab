"""The Atlas: rows (`rows`) searched through pages of sketches (`pages`) or by a scan.

Rows are scored against the query quantised to 15 bits, so the only loss of a scan is the rows' own rounding: recall@10 against
exact float32 search is above 0.995 on real sentence embeddings. From some thousand rows on a page index says which rows are
worth scoring; it is made in the background, follows every commit, and its newest rows, which are in no page yet, are scanned.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon import probing
from aeon.background import in_two
from aeon.columns import CHUNK_RECORDS
from aeon.errors import CorruptionError
from aeon.format import FileKind
from aeon.generation_files import MappedFile
from aeon.index_maker import CATCH_UP_ROWS, REAL_QUERIES_MIN, TAIL_ROWS, IndexMaker
from aeon.page_file import decode_pages, encode_pages
from aeon.page_memory import Snapshot
from aeon.pages import PageIndex
from aeon.probing import RECALL_TARGET, Curve
from aeon.rows import Rows, refuse_vector
from aeon_native import dispatch
from aeon_native.page_layout import padded_dim, scratch_bytes

INDEX_FROM_ROWS = 8192  # below, a scan takes some ten microseconds (bench/growth)
_SPLITS = 2  # pages that one row splits at most, twice as many if far behind: its commit would wait for all that a batch fills
_GATHER_ROWS = 4096  # fewer allowed rows than this are scored one by one
_GATHER_SHARE = 1 / 16  # and so are they if they are a smaller share: nearly every page would be looked at
_MOST = 8  # times the pages of an average search: the most that one looks at
_ALIKE = 1.5  # times the average takes as many pages for every query alike, for the same recall (decision 14)
_BEAM = 4  # groups looked at, at least
_REAL_QUERIES = 1024  # queries that are kept for calibration, from the last few thousand
_QUERY_SAMPLE = 16  # every so many queries one is kept, and all of the first ones
_MEASURE_EVERY = 100_000  # queries; before that at each doubling of their number, or of half the rows
_GROWTH = 1.5  # a curve is measured anew when there are so many times the rows
_SHARED_FROM = 32  # so many queries are worth a second thread

_F32, _I64, _U64 = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.uint64)
_PACKED = (4,)  # strides of a float32[n], C
_ALL = np.empty(0, np.uint8)  # an empty bitmap allows every row


class Effort(NamedTuple):
    """What one search of the pages does: pages to scan at most, out of how many groups, errors an estimate may be off by,
    and by how much less than the nearest page's centroid another's may score."""

    probes: int
    beam: int
    eps0: float
    spread: float


class Atlas(Rows):
    """Rows, and how they are searched.

    Parameters
    ----------
    files, dim, rows : see `Rows`.
    seed : 16 bytes, the store's uuid; the index's rotation is made from it.
    """

    def __init__(self, files: dict[FileKind, MappedFile], dim: int, rows: str, seed: bytes = bytes(16)) -> None:
        super().__init__(files, dim, rows)
        self.seed = seed
        self._index: PageIndex | None = None
        self._curve: Curve = probing.UNMEASURED
        self._efforts: dict[tuple[float | None, int, int | None], Effort] = {}
        self._maker = IndexMaker(self)
        self.kept_queries: list[NDArray[np.float32]] = []
        self.selections: dict[
            tuple[Any, ...], tuple[int, NDArray[np.int64]]
        ] = {}  # by filter: (of so many events, rows)
        self._bitmap: tuple[Any, tuple[Any, ...], NDArray[np.uint8]] | None = None  # of the filter before
        self._asked = self._measure_at = 0
        self._local = threading.local()
        self.is_held = False  # another generation serves: the one before, whose index may come here, or one after
        self.index_error = ""  # why the index was given up, if it was
        self.pages_error = ""  # why the generation's pages were not used, if they were not

    # -- writing (under the index lock) -------------------------------------------------------------------------

    def append(self, id_: int, scale: float, codes: memoryview) -> int:
        """Add a row and return its index; not visible to a reader before the store publishes it."""
        row = self.add(id_, scale, codes)
        index = self._index
        if index is not None:
            waiting = self.codes.count - index.rows
            if waiting == TAIL_ROWS or (waiting > TAIL_ROWS and row % TAIL_ROWS == 0):
                behind = waiting >= CATCH_UP_ROWS
                with self._maker.filling:
                    self._fill(CATCH_UP_ROWS, 2 * _SPLITS if behind else _SPLITS)
                if behind and not self._maker.busy:
                    self._maker.start(self._maker.bring_nearer, "aeon-index")
        if row % CHUNK_RECORDS == 0:
            self.start_index()
        return row

    def kill(self, row: int, lsn: int) -> None:
        """Take a row out of every search that begins at `lsn` or later."""
        if self.end(row, lsn):
            index = self._index
            if index is not None and row < index.rows:
                with self._maker.filling:
                    self._follow(index.note_death)

    def bring_nearer(self) -> bool:
        """Put the next rows into an index that is far behind, for the thread that makes indexes; whether it was."""
        index = self._index
        if index is None or self.codes.count - index.rows < CATCH_UP_ROWS:
            return False
        self._fill(TAIL_ROWS, _SPLITS)
        return True

    def _fill(self, most: int, splits: int) -> None:
        """Put the next rows into pages."""
        index = self._index
        if index is not None and self.codes.count > index.rows:
            first = index.rows
            self._follow(lambda: index.insert(first, min(self.codes.count, first + most), splits))

    def _follow(self, change: Callable[[], None]) -> None:
        """Change the index. It is derived: if that fails it is given up and scans serve, but the commit stands."""
        try:
            change()
        except Exception as error:  # noqa: BLE001
            self._index = None
            self.index_error = f"{type(error).__name__}: {error}"

    # -- reading ------------------------------------------------------------------------------------------------

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        rows: int,
        lsn: int,
        among: NDArray[np.int64] | None = None,
        exact: bool = False,
        recall_target: float | None = None,
        beam: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the best rows and their cosines, best first; equal scores in the order they were remembered.

        Parameters
        ----------
        query : float32[dim], C. k : how many; fewer come back only if fewer rows match.
        rows, lsn : the snapshot: rows below `rows` that had not ended by `lsn`.
        among : int64[m], increasing: only these rows; None = all.
        exact : score every row. recall_target : share of the exact result that is to be found, on average; None = 0.95.
        beam : how many groups of pages are descended into; None = 4 and one more for 8 pages.

        Every row is searchable, so a working set (say the best 1,024, and the score of the last) is a search with that k.
        """
        found, scores, counts = self.search_many(
            query[None], k, rows=rows, lsn=lsn, among=among, exact=exact, recall_target=recall_target, beam=beam
        )
        count = counts.item(0)
        if count == scores.shape[1]:
            return found[0], scores[0]
        return found[0, :count], scores[0, :count]

    def search_many(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        rows: int,
        lsn: int,
        among: NDArray[np.int64] | None = None,
        exact: bool = False,
        recall_target: float | None = None,
        beam: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """`search` for each row of `queries` float32[n, dim]: (rows int64[n, k], cosines float32[n, k], counts int64[n]).

        What lies behind a query's count is undefined. `k` is cut to the number of rows.
        """
        k = min(k, rows if among is None else len(among))
        scores, found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        counts = np.zeros(len(queries), np.int64)
        index = None if exact else self._index_for(rows, among, k)
        if index is None:
            for n, query in enumerate(queries):
                count = self._scan(query, 0, rows, lsn, among, scores[n], found[n])
                dispatch.kernels.finish_topk(scores[n], found[n], count)
                counts[n] = count
            return found, scores, counts
        self._asked += 1
        if not self._asked % _QUERY_SAMPLE or self._asked <= _REAL_QUERIES:
            self._keep_query(queries[0])
        if among is None:
            effort = self._effort(recall_target, k, beam)
        else:  # the nearest pages may hold no row that is allowed: how near the others are says nothing then
            target = RECALL_TARGET if recall_target is None else recall_target
            probes = _ALIKE * self._curve.probes_for(target, k) * rows / len(among)
            effort = _effort_of(probes, math.inf, probing.eps0_for(target), beam)
        self._search_shared(index, queries, effort, rows, lsn, among, scores, found, counts)
        return found, scores, counts

    def search_ids(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        rows: int,
        lsn: int,
        among: NDArray[np.int64] | None = None,
        exact: bool = False,
        recall_target: float | None = None,
        beam: int | None = None,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """`search_many` as (ids uint64[n, k], cosines float32[n, k]); id 0 and -inf stand where nothing was found."""
        if len(queries) == 1:
            if among is not None:
                if exact or self._index_for(rows, among, k) is None:
                    return self._search_listed(queries[0], k, rows, lsn, among)
            elif not exact:
                answer = self.search_one(queries[0], k, rows, lsn, recall_target, beam)
                if answer is not None:
                    return answer
        found, cosines, counts = self.search_many(
            queries, k, rows=rows, lsn=lsn, among=among, exact=exact, recall_target=recall_target, beam=beam
        )
        scores, ids = cosines, np.empty((len(queries), k), _U64)
        if cosines.shape[1] < k:
            scores = np.empty(ids.shape, _F32)
            scores[:, : cosines.shape[1]] = cosines
        dispatch.kernels.name_rows(self.row_context(rows).ctx, found, counts, scores, ids)
        return ids, scores

    def search_one(
        self, query: NDArray[np.float32], k: int, rows: int, lsn: int, recall_target: float | None,
        beam: int | None = None,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]] | None:  # fmt: skip
        """`search_ids` for one query, the short way of the common case: one kernel call.

        None if that does not do: the query is not a float32[dim], C, no index serves, or it has yet to learn what this target
        takes, or fewer than k were found.
        """
        if (
            type(query) is not np.ndarray or query.dtype is not _F32 or query.shape != (self.dim,) or query.strides != _PACKED
        ):  # fmt: skip
            return None
        index, effort = self._index, self._efforts.get((recall_target, k, beam))
        if index is None or effort is None or not (self._whole or self._all_verified) or 4 * k > rows:
            return None
        snapshot = index.snapshot
        # Looked at after the snapshot was taken: what it has lost by then stands here.
        if rows > snapshot.reach or (self._ended_lsns and len(self._ended_after(lsn, rows))):
            return None
        self._asked += 1
        if not self._asked % _QUERY_SAMPLE or self._asked <= _REAL_QUERIES:
            self._keep_query(query)
        found, scores, ids = dispatch.kernels.search_one(snapshot.ctx, query, rows, lsn, *_within(effort, snapshot), k)
        if found == k:
            return ids, scores
        if found < 0:
            raise refuse_vector(query[None], 0, "query")
        return None

    def _search_listed(
        self, query: NDArray[np.float32], k: int, rows: int, lsn: int, among: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """`search_ids` for one query that scores each row of `among`: one kernel call and two arrays."""
        listed = among[: np.searchsorted(among, rows)] if len(among) and among[-1] >= rows else among
        self._verify_listed(listed)
        scores, ids = np.empty((1, k), _F32), np.empty((1, k), _I64)
        count = dispatch.kernels.search_rows(self.row_context(rows).ctx, query, listed, lsn, scores[0], ids[0], 0, True)
        if count < 0:
            raise refuse_vector(query[None], 0, "query")
        if count < k:
            scores[0, count:], ids[0, count:] = -np.inf, 0
        return ids.view(_U64), scores

    def _search_shared(
        self, index: PageIndex, queries: NDArray[np.float32], effort: Effort, rows: int, lsn: int,
        among: NDArray[np.int64] | None, scores: NDArray[np.float32], found: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """`_search_index` on one thread, or on two if there are many queries."""
        if len(queries) < _SHARED_FROM:
            self._search_index(index, queries, effort, rows, lsn, among, scores, found, counts)
            return
        size = -(-len(queries) // 8)
        starts = iter(range(0, len(queries), size))  # shared by both threads; `next` is one step under the GIL

        def run() -> None:
            for first in starts:
                part = slice(first, first + size)
                self._search_index(
                    index, queries[part], effort, rows, lsn, among, scores[part], found[part], counts[part]
                )

        in_two(run)

    def _effort(self, asked: float | None, k: int, beam: int | None) -> Effort:
        """What to do for a recall target; None = 0.95."""
        target = RECALL_TARGET if asked is None else asked
        effort = self._efforts.get((asked, k, beam))
        if effort is None:
            efforts = self._efforts
            if len(efforts) > 1000:
                efforts.clear()
            probes = self._curve.probes_for(target, k)
            effort = _effort_of(probes, self._curve.spread_for(probes), probing.eps0_for(target), beam)
            efforts[asked, k, beam] = effort
        return effort

    def use_curve(self, curve: Curve) -> None:
        """Turn recall targets into probes by this curve from here on."""
        self._curve, self._efforts = curve, {}

    def _search_index(
        self, index: PageIndex, queries: NDArray[np.float32], effort: Effort, rows: int, lsn: int,
        among: NDArray[np.int64] | None, scores: NDArray[np.float32], found: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Search the pages and what is in none yet; looks at more pages until k rows are found or none is left."""
        snapshot = index.snapshot
        k = scores.shape[1]
        stop = min(rows, snapshot.reach)
        # Looked at after the snapshot was taken: what it has lost by then stands here.
        ended = self._ended_after(lsn, stop)
        allowed = _ALL if among is None else self._bitmap_of(among, rows)
        scanned_from, scanned = stop, among
        if len(ended):
            if among is not None:
                ended = ended[np.isin(ended, among)]
            allowed = _without(allowed, ended, rows)
            scanned_from, scanned = 0, np.concatenate([ended, _tail(among, stop, rows)])
        while True:
            if scanned_from < rows:
                for n, query in enumerate(queries):
                    counts[n] = self._scan(query, scanned_from, rows, lsn, scanned, scores[n], found[n])
            self._search_pages(snapshot, queries, effort, rows, lsn, allowed, scores, found, counts)
            if counts.min() >= k or (effort.probes >= snapshot.pages and effort.spread == math.inf):
                break
            effort = Effort(4 * effort.probes, 4 * effort.beam, effort.eps0, math.inf)
            counts[:] = 0
        if not self._all_verified:
            for n in range(len(queries)):
                self._verify_rows(found[n, : counts[n]])
            self._verify_some()

    def search_index(
        self, index: PageIndex, query: NDArray[np.float32], k: int, probes: float, spread: float, eps0: float, rows: int,
        lsn: int,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Cosines of the best rows, best first, by looking at so many pages: what a curve is measured by."""
        scores, found = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        counts = np.zeros(1, np.int64)
        effort = _effort_of(probes, spread, eps0)
        self._search_index(index, query[None], effort, rows, lsn, None, scores, found, counts)
        return scores[0, : counts[0]]

    def _bitmap_of(self, among: NDArray[np.int64], rows: int) -> NDArray[np.uint8]:
        """`_bitmap`, or the one of the search before: a filter that is asked again gives a view of the same array."""
        owner = among if among.base is None else among.base
        key, kept = (among.ctypes.data, among.strides, len(among), rows), self._bitmap
        if kept is not None and kept[0] is owner and kept[1] == key:
            return kept[2]
        allowed = _bitmap(among, rows)
        self._bitmap = owner, key, allowed
        return allowed

    def _search_pages(
        self, snapshot: Snapshot, queries: NDArray[np.float32], effort: Effort, rows: int, lsn: int,
        allowed: NDArray[np.uint8], scores: NDArray[np.float32], found: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """One kernel call; the working memory is this thread's own."""
        local = self._local
        try:
            scratch, stats = local.scratch, local.stats
        except AttributeError:
            scratch = local.scratch = np.empty(scratch_bytes(padded_dim(self.dim)), np.uint8)
            stats = local.stats = np.zeros(3, np.int64)
        bad = dispatch.kernels.search_pages(
            snapshot.ctx, queries, rows, lsn, *_within(effort, snapshot), allowed, scratch, scores, found, counts, stats
        )
        if bad >= 0:
            raise refuse_vector(queries, bad, "query")

    def _scan(
        self, query: NDArray[np.float32], first: int, stop: int, lsn: int, among: NDArray[np.int64] | None,
        scores: NDArray[np.float32], found: NDArray[np.int64],
    ) -> int:  # fmt: skip
        """Offer the rows `first` to `stop` to an empty top k; how many it holds then, not yet sorted."""
        kernels = dispatch.kernels
        count = 0
        if among is not None:
            listed = among[slice(*np.searchsorted(among, (first, stop)))]
            self._verify_listed(listed)
            count = kernels.search_rows(self.row_context(stop).ctx, query, listed, lsn, scores, found, 0)
            if count < 0:
                raise refuse_vector(query[None], 0, "query")
            return count
        prepared, scale = self.prepare(query)
        if not len(scores):
            return count
        deaths = self.deaths
        for begin, codes in self.codes.runs(stop, first):
            end = begin + len(codes)
            self._verify(begin, end)
            records, position = self.rows.locate(begin)
            scales = records["scale"][position : position + len(codes)]
            ended, at = deaths.locate(begin)
            died = ended["lsn"][at : at + len(codes)]
            vectors = codes.view(np.int8 if self.quantised else np.float32)
            if self.quantised:
                count = kernels.scan_int8(
                    vectors, scales, died, lsn, prepared, scale, _ALL, begin, scores, found, count
                )
            else:
                count = kernels.scan_f32(vectors, died, lsn, prepared, _ALL, begin, scores, found, count)
        return count

    # -- the index ----------------------------------------------------------------------------------------------

    @property
    def index(self) -> PageIndex | None:
        """The page index, if one serves."""
        return self._index

    @property
    def curve(self) -> Curve:
        """What recall targets are turned into probes by."""
        return self._curve

    def _index_for(self, rows: int, among: NDArray[np.int64] | None, k: int) -> PageIndex | None:
        """The index if it pays for such a search; begins to make one if there is none yet."""
        if 4 * k > (rows if among is None else len(among)):
            return None
        index = self._index
        if index is None:
            self.start_index()
            return None
        if among is not None and (len(among) <= _GATHER_ROWS or len(among) < _GATHER_SHARE * rows):
            return None
        return index

    def _keep_query(self, query: NDArray[np.float32]) -> None:
        """Remember a query, and measure the curve with those kept when it is due."""
        kept = self.kept_queries
        if len(kept) < _REAL_QUERIES:
            kept.append(query.copy())
        else:  # a random one goes, so that those kept are spread over many conversations
            kept[int(random.random() * _REAL_QUERIES)] = query.copy()
        due = self._asked >= self._measure_at or self._has_grown
        if due and len(kept) >= REAL_QUERIES_MIN and self._asked % 64 == 0 and not self._maker.busy and not self.is_held:
            self._measure_at = min(2 * self._asked, self._asked + _MEASURE_EVERY)
            self._maker.start(self._maker.renew, "aeon-calibrate")

    def start_index(self) -> None:
        """Begin to make the index, or to take it from its file, if it is not there; or to measure one that has grown."""
        if (
            self.codes.count >= INDEX_FROM_ROWS
            and (self._index is None or self._has_grown)
            and not self.is_held
            and not self._maker.busy
            and not self._maker.error
            and not self.index_error
            and dispatch.ready()
        ):
            maker = self._maker
            maker.start(maker.make if self._index is None else maker.measure, "aeon-index")

    @property
    def _has_grown(self) -> bool:
        return self.living > _GROWTH * self._curve.rows

    @property
    def living(self) -> int:
        """Rows, without those that ended since the generation was written: a store of replaced memories does not grow."""
        return self.codes.count - len(self._ended_rows)

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until an index that is due is there and its curve measured; whether an index serves.

        Waits for compiled kernels too. For benchmarks, tests, and callers that prefer a slow start.
        """
        if self.codes.count >= INDEX_FROM_ROWS:
            dispatch.start()
            dispatch.wait(timeout)
            self.start_index()
            self._maker.wait(timeout)
        return self._index is not None

    def stop_background(self) -> None:
        """Give up what is being made in the background."""
        self._maker.stop()

    def load_index(self, *, copy: bool = False) -> PageIndex | None:
        """The index as the generation's file holds it; None if there is none, or it is damaged: it is derived.

        copy : leave the mapping to the index that serves; only one may go on filling the pages where they lie.
        """
        file = self._files.get(FileKind.PAGES)
        if file is None:
            return None
        try:
            stored = decode_pages(file.content())
            if stored.dim != padded_dim(self.dim) or stored.rows > self.codes.base_count:
                raise ValueError(f"pages of {stored.rows} rows of {stored.dim} dims")
        except (CorruptionError, ValueError) as error:
            self.pages_error = str(error)
            return None
        index = PageIndex(self, self.dim, self.seed)
        blocks = stored.blocks.copy() if copy else stored.blocks
        index.load(stored.groups, stored.pages, blocks, stored.rows)
        if stored.curve is not None:
            self.use_curve(stored.curve)
        return index

    def encode_pages(
        self, snapshot: Snapshot, rows: int, moved: NDArray[np.int64], pause: Callable[[], None]
    ) -> tuple[int, Iterator[NDArray[np.uint8]]]:
        """Length and parts of a pages file's content, of what `snapshot` shows; see `page_file.encode_pages`."""
        return encode_pages(snapshot, padded_dim(self.dim), self._curve, rows, moved, pause)

    def take_over(self, old: Atlas) -> None:
        """Go on with the index that serves in `old` or is made there: rows have the same numbers; under the index lock."""
        self._maker = old._maker
        self._maker.go_along(self)

    def use_index(self, index: PageIndex) -> None:
        """Let an index of these rows serve; `index` itself is changed no more."""
        self._index = index.handed_to(self)

    def unscanned(self) -> AbstractContextManager[object]:
        """Within it nothing in the background reads all rows, which would bring a whole mapping into memory."""
        return self._maker.scanning

    def learn_from(self, old: Atlas) -> None:
        """Go on with what `old` knows of its queries, and with its curve, which may have been measured since."""
        self.kept_queries, self._asked, self._measure_at = old.kept_queries, old._asked, old._measure_at
        if old._curve.rows:
            self.use_curve(old._curve)

    def serve(self, stopping: Callable[[], bool]) -> None:
        """Make the index from this generation's pages, now."""
        if FileKind.PAGES in self._files and dispatch.ready():
            self._maker.do(self._maker.make, stopping)

    def warm(self, pause: Callable[[], None]) -> None:
        """Verify what was mapped, so that no search after a swap has to.

        Rows are let go of again: the generation before has them in memory, and both at once would be twice the rows.
        """
        for chunk in range(len(self._verified)):
            first, end = chunk * CHUNK_RECORDS, (chunk + 1) * CHUNK_RECORDS
            self._verify(first, end)
            self._files[FileKind.CODES].let_go(first * self.stride, min(end, self.codes.base_count) * self.stride)
            pause()
        _ = self.deaths, self._all_verified

    def check_pages(self) -> list[str]:
        """What is wrong with the generation's pages: each living row has to be in exactly one, with its own sketch."""
        file = self._files.get(FileKind.PAGES)
        if file is None:
            return []
        index = self.load_index(copy=True)
        return [self.pages_error] if index is None else index.verify()


def _effort_of(probes: float, spread: float, eps0: float, beam: int | None = None) -> Effort:
    """What to do for so many pages on average."""
    count = math.ceil(probes)
    return Effort(count if spread == math.inf else _MOST * count, beam or _BEAM + count // 8, eps0, spread)


def _within(effort: Effort, snapshot: Snapshot) -> Effort:
    """The same among the pages that there are."""
    if effort.probes < snapshot.pages:
        return effort
    groups = effort.beam if effort.spread < math.inf else snapshot.groups
    return Effort(snapshot.pages or 1, groups or 1, effort.eps0, effort.spread)


def _without(allowed: NDArray[np.uint8], rows: NDArray[np.int64], stop: int) -> NDArray[np.uint8]:
    """A bitmap of the rows below `stop` without `rows`; an empty one allowed every row."""
    mask = np.ones(stop, bool) if not len(allowed) else np.unpackbits(allowed, count=stop, bitorder="little")
    mask[rows] = 0
    return np.packbits(mask, bitorder="little")


def _tail(among: NDArray[np.int64] | None, first: int, stop: int) -> NDArray[np.int64]:
    return np.arange(first, stop) if among is None else among[np.searchsorted(among, first) :]


def _bitmap(rows: NDArray[np.int64], stop: int) -> NDArray[np.uint8]:
    """Bit i is set if row i, below `stop`, is among `rows`, which increase."""
    mask = np.zeros(stop, bool)
    mask[rows[: np.searchsorted(rows, stop)]] = True
    return np.packbits(mask, bitorder="little")
