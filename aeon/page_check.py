"""Proof that a page index says of its rows what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aeon_native import dispatch
from aeon_native.page_layout import LANES, scratch_bytes

if TYPE_CHECKING:
    from aeon.pages import PageIndex

Rows = NDArray[np.int64]


def problems(index: PageIndex) -> list[str]:
    """What is wrong: rows below `rows` and alive must be in exactly one page, with the sketch their codes give."""
    found: list[str] = []
    seen = np.zeros(index.rows, np.uint32)
    for slot in index._slots.used().tolist():
        numbers = index._numbers(index._slots, slot)
        if (numbers >= index.rows).any():
            found.append(f"page {slot} lists row {numbers.max()} of {index.rows}")
            continue
        np.add.at(seen, numbers, 1)
        if len(numbers) and not _same_sketches(index, slot, numbers):
            found.append(f"page {slot} holds a sketch that is not its row's")
    owners = [
        (slot, group)
        for group in index._groups.used().tolist()
        for slot in index._numbers(index._groups, group).tolist()
    ]
    expected = [(slot, int(index._slots.parents[slot])) for slot in index._slots.used().tolist()]
    found += [f"page {slot} is listed by group {group}" for slot, group in set(owners) - set(expected)]
    found += [f"page {slot} is not in its group {group}" for slot, group in set(expected) - set(owners)]
    if len(owners) != len(set(owners)):
        found.append("a group lists a page twice")
    alive = np.flatnonzero(~index._source.dead(np.arange(index.rows)))
    found += [f"row {row} is in {seen[row]} pages" for row in alive[seen[alive] != 1][:100].tolist()]
    found += [f"row {row} is in {seen[row]} pages" for row in np.flatnonzero(seen > 1)[:100].tolist()]
    return found


def _same_sketches(index: PageIndex, slot: int, numbers: Rows) -> bool:
    slots = index._slots
    vectors, scales = index._source.unit_rows(numbers)
    expected = np.zeros(int(slots.capacities[slot]) // LANES, index._dtype)
    address = expected.ctypes.data
    dispatch.kernels.clear_lanes(address, 0, int(slots.capacities[slot]), index.dim)
    dispatch.kernels.encode_lanes(
        vectors, scales, numbers.astype(np.uint32), slots.codes[slot], float(slots.lengths[slot] * slots.scales[slot]),
        index.signs, address, 0, np.empty(scratch_bytes(index.dim), np.uint8),
    )  # fmt: skip
    page = index._page(slots, slot)
    count = len(numbers)
    exact = all(
        np.array_equal(_lanes_of(page, name, count), _lanes_of(expected, name, count))
        for name in ("codes", "scales", "rows")
    )
    # The factors are sums, in an order that differs between processors and twins.
    return exact and all(
        np.allclose(_lanes_of(page, name, count), _lanes_of(expected, name, count), rtol=1e-3, atol=1e-4)
        for name in ("factors", "errors")
    )


def _lanes_of(page: NDArray[Any], name: str, count: int) -> NDArray[Any]:
    """One column of a page by row; codes as nibbles [count, dim / 4]."""
    if name != "codes":
        return page[name].reshape(-1)[:count]
    halves = page["codes"].reshape(len(page), -1, 16)
    nibbles = np.concatenate([halves & 15, halves >> 4], axis=2)
    return nibbles.transpose(0, 2, 1).reshape(len(page) * LANES, -1)[:count]
