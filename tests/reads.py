"""Checked reads through pins while one thread commits, checkpoints and compacts without pause: none may be torn.

    python -m tests.reads --reads 10000000 --threads 15 [--path DIR]

Each commit replaces a pair. A read pins the store, and in the snapshot looks at the text of some memory (which of them it is
stands in it), and at the newest rows and their number: half a commit, another memory's bytes, or memory of a generation that is
gone would show. Prints how many reads, commits and swaps there were; exit code 1 with the first reading that was wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import aeon

DIM = 16
KEPT = 500
_BATCH = 1000  # reads that a thread takes on at a time
_SWITCH_S = 20e-6  # how long a thread may keep the interpreter: 15 readers would let the writer swap twice a second


def vector(n: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """What the pair of commit `n` has for a vector: both the same."""
    return np.random.default_rng(n % 97).standard_normal(DIM).astype(np.float32)


def check_one(store: aeon.Store, expected: dict[int, bytes], id_: int) -> str:
    """Read once; what was wrong, or nothing."""
    with store.pin() as pin:
        text = pin.text(id_)
        blocks = [block for block in pin.rows() if len(block)]
        rows = sum(map(len, blocks))
        first, last = (blocks[-1], -2) if len(blocks[-1]) > 1 else (blocks[-2], -1)
        ids = int(first.ids[last]), int(blocks[-1].ids[-1])
        same = first.codes[last].tobytes() == blocks[-1].codes[-1].tobytes()
    if text != expected[id_]:
        return f"memory {id_} reads {bytes(text)!r}"
    if rows % 2 or ids[1] != ids[0] + 1 or not same:
        return f"half a commit: {rows} rows, the last two of memories {ids}, alike: {same}"
    return ""


def run(folder: str, reads: int, threads: int) -> str:
    """Make `reads` checked reads; what was wrong first, or nothing."""
    wrong: list[str] = []
    done = threading.Event()
    numbers = count()
    rules: dict[str, Any] = {"checkpoint_log_bytes": 0, "compact_share": 0, "keep_versions": False}
    with aeon.open(Path(folder) / "reads.aeon", DIM, durability="normal", **rules) as store:
        ids = store.remember_many([f"kept {n}" for n in range(KEPT)], [vector(n) for n in range(KEPT)])
        expected = {id_: b"kept %d" % n for n, id_ in enumerate(ids)}
        store.remember_many(["0"] * 2, [vector(0)] * 2, keys=["a", "b"])
        commits = 0

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - told below
                wrong.append(f"{type(error).__name__}: {error}")
                done.set()

        def write() -> None:
            nonlocal commits
            while not done.is_set():
                for _ in range(200):
                    commits += 1
                    store.remember_many([f"{commits}"] * 2, [vector(commits)] * 2, keys=["a", "b"])
                store.checkpoint()
                store.compact()

        def read() -> None:
            while not done.is_set() and next(numbers) * _BATCH < reads:
                for n in range(_BATCH):
                    found = check_one(store, expected, ids[n % KEPT])
                    if found:
                        wrong.append(found)
                        done.set()
                        return

        began = time.perf_counter()
        readers = [threading.Thread(target=guarded, args=(read,)) for _ in range(threads)]
        writer = threading.Thread(target=guarded, args=(write,))
        for thread in (writer, *readers):
            thread.start()
        for thread in readers:
            thread.join()
        done.set()
        writer.join()
        swaps = store._engine.manifest.generation
        print(
            f"{reads:,} checked reads by {threads} threads, {commits:,} commits of pairs, {swaps:,} swaps, "
            f"{time.perf_counter() - began:.0f} s: {wrong[0] if wrong else 'none torn'}"
        )
        if not wrong and not store.check().ok:
            wrong.append("check() finds the store damaged")
    return wrong[0] if wrong else ""


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if no read was torn."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reads", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reads", type=int, default=10_000_000)
    parser.add_argument("--threads", type=int, default=15)
    parser.add_argument("--path", default=None)
    chosen = parser.parse_args(arguments)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        with tempfile.TemporaryDirectory(dir=chosen.path) as folder:
            return int(bool(run(folder, chosen.reads, chosen.threads)))
    finally:
        sys.setswitchinterval(interval)


if __name__ == "__main__":
    sys.exit(main())
