"""Reading one snapshot: what `Store`, its pins and `as_of` share. Everything here takes a `View` and no lock."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon import intake
from aeon.engine import View, find
from aeon.errors import InvalidInputError, NotRetainedError
from aeon.recall import Filters, current_events, select_alive
from aeon.results import Memory
from aeon.versions import lineage


def get(view: View, id_: int) -> Memory:
    """A memory by id: a current one, or a version that was replaced. NotFoundError if it was forgotten."""
    checked = intake.check_id(id_)
    return Memory(view.engine, find(view, checked), checked)


def history(view: View, session: str, limit: int | None, before: int | None) -> list[Memory]:
    """A session's newest `limit` current memories in the order they were remembered; with `before`, older than that id."""
    trace = view.engine.trace
    intake.check_name(session, "session")
    wanted = None if limit is None else intake.check_count(limit, "limit")
    hidden_from = None if before is None else intake.check_id(before, "before")
    number = trace.names.session_numbers.get(session)
    if number is None:
        return []
    found: list[NDArray[np.int64]] = []
    count = 0
    for part, last in lineage(view, number):
        for indexes in current_events(view, part, wanted or 0):
            if last:
                indexes = indexes[trace.take(indexes, "id") <= np.uint64(last)]
            if hidden_from is not None:
                indexes = indexes[trace.take(indexes, "id") < np.uint64(hidden_from)]
            found.append(indexes)
            count += len(indexes)
            if wanted is not None and count >= wanted:
                break
        if wanted is not None and count >= wanted:
            break
    if not found:
        return []
    chosen = found[0] if len(found) == 1 else np.concatenate(found[::-1])
    if wanted is not None and len(chosen) > wanted:
        chosen = chosen[-wanted:]
    return list(map(Memory, itertools.repeat(view.engine), chosen.tolist(), trace.take(chosen, "id").tolist()))


def memories(view: View, filters: Filters) -> Iterator[Memory]:
    """All current memories that pass the filters, in the order they were remembered."""
    trace = view.engine.trace
    return (Memory(view.engine, index, trace.event(index).id) for index in select_alive(view, filters))


def view_at(view: View, as_of: Any) -> View:
    """The snapshot as it was after commit `as_of` (an LSN), or before the first memory with a timestamp beyond a datetime.

    NotRetainedError if what had ended since then has left the files. Cost: some dozen reads; for a time, one pass over the
    timestamps.
    """
    engine = view.engine
    lsn = _lsn_at(view, as_of) if isinstance(as_of, datetime) else as_of
    if isinstance(lsn, bool) or not isinstance(lsn, int) or not 0 <= lsn <= view.lsn:
        raise InvalidInputError(f"as_of is an LSN from 0 to {view.lsn}, or a datetime, not {as_of!r}")
    oldest = engine.manifest.history_from
    if lsn < oldest:
        raise NotRetainedError(
            f"this store can be read as of LSN {oldest} and later, not {lsn}: what was forgotten before has left its files"
        )
    events = bisect.bisect_right(range(view.events), lsn, key=engine.lsn_of)
    rows = view.rows
    if events < view.events:
        first_id = engine.event(events).id
        rows = bisect.bisect_left(range(view.rows), first_id, key=lambda row: int(engine.atlas.rows[row]["id"]))
    return View(engine, events, rows, lsn)


def _lsn_at(view: View, when: datetime) -> int:
    limit = intake.as_timestamp(when, "as_of")
    for first, records in view.engine.trace.columns(view.events):
        later = np.flatnonzero(records["timestamp"] > limit)
        if len(later):
            return view.engine.lsn_of(first + int(later[0])) - 1
    return view.lsn
