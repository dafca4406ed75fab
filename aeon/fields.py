"""Fields: what stands in a metadata field, event by event; made when a filter first has to look at many memories.

A column numbers the different values of a field and keeps each event's number, so a condition is asked once for a value and not
for each memory. Columns are in memory only, are continued when newer events are asked for, and move along to a new generation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from aeon.errors import CorruptionError
from aeon.where import MISSING, Metadata, Where, read_field, value_key

_VALUE_BYTES = 200  # that a value takes beside its own: in the list, in the map, as an object
# Bytes in all, and beside them for each event:
_COLUMN_BYTES_MAX = 16 << 20, 260  # a column: one with a long text of its own for each memory is given up
_BYTES_MAX = 64 << 20, 768  # all columns: the one continued longest ago goes
_PIECE = 4096  # events, or values, between two pauses

ReadMetadata = Callable[[NDArray[np.int64]], "Iterable[Metadata | CorruptionError | None]"]


class _Column:
    """One field: `numbers[i]` says which of `values` event i has; 0 = none."""

    def __init__(self) -> None:
        self.values: list[Any] = [MISSING]
        self.numbers = np.zeros(_PIECE, np.uint32)
        self.count = 0  # events that it knows; raised when their numbers stand
        self._value_bytes = 0
        self.containers: list[int] = []  # numbers of lists and mappings
        self._number_of: dict[Any, int] = {}

    @property
    def bytes(self) -> int:
        """Memory it takes, about."""
        return self.numbers.nbytes + self._value_bytes

    def reserve(self, events: int) -> None:
        """Make room; whoever has the array from before may go on reading it."""
        if events > len(self.numbers):
            grown = np.zeros(max(events, 2 * len(self.numbers)), np.uint32)
            grown[: self.count] = self.numbers[: self.count]
            self.numbers = grown

    def number(self, value: Any) -> int:
        """The number of a value, a new one if it is new."""
        key, packed = value_key(value), b""
        if key is None:
            key = packed = msgpack.packb(value)
        number = self._number_of.get(key)
        if number is None:
            number = len(self.values)
            if packed:
                self.containers.append(number)
            self.values.append(value)
            self._number_of[key] = number
            self._value_bytes += _VALUE_BYTES + (len(value) if isinstance(value, str | bytes) else 2 * len(packed))
        return number

    def matching(self, test: Callable[[Any], bool], scalars: Iterable[Any] | None) -> list[int]:
        """Numbers of the values that pass `test`: `Columns.mask`."""
        if scalars is None:
            return [number for number in range(len(self.values)) if test(self.values[number])]
        same = {self._number_of.get(value_key(scalar), 0) for scalar in scalars if scalar == scalar}
        return [*(same - {0}), *(number for number in self.containers.copy() if test(self.values[number]))]


class _Window:
    """Some events of columns, as `Where.mask` reads them."""

    def __init__(self, columns: Mapping[str, _Column], first: int, stop: int) -> None:
        self._columns, self._first, self._stop = columns, first, stop

    def mask(self, path: str, test: Callable[[Any], bool], scalars: tuple[Any, ...] | None) -> NDArray[np.bool_]:
        """See `Columns.mask`."""
        column = self._columns[path]
        passes = np.zeros(len(column.values), bool)
        passes[[number for number in column.matching(test, scalars) if number < len(passes)]] = True
        return passes[column.numbers[self._first : self._stop]]

    def full(self, matching: bool) -> NDArray[np.bool_]:
        """See `Columns.full`."""
        return np.full(self._stop - self._first, matching)


class Fields:
    """Columns of the fields that filters named. They are continued under a lock; reading them takes none."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._lock = threading.Lock()
        self._too_wide: set[str] = set()
        self.read = 0  # memories whose metadata was read for want of a column
        self.unreadable: frozenset[int] = frozenset()  # events of damaged metadata: they match, until one is a hit

    @property
    def is_empty(self) -> bool:
        """Whether no filter has asked for a column yet."""
        return not self._columns

    def covers(self, where: Where) -> bool:
        """Whether each field of the filter has a column."""
        columns = self._columns
        return all(path in columns for path in where.fields)

    def mask(
        self, where: Where, first: int, stop: int, indexes: Callable[[int, int], NDArray[np.int64]], read: ReadMetadata
    ) -> NDArray[np.bool_] | None:
        """Which of the events from `first` to `stop` satisfy the filter: bool[stop - first].

        None if a field has too many long values for a column. Columns are made, or continued to `stop`, first; that costs
        some microseconds for each event with metadata that is new to them.

        indexes : the events between two that have metadata, increasing. read : the metadata of each of some, or its damage.
        """
        columns = self._columns
        if any(path not in columns or columns[path].count < stop for path in where.fields):
            with self._lock:
                made = {path: self._columns.get(path) or _Column() for path in where.fields}
                if not self._continue(made, stop, indexes, read):
                    return None
                others = {path: column for path, column in self._columns.items() if path not in made}
                while others and sum(one.bytes for one in (*others.values(), *made.values())) > _most(_BYTES_MAX, stop):
                    del others[next(iter(others))]
                columns = self._columns = others | made
        found: NDArray[np.bool_] = where.mask(_Window(columns, first, stop))
        found[[index - first for index in self.unreadable if first <= index < stop]] = True
        return found

    def _continue(
        self, columns: dict[str, _Column], stop: int, indexes: Callable[[int, int], NDArray[np.int64]],
        read: ReadMetadata,
    ) -> bool:  # fmt: skip
        """Let all of `columns` know the events up to `stop`; False if the values of one became too many."""
        if self._too_wide & columns.keys():
            return False
        most = _most(_COLUMN_BYTES_MAX, stop)
        for column in columns.values():
            column.reserve(stop)
        asked = indexes(min(column.count for column in columns.values()), stop)
        for index, metadata in zip(asked.tolist(), read(asked), strict=True):
            if isinstance(metadata, CorruptionError):
                self.unreadable |= {index}
                continue
            for path, column in columns.items():
                value = read_field(metadata or {}, path)
                if value is MISSING or index < column.count:
                    continue
                column.numbers[index] = column.number(value)
                if column.bytes > most:
                    self._too_wide.add(path)
                    self._columns = {name: kept for name, kept in self._columns.items() if name != path}
                    return False
        for column in columns.values():
            column.count = max(column.count, stop)
        return True

    def take_over(self, old: Fields, indexes: NDArray[np.int64], pause: Callable[[], None]) -> None:
        """Take the columns of the generation before.

        indexes : where each event of this one was there; increasing. `pause` is called between the pieces.
        """
        self._too_wide = old._too_wide.copy()
        for path, column in old._columns.items():
            new = _Column()
            known = int(np.searchsorted(indexes, column.count))
            new.reserve(known)
            new.count = known
            number_of = np.zeros(len(column.values), np.uint32)
            for first in range(0, known, _PIECE):
                piece = slice(first, min(first + _PIECE, known))
                numbers = column.numbers[indexes[piece]]
                for number in np.unique(numbers[number_of[numbers] == 0]).tolist():
                    if number:
                        number_of[number] = new.number(column.values[number])
                new.numbers[piece] = number_of[numbers]
                pause()
            self._columns[path] = new
        if old.unreadable:
            self.unreadable = frozenset(np.flatnonzero(np.isin(indexes, list(old.unreadable))).tolist())


def _most(bound: tuple[int, int], events: int) -> int:
    return bound[0] + bound[1] * events
