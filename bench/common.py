"""What the workloads share: where stores are made, what is put into them, and how times become figures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import aeon
from bench import data

Result = dict[str, Any]
REPEATS = 5  # of each timed loop; the median is reported, with the spread
TEXT = "And if the train is late again, I would rather take the bus and be there by nine."
_BYTECODE = os.path.join(tempfile.gettempdir(), f"aeon-bench-{os.getuid() if hasattr(os, 'getuid') else 0}")


class Bench:
    """A folder for stores, and rows to put into them.

    folder : its disk is what is measured. quick : small sizes, so that all workloads together take three minutes.
    mixed_seconds : length of the mixed workload; None = ten minutes, or a few seconds if quick.
    """

    def __init__(self, folder: str, quick: bool, mixed_seconds: float | None = None) -> None:
        self.folder = folder
        self.quick = quick
        self.mixed_seconds = (5.0 if quick else 600.0) if mixed_seconds is None else mixed_seconds
        self.rows = data.imitation(20_000, 384)
        self._made = 0

    def size(self, full: int, quick: int) -> int:
        """The size of a workload: `full`, or `quick` if that was asked for."""
        return quick if self.quick else full

    def path(self) -> str:
        """A new store's path."""
        self._made += 1
        return os.path.join(self.folder, f"store-{self._made}")

    def store(self, dim: int = 384, **options: Any) -> aeon.Store:
        """A new store for the caller's vectors."""
        return aeon.open(self.path(), dim=dim, **options)


def learn(store: aeon.Store, queries: Any) -> None:
    """Let the index see a thousand queries, and measure with them what its targets take; not again while times are taken."""
    for n in range(1216):
        store.atlas.search(queries[n % len(queries)])
        if n in (1087, 1215):  # a curve is not measured while another one is: the first was with the first queries
            store.atlas.settle()
    store._engine.atlas._measure_at = 1 << 60


Workload = Callable[[Bench], Iterator[Result]]


def summary(repeats: Sequence[float]) -> Result:
    """Median and spread of a few repeats of a loop."""
    return {
        "value": float(np.median(repeats)), "least": float(min(repeats)), "most": float(max(repeats)),
        "repeats": len(repeats),
    }  # fmt: skip


def latencies(times: Sequence[float]) -> Result:
    """Median, tail and spread of single calls."""
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9))
    return {"p50": float(p50), "p99": float(p99), "p99.9": float(p999), **summary(times)}


def python(code: str, *arguments: str, **environment: str) -> str:
    """The last line a new interpreter prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        # As it is installed: with its bytecode beside it, whatever this shell says about writing some.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": _BYTECODE, **environment},
    )
    return run.stdout.strip().splitlines()[-1]


def evict(folder: str) -> None:
    """Ask the system to drop the pages of all files below a folder, so that the next read comes from the disk."""
    for where, _, names in os.walk(folder):
        for name in names:
            fd = os.open(os.path.join(where, name), os.O_RDONLY)
            try:
                os.fsync(fd)
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def right(base: Any, rows: Any, query: Any, tenth: float) -> int:
    """How many of these rows are among the exact ten: those whose exact score reaches the tenth one's."""
    return int((base[np.asarray(rows, np.int64)] @ query >= tenth - 1e-5).sum())


def tenth_scores(base: Any, queries: Any, k: int = 10) -> Any:
    """The exact k-th best score of each query: float32[len(queries)]."""
    found = [np.partition(queries[at : at + 128] @ base.T, -k, axis=1)[:, -k] for at in range(0, len(queries), 128)]
    return np.concatenate(found)
