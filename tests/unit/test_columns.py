"""Columns against a plain list, with chunks of a few records so that every edge is common."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from aeon import columns
from aeon.columns import Column
from aeon.files import zeros
from aeon.format import KEY

DTYPE = KEY.dtype


def record(number: int) -> tuple[int, int, int]:
    return number, number * 10, -number


@pytest.fixture(params=[1, 3, 4])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(columns, "CHUNK_RECORDS", request.param)
    return request.param


def filled(base: int, tail: int) -> Column:
    column = Column(np.array([record(n) for n in range(base)], DTYPE))
    for n in range(base, base + tail):
        array, position = column.slot()
        assert not array[position].item()[0], "a slot is zeroed"
        array[position] = record(n)
        assert column.count == n, "not shown before commit"
        assert column.commit() == n
    return column


SIZES = [(0, 0), (0, 1), (1, 0), (0, 9), (5, 0), (5, 1), (5, 3), (5, 4), (5, 13), (4, 8)]


@pytest.mark.parametrize("base, tail", SIZES)
def test_records_by_index(chunk: int, base: int, tail: int) -> None:
    column = filled(base, tail)
    assert (column.base_count, column.count) == (base, base + tail)
    for n in range(base + tail):
        assert column[n].item() == record(n)
        array, position = column.locate(n)
        assert array[position].item() == record(n)
        assert np.shares_memory(array, column.base) == (n < base), "located without a copy"


@pytest.mark.parametrize("base, tail", SIZES)
def test_runs_cover_every_range_once(chunk: int, base: int, tail: int) -> None:
    column = filled(base, tail)
    for start in range(base + tail + 1):
        for stop in range(start, base + tail + 1):
            seen = []
            for first, run in column.runs(stop, start):
                assert len(run) > 0
                assert run["hash"].tolist() == list(range(first, first + len(run)))
                seen += run["hash"].tolist()
            assert seen == list(range(start, stop))


@pytest.mark.parametrize("base, tail", SIZES)
def test_take_in_any_order(chunk: int, base: int, tail: int) -> None:
    column = filled(base, tail)
    rng = np.random.default_rng(base * 100 + tail)
    indexes = rng.integers(0, base + tail, 30) if base + tail else np.empty(0, np.int64)
    assert column.take(indexes)["id"].tolist() == (indexes * 10).tolist()
    assert column.take(indexes, "created").tolist() == (-indexes).tolist()
    taken = column.take(indexes)
    taken["id"] = 7
    assert column.take(indexes)["id"].tolist() == (indexes * 10).tolist(), "a copy"


@pytest.mark.parametrize("base, tail", SIZES)
def test_one_field_of_the_first_records(chunk: int, base: int, tail: int) -> None:
    column = filled(base, tail)
    for stop in range(base + tail + 1):
        ids = column.field("id", stop)
        assert ids.dtype == np.uint64 and ids.tolist() == [10 * n for n in range(stop)]
        ids[:] = 7
        assert column.field("id", stop).tolist() == [10 * n for n in range(stop)], "a copy"


@pytest.mark.parametrize("base, tail", SIZES)
def test_tail_is_what_is_not_in_the_base(chunk: int, base: int, tail: int) -> None:
    column = filled(base, tail)
    assert column.tail()["hash"].tolist() == list(range(base, base + tail))
    for stop in range(base, base + tail + 1):
        assert column.tail(stop)["hash"].tolist() == list(range(base, stop))


def test_chunks_never_move() -> None:
    """What a reader holds stays valid and stays the same while a writer appends."""
    column = filled(2, 3)
    array, position = column.locate(4)
    run = [view for _, view in column.runs(5)]
    for n in range(5, 5 + 3 * columns.CHUNK_RECORDS):
        chunk, at = column.slot()
        chunk[at] = record(n)
        column.commit()
    assert array[position].item() == record(4)
    assert np.shares_memory(column.locate(4)[0], array)
    assert [view["hash"].tolist() for view in run] == [[0, 1], [2, 3, 4]]


@pytest.mark.parametrize("dtype, width", [(np.uint8, 64), (np.int16, 3)])
def test_records_that_are_rows(chunk: int, dtype: Any, width: int) -> None:
    rows = np.arange(11 * width).reshape(11, width).astype(dtype)
    column = Column(rows[:4])
    for row in rows[4:]:
        array, position = column.slot()
        array[position] = row
        column.commit()
    indexes = np.array([10, 0, 5, 5, 3])
    assert (column.take(indexes) == rows[indexes]).all()
    assert (column.tail() == rows[4:]).all()
    assert (np.concatenate([run for _, run in column.runs(11)]) == rows).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_write_into_its_parents_chunks() -> None:
    large = zeros((1 << 19,), np.dtype(np.uint8))
    assert not large.flags.owndata
    large[0] = 1
    child = os.fork()
    if not child:
        large[0] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert large[0] == 1 and not large[1:].any() and large.flags.writeable
