"""Retention: which memories a sweep is to forget, by their own time to live, their namespace's, age, or a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aeon.columns import CHUNK_RECORDS
from aeon.engine import View, deaths_in
from aeon.format import BLOB, DEATH, EVENT, POSTING, ROW, SUPERSEDED, OpFlag
from aeon.options import Options

_ROW_TABLES_BYTES = 72  # of a row in the pages and in the deaths, about
_EVENT_TABLES_BYTES = DEATH.size + POSTING.size


def is_limited(options: Options) -> bool:
    """Whether the store's options ask for anything that a memory does not ask for itself."""
    return bool(options.ttl or options.max_bytes or not options.keep_versions)


def overdue(view: View, options: Options, now: int) -> list[int]:
    """Ids that the rules say are to be forgotten, increasing. now : microseconds.

    Cost: one pass over the events' columns; metadata of those that expire by themselves is read.
    """
    trace = view.engine.trace
    deaths = deaths_in(view)
    readable = (deaths == 0) | (deaths >= SUPERSEDED)
    gone = np.zeros(view.events, bool)
    for indexes in _chunks(view):
        there = readable[indexes]  # replaced versions too: their text is as old
        if not options.keep_versions:
            gone[indexes] |= deaths[indexes] >= SUPERSEDED
        flags = trace.take(indexes, "flags")
        for index in indexes[there & ((flags & OpFlag.EXPIRES) != 0)].tolist():
            expires = view.engine.extra(index).expires
            gone[index] |= expires is not None and expires <= now
        if options.ttl:
            namespaces, times = trace.take(indexes, "namespace"), trace.take(indexes, "timestamp")
            for namespace, seconds in options.ttl.items():
                prefix = tuple(namespace)
                numbers = [n for n, parts in enumerate(list(trace.names.namespaces)) if parts[: len(prefix)] == prefix]
                old = times <= now - int(seconds * 1e6)
                gone[indexes] |= there & old & np.isin(namespaces, np.array(numbers, np.uint32))
    if options.max_bytes:
        _keep_within(view, options.max_bytes, readable & ~gone, gone)
    chosen = np.flatnonzero(gone & readable)
    return trace.take(chosen, "id").tolist() if len(chosen) else []


def _keep_within(view: View, limit: int, kept: NDArray[np.bool_], gone: NDArray[np.bool_]) -> None:
    """Mark the oldest of `kept` as gone until the rest is within `limit` bytes."""
    sizes = np.zeros(view.events, np.int64)
    trace, row_bytes = view.engine.trace, view.engine.atlas.stride + ROW.size + DEATH.size + _ROW_TABLES_BYTES
    for indexes in _chunks(view):
        sizes[indexes] = (
            trace.take(indexes, "blob_bytes").astype(np.int64) + BLOB.size + EVENT.size + _EVENT_TABLES_BYTES
        )
        sizes[indexes] += row_bytes * (trace.take(indexes, "row") > 0)
    sizes[~kept] = 0
    newest_first = np.cumsum(sizes[::-1])[::-1]
    gone |= kept & (newest_first > limit)


def _chunks(view: View) -> Iterator[NDArray[np.int64]]:
    for first in range(0, view.events, CHUNK_RECORDS):
        yield np.arange(first, min(first + CHUNK_RECORDS, view.events))
