"""The bare vector layer of a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon import intake
from aeon.atlas import as_vectors
from aeon.engine import View
from aeon.palace import Group, Page, browse
from aeon.recall import Effort, search_batch, search_without_hubs


class AtlasView:
    """The bare vector layer: arrays in, arrays out, no Python object per row."""

    __slots__ = ("_effort", "_view")

    def __init__(self, view: Callable[[], View], effort: Callable[[bool, float | None], Effort]) -> None:
        self._view = view
        self._effort = effort

    def search(
        self,
        vectors: Any,
        k: int = 10,
        *,
        session: str | Sequence[str] | None = None,
        namespace: Sequence[str] | None = None,
        since: Any = None,
        until: Any = None,
        roles: str | Sequence[str] | None = None,
        exact: bool = False,
        recall_target: float | None = None,
        beam: int | None = None,
        hub_correction: bool = False,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Search for one query or a batch.

        vectors : float[dim] or float[n, dim]. Returns ids uint64[n, k] and cosines float32[n, k], best first; where fewer
        than k memories match, id 0 and score -inf fill up. Filters, `exact` and `recall_target` as in `recall`; many
        queries are shared between two threads.

        beam : how many groups of pages are descended into. None is what recall targets were measured with; fewer cost less
            and find less, so that the target is no promise any more.
        hub_correction : rank by CSLS, 2 * cosine - the mean cosine of a memory and its ten nearest others, so that what
            is near to everything comes less often; scores are that figure. Costs some dozen searches more for a query.
        """
        view = self._view()
        count = intake.check_count(k, "k")
        effort = self._effort(exact, recall_target)
        if beam is not None:
            effort = effort._replace(beam=intake.check_count(beam, "beam"))
        search = search_without_hubs if hub_correction else search_batch
        return search(
            view, as_vectors(vectors, view.engine.atlas.dim, "query"), count,
            intake.make_filters(session, namespace, None, since, until, roles), effort,
        )  # fmt: skip

    def groups(self) -> list[Group]:
        """Browse the palace from above: groups of pages, whose `children` are the pages; see `pages`."""
        return browse(self._view())

    def pages(self) -> list[Page]:
        """Browse the palace: pages of memories that lie near to each other, with centroid, size, medoid and members.

        Without an index (a small store) pages are made for this call, in a second or so. A page is what it was when it was
        asked for, and keeps the memory of that alive. Raises CorruptionError for a damaged row.
        """
        return [page for group in browse(self._view()) for page in group.children]

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the index holds the rows there are (it is built in the background from 8,192 rows on).

        Returns whether it serves; False in a smaller store, or after `timeout` seconds. Searches need not wait: until
        then every row is scanned.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            atlas = self._view().engine.atlas
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            serves = atlas.settle(left)
            # A generation that was swapped in meanwhile has an index of its own, and the old one's was given up.
            if self._view().engine.atlas is atlas or left == 0:
                return serves

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._view().engine.atlas.dim

    def __len__(self) -> int:
        """How many rows there are, those of forgotten and replaced memories included."""
        return self._view().rows
