"""Mixed operations on a fixed number of live memories, for as long as asked: disk and memory have to stay flat.

    python -m tests.soak --operations 10000000 --live 100000 [--path DIR]

Prints a line each tenth of the way: operations, disk bytes over live bytes after a compaction, resident memory, open files.
Exit code 1 if the disk is more than twice the live bytes, or memory grew by a fifth over the second half.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import aeon

DIM = 64


def resident_bytes() -> int:
    """Resident memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if disk and memory stayed within their bounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--live", type=int, default=100_000)
    parser.add_argument("--path", default=None)
    chosen = parser.parse_args(arguments)
    pick = random.Random(1)
    rows = np.random.default_rng(1).standard_normal((4096, DIM)).astype(np.float32)
    live: list[int] = []
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(dir=chosen.path) as folder:
        options = {"durability": "normal", "keep_versions": False, "checkpoint_log_bytes": 16 << 20}
        with aeon.open(Path(folder) / "soak.aeon", DIM, **options) as store:
            done, step, started = 0, chosen.operations // 10, time.perf_counter()
            while done < chosen.operations:
                count = 100
                at = pick.randrange(len(rows) - count)
                keys = [f"k{pick.randrange(1000)}" if n % 20 == 0 else None for n in range(count)]
                ids = store.remember_many(
                    [f"text {done + n} " * 4 for n in range(count)], rows[at : at + count], keys=keys
                )
                live += [id_ for id_, key in zip(ids, keys, strict=True) if key is None]
                while len(live) > chosen.live:
                    gone = [live.pop(pick.randrange(len(live))) for _ in range(min(50, len(live) - chosen.live))]
                    store.forget(gone)
                    done += len(gone)
                store.recall(rows[at], 10)
                store.history(limit=5)
                done += count + 2
                if done // step > len(seen):
                    store.compact()
                    disk = store.stats().disk_bytes
                    needed = len(store) * (
                        DIM + 16 + 128 + 24 + 60 + 100 + 90
                    )  # codes, row, event, blob, tables, pages
                    seen.append((disk / needed, resident_bytes()))
                    print(
                        f"{done:12,} operations, {len(store):,} live: disk {disk / needed:.2f}x, "
                        f"{seen[-1][1] >> 20} MiB, {len(os.listdir('/proc/self/fd'))} descriptors, "
                        f"{time.perf_counter() - started:.0f} s", flush=True,
                    )  # fmt: skip
            assert store.check().ok
    half = seen[len(seen) // 2 :]
    grown = half[-1][1] > 1.2 * half[0][1]
    wide = any(ratio > 2 for ratio, _ in seen)
    return int(grown or wide)


if __name__ == "__main__":
    sys.exit(main())
