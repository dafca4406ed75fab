"""Making the page index: all at once, anew when it has grown by splits, and measuring what recall it gives.

One thread does this beside readers and writers. A checkpoint that leaves rows their numbers does not end it: it goes along
to the Atlas of the new generation with what it is doing, or a store that is filled fast would never get its first index.
"""

from __future__ import annotations

import math
import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aeon import probing
from aeon.background import Background
from aeon.pages import PageIndex
from aeon_native import dispatch
from aeon_native.page_layout import padded_dim, scratch_bytes

if TYPE_CHECKING:
    from aeon.atlas import Atlas
    from aeon.background import Stopping

TAIL_ROWS = 64  # rows that wait to go into pages together: a scan of them costs less than a microsecond
CATCH_UP_ROWS = 256  # and of an index that is behind so many at once
REAL_QUERIES_MIN = 128
_CALIBRATION_QUERIES = 1024  # their recall varies by 0.2: its mean is known to 0.006
_CALIBRATION_BYTES = 192 << 30  # of rows read by one calibration's exact searches: some 20 s of the background's
_GUESS_ROWS = 1 << 17  # up to so many the index serves before its curve is measured: `probing.UNMEASURED` does
_BUILD_ANEW = 2  # pages are made anew at so many times the rows: those of splits alone take half as many more (decision 11)
_GIVE_WAY_S = 200e-6  # to a commit that waits to fill the index itself
_NOW = (1 << 63) - 1  # an LSN: what has ended by now, has


class _Gone(Exception):
    """Nobody holds the store any more, or its index was given up."""


class IndexMaker:
    """Makes the page index of one Atlas after another, in the background; holds no reference to them."""

    def __init__(self, atlas: Atlas) -> None:
        self._serving = weakref.ref(atlas)
        self._background = Background()
        self._lock = threading.Lock()  # which Atlas serves, and what index it gets; held for some microseconds
        self.filling = threading.Lock()  # held while the index that serves is changed: by commits, or from here
        self.scanning = threading.Lock()  # held while all rows are read; who holds it keeps that from happening
        self._making: PageIndex | None = None

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._background.busy

    @property
    def error(self) -> str:
        """What went wrong the last time."""
        return self._background.error

    def start(self, work: Callable[[Stopping], None], name: str) -> None:
        """Do `work`, which is one of `make`, `measure`, `renew`, `bring_nearer`, unless something is under way."""
        self._background.start(lambda stopping: self.do(work, stopping), name)

    def do(self, work: Callable[[Stopping], None], stopping: Stopping) -> None:
        """Do it here; returns early when `stopping` says so, or when nobody holds the Atlas any more."""
        with suppress(_Gone):
            try:
                work(stopping)
                self.bring_nearer(stopping)  # rows may have come meanwhile, and no more of them
            finally:
                self._making = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for what is under way; whether nothing is left."""
        return self._background.wait(timeout)

    def stop(self) -> None:
        """Give up what is under way, and begin nothing any more."""
        self._background.stop()

    def go_along(self, new: Atlas) -> None:
        """From here on `new` serves, whose rows have the same numbers; under the index lock."""
        with self.filling, self._lock:
            index = self._atlas().index
            if index is not None:
                new.use_index(index)
            if self._making is not None:
                self._making.read_from(new)
            self._serving = weakref.ref(new)
            if not self.busy:
                self._background.error = ""  # what failed is tried again once in each generation

    def _atlas(self) -> Atlas:
        atlas = self._serving()
        if atlas is None:
            raise _Gone
        return atlas

    def _served(self) -> PageIndex:
        index = self._atlas().index
        if index is None:
            raise _Gone
        return index

    # -- making -------------------------------------------------------------------------------------------------

    def make(self, stopping: Stopping) -> None:
        """Make the index of all rows there are, or take it from its file; measure its curve, and let it serve."""
        if self._atlas().index is not None:  # made since this was asked for
            return
        self._make(stopping)
        if not self._atlas().curve.rows:
            self.measure(stopping)

    def _make(self, stopping: Stopping) -> None:
        index = self._atlas().load_index()
        if index is not None:
            self._hold(index)
            self._catch_up(index, stopping)
        else:
            index = self._make_whole(stopping)
            if index is None:
                return
        if not self._atlas().curve.rows and index.rows > _GUESS_ROWS:
            self._measure(lambda: index, stopping)
            self._catch_up(index, stopping)
        self._let_serve(index, stopping)

    def renew(self, stopping: Stopping) -> None:
        """Measure the curve; if the index has grown a lot by splits, make a new one before."""
        if self._atlas().codes.count >= _BUILD_ANEW * self._served().built:
            self._renew(stopping)
        self.measure(stopping)

    def _renew(self, stopping: Stopping) -> None:
        index = self._make_whole(stopping)
        if index is not None:
            self._served()  # or it was given up meanwhile
            self._let_serve(index, stopping)  # before its curve: the old one promises less, and so asks for more

    def _make_whole(self, stopping: Stopping) -> PageIndex | None:
        """An index of all rows; None if `stopping` said so meanwhile."""
        atlas = self._atlas()
        index, count = PageIndex(atlas, atlas.dim, atlas.seed), atlas.codes.count
        del atlas
        self._hold(index)
        if not index.build(count, stop=stopping):
            return None
        self._catch_up(index, stopping)
        return index

    def _hold(self, index: PageIndex) -> None:
        """Let an index read the rows of the Atlas that serves, whichever that is by then; it keeps them alive."""
        with self._lock:
            index.read_from(self._atlas())
            self._making = index

    def _let_serve(self, index: PageIndex, stopping: Stopping) -> None:
        with self._lock:
            self._making = None
            if not stopping():
                self._atlas().use_index(index)
        self.bring_nearer(stopping)

    def _catch_up(self, index: PageIndex, stopping: Stopping) -> None:
        """Insert what came while the index was being made; where as much comes meanwhile, the rest goes in as it serves."""
        before, waiting = math.inf, self._atlas().codes.count - index.rows
        while TAIL_ROWS <= waiting <= before / 2:
            end = index.rows + waiting
            while index.rows < end:
                if stopping():
                    return
                index.insert(index.rows, min(end, index.rows + CATCH_UP_ROWS))
            before, waiting = waiting, self._atlas().codes.count - index.rows

    def bring_nearer(self, stopping: Stopping) -> None:
        """Fill the index that serves while it is far behind: it was let in beside writers, who may have stopped since."""
        while not stopping():
            with self.filling:
                if not self._atlas().bring_nearer():
                    return
            time.sleep(_GIVE_WAY_S)

    # -- measuring ----------------------------------------------------------------------------------------------

    def measure(self, stopping: Stopping) -> None:
        """Measure the curve of the index that serves."""
        self._measure(self._served, stopping)

    def _measure(self, look: Callable[[], PageIndex], stopping: Stopping) -> None:
        """Measure recall against exact search, on recent queries or else on rows of the store."""
        rows, pages = look().rows, look().snapshot.pages
        atlas = self._atlas()
        dim, living, kept = atlas.dim, atlas.living, list(atlas.kept_queries)
        real = len(kept) >= REAL_QUERIES_MIN
        most = _CALIBRATION_BYTES if real else _CALIBRATION_BYTES // 16  # the first time a new index waits for it
        count = min(_CALIBRATION_QUERIES, max(96, most // max(1, rows * atlas.stride)))
        if real:
            queries = np.stack(random.sample(kept, min(count, len(kept))))
        else:
            chosen = np.random.default_rng(rows).integers(0, rows, 4 * count)
            chosen = chosen[~atlas.dead(chosen)][:count]
            queries = np.ascontiguousarray(atlas.unit_rows(chosen)[0][:, :dim])
        del atlas

        def search(query: NDArray[np.float32], k: int, probes: int, spread: float, eps0: float) -> NDArray[np.float32]:
            return self._atlas().search_index(look(), query, k, probes, spread, eps0, rows, _NOW)

        def exact(query: NDArray[np.float32], k: int) -> NDArray[np.float32]:
            with self.scanning:
                return self._atlas().search(query, k, rows=rows, lsn=_NOW, exact=True)[1]

        def near(query: NDArray[np.float32]) -> NDArray[np.float32]:
            snapshot = look().snapshot
            scores, slots = np.empty((1, snapshot.pages), np.float32), np.empty((1, snapshot.pages), np.int64)
            counts, scratch = np.zeros(1, np.int64), np.empty(scratch_bytes(padded_dim(dim)), np.uint8)
            dispatch.kernels.nearest_pages(
                snapshot.ctx, query[None], snapshot.groups, probing.EPS0_ALL, scratch, scores, slots, counts
            )
            return scores[0, : counts[0]]

        curve = probing.measure(queries, search, exact, near, living, pages, real=real, stopping=stopping)
        if curve is not None:
            with self._lock:
                self._atlas().use_curve(curve)
