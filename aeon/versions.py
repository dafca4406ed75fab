"""Versions of a memory, and the sessions a session descends from."""

from __future__ import annotations

import numpy as np

from aeon.engine import View
from aeon.format import EdgeKind
from aeon.traversal import into, out_of

_REPLACES = frozenset({EdgeKind.REPLACES})


def versions_of(view: View, id_: int) -> list[int]:
    """Ids of every version that can be read of the memory that `id_` is a version of, oldest first."""
    older, newer = [], []
    at = id_
    while True:
        before = out_of(view, np.array([at], np.uint64), _REPLACES).dst
        if not len(before):
            break
        at = int(before[0])
        older.append(at)
    at = id_
    while True:
        after = into(view, np.array([at], np.uint64), _REPLACES).src
        if not len(after):
            break
        at = int(after[0])
        newer.append(at)
    return [*reversed(older), id_, *newer]


def lineage(view: View, session: int) -> list[tuple[int, int]]:
    """(session, id of the last event of it that counts; 0 = all): the session itself first, then what it branched off."""
    branches = view.engine.trace.names.branches
    found = [(session, 0)]
    while (branch := branches.get(session)) is not None and branch[1] <= view.lsn:
        last, _, session = branch
        if any(session == before for before, _ in found):
            break  # cannot be made by the calls; a damaged table must not hang
        found.append((session, last))
    return found
