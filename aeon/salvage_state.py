"""What ended when: which salvaged memories are current, replaced or forgotten, and what each key names.

Commits tell it, applied in order; for the generation its table of deaths tells it better, where ids are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aeon.format import SUPERSEDED, OpFlag
from aeon.key_table import encode_key
from aeon.operations import decode_extra
from aeon.salvage_blobs import Salvaged


class State:
    """The state after what was applied so far; it begins with the generation's commits.

    Parameters
    ----------
    memories : those that the generation holds, by id; taken over, and added to.
    tombstones : (LSN, ids) of what its commits forgot.

    Attributes
    ----------
    memories : whole ones by id, whether or not they have ended. forgotten : ids that a whole commit forgot.
    ended : DEATH by id, as the table of deaths has it; empty without the table.
    doubtful : ids that may have ended though they are current here. doubts : why.
    """

    def __init__(self, memories: dict[int, Salvaged], tombstones: Sequence[tuple[int, list[int]]]) -> None:
        self.memories = memories
        self.forgotten: set[int] = set()
        self.ended: dict[int, int] = {}
        self.doubtful: set[int] = set()
        self.doubts: list[str] = []
        self._keys: dict[bytes, int] = {}  # the current memory of each key
        self._replaced: dict[int, int] = {}  # the version before each version
        made = [(memory.lsn, memory.id, memory, None) for memory in memories.values()]
        forgot = [(lsn, 1 << 63, None, ids) for lsn, ids in tombstones]
        for _, _, memory, ids in sorted([*made, *forgot], key=lambda entry: entry[:2]):
            if memory is not None:
                self.remember(memory)
            else:
                self.forget(ids or [], 0, chain=False)  # a tombstone names every version

    @property
    def readable(self) -> Iterator[Salvaged]:
        """Memories that `get` would show, by increasing id."""
        for id_, memory in sorted(self.memories.items()):
            if memory.is_readable and id_ not in self.forgotten:
                yield memory

    def use_deaths(self, ids: NDArray[np.uint64], deaths: NDArray[np.uint64], *, damaged: bool) -> None:
        """Let the table of deaths decide; it goes by the index of events, so their ids have to be known.

        ids, deaths : uint64[n] each; id 0 = not known. damaged : whether blobs that told of ends may be gone.
        """
        self.ended = dict(zip(ids.tolist(), deaths.tolist(), strict=True))
        self.ended.pop(0, None)
        unaligned = []
        for memory in self.memories.values():
            if memory.id in self.ended:
                memory.death = self.ended[memory.id]
            else:
                unaligned.append(memory.id)
        if unaligned and damaged:
            self.doubts.append(f"whether {len(unaligned)} memories had ended is not certain: their events are damaged")
            self.doubtful = set(unaligned)

    def doubt_all(self, why: str) -> None:
        """Every memory so far may have ended."""
        self.doubts.append(why)
        self.doubtful = set(self.memories)

    def rebuild_keys(self) -> None:
        """Find what each key names, and which version replaced which, from the memories and their ends."""
        self._keys, self._replaced = {}, {}
        versions: dict[bytes, int] = {}
        for id_ in sorted(self.memories):
            memory = self.memories[id_]
            key = _key_of(memory) if memory.is_readable else None
            if key is None:
                continue
            if key in versions:
                self._replaced[id_] = versions[key]
            versions[key] = id_
            if not memory.death:
                self._keys[key] = id_

    def remember(self, memory: Salvaged) -> None:
        """Apply what made a memory: it replaces the one that its key named."""
        self.memories[memory.id] = memory
        key = _key_of(memory)
        if key is None:
            return
        old = self._keys.get(key)
        if old is not None:
            before = self.memories[old]
            if not before.death:
                before.death = memory.lsn | SUPERSEDED
            self._replaced[memory.id] = old
        self._keys[key] = memory.id

    def forget(self, ids: Sequence[int], lsn: int, *, chain: bool = True) -> None:
        """Apply a forget: of `ids` and, if `chain`, of every version that they replaced. lsn : its commit, 0 = not known."""
        pending = list(ids)
        while pending:
            id_ = pending.pop()
            if id_ in self.forgotten:
                continue
            self.forgotten.add(id_)
            memory = self.memories.get(id_)
            if memory is None:
                continue
            memory.death = lsn or 1
            key = _key_of(memory)
            if key is not None and self._keys.get(key) == id_:
                del self._keys[key]
            if chain and id_ in self._replaced:
                pending.append(self._replaced[id_])


def _key_of(memory: Salvaged) -> bytes | None:
    """The encoded key of a memory, None if it has none."""
    operation = memory.operation
    if not operation.flags & OpFlag.KEY:
        return None
    extra = decode_extra(operation.extra)
    return encode_key(extra.namespace, extra.key or "")
