"""A working set: the rows that are near one query, kept so that the next query like it is answered from them.

Made by a search wider than an answer, off the caller's thread. It holds no engine and no row, only their numbers: it
serves views of the engine it was made from (`Engine.serial`), from its own LSN on. What makes it right is in
`aeon_native.reference_slb`: rows are scored anew, dead ones are dropped, later ones are scanned, and a bound proves that
no other row belongs to the answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.engine import View
from aeon_native import dispatch
from aeon_native.page_layout import padded_dim, scratch_bytes
from aeon_native.reference_slb import ENTRY_FIELDS

CANDIDATES = 1024
DEPTH = 256  # rows that are scored where no proof is asked for (docs/decisions/0010)
_LATER_MAX = 256  # a set serves until so many rows came since; a scan of them takes two microseconds


class WorkingSet:
    """Candidates of one query, best first.

    Attributes
    ----------
    center : float32[padded dim], unit: the query. complete : whether a bound on all other rows is known.
    scores : float32[n], of the candidates with that query, best first.
    """

    __slots__ = ("_keep", "center", "complete", "entry", "lsn", "rows", "scores", "serial")

    def __init__(self, view: View, query: NDArray[np.float32], *, complete: bool) -> None:
        atlas = view.engine.atlas
        found, scores = atlas.search(query, CANDIDATES, rows=view.rows, lsn=view.lsn, exact=complete)
        outside = math.inf
        if complete:
            outside = -math.inf if len(found) < CANDIDATES else float(scores[-1])
        graph = view.engine.trace.graph
        if graph.archives:
            shown = ~graph.archived_mask(atlas.ids(found), view.lsn)
            found, scores = found[shown], scores[shown]
        scales = np.ascontiguousarray(
            atlas.rows.take(found, "scale")
        )  # rows lie all over the memory, and so do records
        prepared, scale = atlas.prepare(query)
        width = padded_dim(atlas.dim)
        packed = np.zeros(width, prepared.dtype)
        packed[: len(prepared)] = prepared[:width]
        self.serial, self.lsn, self.rows, self.complete = view.engine.serial, view.lsn, view.rows, complete
        values: dict[str, int] = {
            "center": packed.ctypes.data,
            "candidates": found.ctypes.data,
            "old_scores": scores.ctypes.data,
            "scales": scales.ctypes.data,
            "count": len(found),
            "rows": view.rows,
        }
        floats = {
            "center_scale": scale,
            "longest": atlas.longest(view.rows) if complete else 1.0,  # without a bound nothing is proven
            "outside": outside,
            "slack": 3e-6 + (0 if atlas.quantised else 2e-7 * (width / 16 + 8)),
        }
        self.entry = np.array([values.get(name, 0) for name in ENTRY_FIELDS], np.int64)
        for name, value in floats.items():
            self.entry.view(np.float64)[ENTRY_FIELDS.index(name)] = value
        self.center = unit(query)
        self.scores = scores
        self._keep = (packed, found, scores, scales)

    @property
    def bytes(self) -> int:
        """Memory it takes, about."""
        return sum(array.nbytes for array in self._keep) + self.center.nbytes + 600

    def serves(self, view: View) -> bool:
        """Whether it is of the view's engine, not newer than the view, not much older, and nothing was archived since."""
        engine, changed = view.engine, view.engine.trace.graph.archives_changed
        return self.serial == engine.serial and changed <= self.lsn <= view.lsn and view.rows - self.rows <= _LATER_MAX

    def answer(
        self, view: View, query: NDArray[np.float32], k: int, tau: float, *, prove: bool
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32], float, bool]:
        """The k best of the set and of later rows: (ids uint64[n], scores float32[n], cosine, whether that is proven).

        Nothing below a cosine of tau. Fewer than k come back if fewer are alive; they are all there are only if it is proven.
        """
        atlas = view.engine.atlas
        context = atlas.row_context(view.rows)
        scores, ids, out = np.empty(k, np.float32), np.empty(k, np.int64), np.empty(3)
        count = dispatch.kernels.rescore(
            context.ctx, self.entry, query, view.rows, view.lsn, tau, CANDIDATES if prove else max(DEPTH, 8 * k), prove,
            np.empty(scratch_bytes(len(self.center)), np.uint8), scores, ids, out, True,
        )  # fmt: skip
        if count < k:
            scores, ids = scores[: max(count, 0)], ids[: max(count, 0)]
        return ids.view(np.uint64), scores, out.item(0), out.item(1) == 1


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    """`vector` as a unit vector, padded: float32[stride], stride a multiple of 64."""
    out = np.zeros((1, padded_dim(len(vector))), np.float32)
    dispatch.kernels.normalize(np.ascontiguousarray(vector, np.float32)[None], out)
    return out[0]
