"""What the machine can do at most: its clock, and how fast it reads. Kernels are held against it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from bench.common import Result, summary

_MEMORY_BYTES = 256 << 20  # beyond every cache of the machines this runs on, shared ones aside
_CHAIN = 20_000_000


@njit(cache=False)  # type: ignore[untyped-decorator]
def _chain(count: int) -> Any:
    """A chain in which every step waits for the one before: an exclusive or and an addition, one cycle each."""
    x = np.uint64(1)
    for i in range(count):
        x = (x ^ np.uint64(i)) + np.uint64(0x9E3779B97F4A7C15)
    return x


@njit(cache=False)  # type: ignore[untyped-decorator]
def _read(words: Any) -> Any:
    """The sum of all words: LLVM makes it wide loads into several sums."""
    total = np.uint64(0)
    for i in range(len(words)):
        total += words[i]
    return total


def l2_bytes() -> int:
    """Size of a core's second cache; 512 KiB where the system does not say."""
    path = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    try:
        text = path.read_text(encoding="ascii").strip()
        return int(text.rstrip("KM")) << (20 if text.endswith("M") else 10)
    except (OSError, ValueError):
        return 512 << 10


def clock_ghz(repeats: int = 7) -> list[float]:
    """Cycles a nanosecond, by a chain of dependent additions."""
    _chain(10)
    found = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        _chain(_CHAIN)
        found.append(2 * _CHAIN / (time.perf_counter_ns() - start))
    return found


def read_gb_s(size: int, repeats: int = 7) -> list[float]:
    """Bytes a nanosecond that one thread reads out of a block of this size, read again and again."""
    words = np.ones(size // 8, np.uint64)
    passes = max(1, (64 << 20) // size)
    _read(words)
    found = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        for _ in range(passes):
            _read(words)
        found.append(passes * words.nbytes / (time.perf_counter_ns() - start))
    return found


def measured() -> tuple[dict[str, float], Iterator[Result]]:
    """({"clock", "L2", "memory"}: GHz, GB/s, GB/s), and the same as results: the most of a few tries, as limits are."""
    found = {"clock": clock_ghz(), "L2": read_gb_s(l2_bytes() // 2), "memory": read_gb_s(_MEMORY_BYTES)}
    notes = {
        "clock": "a chain of dependent additions", "L2": f"{l2_bytes() // 2048} KiB, read again and again",
        "memory": f"{_MEMORY_BYTES >> 20} MiB, read again and again",
    }  # fmt: skip
    units = {"clock": "GHz", "L2": "GB/s", "memory": "GB/s"}
    results = (
        {
            "metric": "limit",
            "of": name,
            "unit": units[name],
            "note": notes[name],
            **summary(values),
            "value": max(values),
        }
        for name, values in found.items()
    )
    return {name: max(values) for name, values in found.items()}, results
