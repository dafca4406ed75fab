"""The key table: from a user's key to the newest version of the memory it names."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from aeon.format import KEY


def encode_key(namespace: Sequence[str], key: str) -> bytes:
    """Return the canonical bytes of a key, msgpack [[namespace...], key]."""
    packed: bytes = msgpack.packb([list(namespace), key])
    return packed


def hash_key(encoded: bytes) -> int:
    """Return the 64-bit hash that the file is sorted by."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


class KeyTable:
    """A sorted base, and what changed since in a dict.

    Parameters
    ----------
    base : KEY[n], sorted by hash.
    key_of : returns the canonical key of a memory in the base (two keys may share a hash).
    """

    def __init__(self, base: NDArray[Any], key_of: Callable[[int], bytes]) -> None:
        self._base = base
        self._hashes = base["hash"]
        self._key_of = key_of
        self._changed: dict[bytes, tuple[int, int]] = {}  # key -> (id, created); id 0 = removed
        self._replaced: set[int] = set()  # base records that `_changed` overrides
        self._history: list[tuple[bytes, int, int, int]] = []  # every change: key, id, created, base record or -1

    def get(self, encoded: bytes) -> tuple[int, int] | None:
        """Return (id of the newest version, timestamp of the first), or None."""
        changed = self._changed.get(encoded)
        if changed is not None:
            return changed if changed[0] else None
        index = self._find(encoded)
        if index < 0:
            return None
        record = self._base[index]
        return int(record["id"]), int(record["created"])

    def _find(self, encoded: bytes) -> int:
        if not len(self._base):
            return -1
        value = hash_key(encoded)
        index = bisect.bisect_left(self._hashes, value)
        while index < len(self._base) and int(self._hashes[index]) == value:
            if index not in self._replaced and self._key_of(int(self._base[index]["id"])) == encoded:
                return index
            index += 1
        return -1

    def set(self, encoded: bytes, id_: int, created: int) -> None:
        """Let the key name `id_`; 0 removes it."""
        index = -1
        if encoded not in self._changed:
            index = self._find(encoded)
            if index >= 0:
                self._replaced.add(index)
        self._changed[encoded] = (id_, created)
        self._history.append((encoded, id_, created, index))

    @property
    def changes(self) -> int:
        """How often `set` was called."""
        return len(self._history)

    def records(self, changes: int | None = None, pause: Callable[[], None] = lambda: None) -> NDArray[Any]:
        """All keys as KEY[n], sorted for the file; as they were after so many `changes`, while others may go on.

        pause : called every few hundred keys.
        """
        keep = np.ones(len(self._base), bool)
        newest: dict[bytes, tuple[int, int]] = {}
        history = self._history[: self.changes if changes is None else changes]
        for at, (key, id_, created, index) in enumerate(history):
            newest[key] = (id_, created)
            if index >= 0:
                keep[index] = False
            if at % 512 == 511:
                pause()
        changed = np.zeros(len(newest), KEY.dtype)
        count = 0
        for at, (key, (id_, created)) in enumerate(newest.items()):
            if id_:
                changed[count] = (hash_key(key), id_, created)
                count += 1
            if at % 256 == 255:
                pause()
        merged = np.concatenate([self._base[keep], changed[:count]])
        return merged[np.lexsort((merged["id"], merged["hash"]))]

    def __len__(self) -> int:
        return len(self._base) - len(self._replaced) + sum(1 for id_, _ in self._changed.values() if id_)
