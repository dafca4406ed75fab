"""The bare vector layer of a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aeon import intake
from aeon.engine import View
from aeon.palace import Group, Page, browse
from aeon.recall import Effort, search_batch, search_without_hubs
from aeon.rows import as_vectors


class Source(Protocol):
    """What a search asks of a store, or of a pin."""

    def _view(self) -> View: ...
    def _effort(self, exact: bool, recall_target: float | None) -> Effort: ...


_PLAIN = (float, type(None))


class AtlasView:
    """The bare vector layer: arrays in, arrays out, no Python object per row."""

    __slots__ = ("_source",)

    def __init__(self, source: Source) -> None:
        self._source = source

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
        source = self._source
        view = source._view()
        if (
            session is None and namespace is None and since is None and until is None and roles is None and beam is None
            and not (exact or hub_correction) and type(k) is int and recall_target.__class__ in _PLAIN
            and not view.engine.trace.graph.archives
        ):  # fmt: skip
            if recall_target is None:
                recall_target = source._effort(False, None).recall_target
            # A target or a k that no search was allowed before is not known to the Atlas.
            found = view.engine.atlas.search_one(vectors, k, view.rows, view.lsn, recall_target)
            if found is not None:
                return found
        count = intake.check_count(k, "k")
        effort = self._source._effort(exact, recall_target)
        if beam is not None:
            effort = effort._replace(beam=intake.check_count(beam, "beam"))
        search = search_without_hubs if hub_correction else search_batch
        return search(
            view, as_vectors(vectors, view.engine.atlas.dim, "query"), count,
            intake.make_filters(session, namespace, None, since, until, roles), effort,
        )  # fmt: skip

    def groups(self) -> list[Group]:
        """Browse the palace from above: groups of pages, whose `children` are the pages; see `pages`."""
        return browse(self._source._view())

    def pages(self) -> list[Page]:
        """Browse the palace: pages of memories that lie near to each other, with centroid, size, medoid and members.

        Without an index (a small store) pages are made for this call, in a second or so. A page is what it was when it was
        asked for, and keeps the memory of that alive. Raises CorruptionError for a damaged row.
        """
        return [page for group in browse(self._source._view()) for page in group.children]

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the index holds the rows there are (it is built in the background from 8,192 rows on).

        Returns whether it serves; False in a smaller store, or after `timeout` seconds. Searches need not wait: until
        then every row is scanned.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            atlas = self._source._view().engine.atlas
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            serves = atlas.settle(left)
            # A generation that was swapped in meanwhile has an index of its own, and the old one's was given up.
            if self._source._view().engine.atlas is atlas or left == 0:
                return serves

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._source._view().engine.atlas.dim

    def __len__(self) -> int:
        """How many rows there are, those of forgotten and replaced memories included."""
        return self._source._view().rows
