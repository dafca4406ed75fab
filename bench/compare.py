"""The Atlas against other vector indexes: recall and time per query, called from Python, one thread, same process.

    python -m bench compare [--data PATH | --rows N --dim 384|768] [--queries N] [--rounds N] [--peers NAME...]

Without --data and --rows: the real conversations (bench/data.py). --rows: so many generated vectors that follow them
(bench/generated.py). --data: a .npy, an ann-benchmarks HDF5 file, a BEIR folder or LoCoMo (bench/datasets.py). Peers that
are not installed are left out and named (pip install 'aeon-memory[bench]' and the peers you want).

Every engine is tried with many settings. All settings worth showing answer in turns, round by round, and the median
counts. Per recall, an engine's fastest setting that reaches it stands for it. A result is right if its exact score reaches
the k-th exact score, so that equal texts do not count against anybody.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import data, datasets, engines, generated, machine
from bench.common import Bench, Result, right, summary, tenth_scores

K = engines.K
TARGETS = (0.9, 0.95, 0.99)
SHOWN_FROM = 0.85  # settings that find less are not worth their speed
_DISTRIBUTIONS = {"faiss": "faiss-cpu", "chroma": "chromadb", "qdrant": "qdrant-client", "aeon": "aeon-memory"}


@dataclass
class Setting:
    """One way to ask one engine. `prepare` is called before each turn, untimed."""

    engine: str
    setting: str
    search: Callable[[NDArray[np.float32]], Any]
    prepare: Callable[[], object]
    recall: float = 0.0
    rough_us: float = 0.0


_LOOK_S, _LOOKS = 0.1, 5  # so long, or so often: one short pass would drop settings by noise


class Contest:
    """Settings of all engines over one data set."""

    def __init__(self, base: NDArray[np.float32], queries: NDArray[np.float32], others: NDArray[np.float32]) -> None:
        self.base, self.queries, self.others = base, queries, others
        self.build_threads, self.inner = os.cpu_count() or 1, False
        self.pass_seconds = 0.3  # of one setting in one round: a slow engine answers fewer queries
        self.kth = tenth_scores(base, queries, K)
        self.settings: list[Setting] = []
        self.build_seconds: dict[str, float] = {}
        self.keep: list[Callable[[], object]] = []  # called at the end

    def tell(self, text: str) -> None:
        """Progress, to who waits."""
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def building(self, name: str) -> Iterator[None]:
        """Seconds of what is within."""
        start = time.perf_counter()
        yield
        self.build_seconds[name] = time.perf_counter() - start

    def add(
        self, engine: str, setting: str, search: Callable[[Any], Any], prepare: Callable[[], object] = lambda: None
    ) -> None:
        """`search(query)` gives row numbers."""
        self.settings.append(Setting(engine, setting, search, prepare))

    def look(self, one: Setting) -> None:
        """recall@10 of a setting, and roughly its time for queries it has answered before: fewer of them if it is slow."""
        one.prepare()
        start = time.perf_counter()
        for query in self.queries[:3]:
            one.search(query)
        each = (time.perf_counter() - start) / 3
        count = min(len(self.queries), max(20, int(2 * self.pass_seconds / each)))
        hits = 0
        answers = [np.asarray(one.search(query)).reshape(-1)[:K].astype(np.int64) for query in self.queries[:count]]
        passes = []
        while sum(passes) < _LOOK_S and len(passes) < _LOOKS:
            start = time.perf_counter()
            for query in self.queries[:count]:
                one.search(query)
            passes.append(time.perf_counter() - start)
        one.rough_us = min(passes) / count * 1e6
        for rows, query, kth in zip(answers, self.queries, self.kth, strict=False):
            hits += right(self.base, rows[rows >= 0], query, kth)
        one.recall = hits / (K * count)

    def worth_timing(self) -> list[Setting]:
        """Of each engine, the settings that nothing beats in both time and recall."""
        chosen = []
        for engine in dict.fromkeys(one.engine for one in self.settings):
            best = -1.0
            for one in sorted((s for s in self.settings if s.engine == engine), key=lambda s: s.rough_us):
                if one.recall > best and one.recall >= SHOWN_FROM:
                    chosen.append(one)
                    best = one.recall
        return chosen

    def times(self, settings: Sequence[Setting], rounds: int) -> list[list[float]]:
        """Microseconds a query in each round, all settings in turns."""
        found: list[list[float]] = [[] for _ in settings]
        with machine.pinned():
            for _ in range(rounds):
                for one, mine in zip(settings, found, strict=True):
                    one.prepare()
                    count = min(len(self.queries), max(5, int(self.pass_seconds * 1e6 / one.rough_us)))
                    for query in self.queries[: min(50, count)]:
                        one.search(query)
                    begin = time.perf_counter()
                    for query in self.queries[:count]:
                        one.search(query)
                    mine.append((time.perf_counter() - begin) / count * 1e6)
        return found


def hold(contest: Contest, peers: list[str], rounds: int, what: str) -> Iterator[Result]:
    """Build, sweep, time, and give a result for each setting worth showing, then one for each engine left out."""
    missing = engines.build(contest, peers)
    for one in contest.settings:
        contest.look(one)
    chosen = contest.worth_timing()
    times = contest.times(chosen, rounds)
    for clean in reversed(contest.keep):
        clean()
    shape = {"rows": len(contest.base), "dim": int(contest.base.shape[1]), "k": K, "data": what}
    for one, mine in zip(chosen, times, strict=True):
        yield {
            "metric": "engine", "unit": "us", "engine": one.engine, "setting": one.setting, "recall@10": one.recall, **shape,
            **summary(mine),
        }  # fmt: skip
    for name, seconds in contest.build_seconds.items():
        yield {"metric": "engine_build", "unit": "s", "engine": name, **shape, "value": seconds}
    versions = {name: _version(name) for name in peers if name not in missing}
    yield {"metric": "engines", "unit": "", "value": len(versions), "versions": versions, "missing": missing, **shape}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return ""


def compare(bench: Bench) -> Iterator[Result]:
    """aeon beside other vector indexes on the real turns: every engine swept, all in turns, recall against exact search."""
    rows = bench.size(60_012, 9000)
    if (real := data.dialogue()) is not None:
        base, queries, what = real[1][:rows], real[2], "real turns"
        others = data.unit(np.load(data.FOLDER / "dialogue" / "queries.npy").astype(np.float32)[2000:6000])
    else:
        made = generated.fitted(384, duplicates=0.2, drift=1.0)
        base, queries, others = np.concatenate(list(made.blocks(rows))), made.block(5, 2000), made.block(6, 4000)
        what = "generated"
    contest = Contest(base, queries[: bench.size(1000, 100)], others[: bench.size(4000, 200)])
    if bench.quick:  # one thread: many that wait for each other take longer than what is done here
        contest.pass_seconds, contest.build_threads = 0.05, 1
    yield from hold(contest, list(engines.ENGINES), bench.size(5, 2), what)


def _chosen(arguments: argparse.Namespace) -> tuple[datasets.Dataset, NDArray[np.float32]]:
    """(data, queries for calibration that are not measured)."""
    if arguments.data:
        found = datasets.load(arguments.data)
        return found, found.queries[arguments.queries :]
    if arguments.rows:
        made = generated.fitted(arguments.dim)
        base, queries = np.concatenate(list(made.blocks(arguments.rows))), made.block(5, arguments.queries + 4000)
        return datasets.Dataset("generated", base, queries), queries[arguments.queries :]
    base, queries = (
        np.load(data.FOLDER / "dialogue" / f"{name}.npy").astype(np.float32) for name in ("base", "queries")
    )
    return datasets.Dataset("real turns", data.unit(base), data.unit(queries)), data.unit(queries)[arguments.queries :]


def main(argv: list[str] | None = None) -> None:
    """Hold the contest over the data asked for, and print its tables."""
    from bench import report, results

    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, help=".npy, .hdf5, BEIR folder or LoCoMo .json")
    parser.add_argument("--rows", type=int, help="generated vectors instead")
    parser.add_argument("--dim", type=int, default=768, help="of generated vectors: 384 or 768")
    parser.add_argument(
        "--build-threads", type=int, default=os.cpu_count(), help="what is searched does not depend on it"
    )
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inner", action="store_true", help="the Atlas's own call too, without the store's around it")
    parser.add_argument("--out", type=Path, help="write the results here as JSON lines")
    parser.add_argument("--peers", nargs="*", choices=list(engines.ENGINES), default=list(engines.ENGINES))
    arguments = parser.parse_args(argv)
    try:
        chosen, others = _chosen(arguments)
    except datasets.DataError as error:
        parser.error(str(error))
    contest = Contest(chosen.base, chosen.queries[: arguments.queries], others[:4000])
    contest.build_threads, contest.inner = arguments.build_threads, arguments.inner
    where = machine.describe()
    names = ["aeon", *(name for name in arguments.peers if name != "aeon")]
    found = [
        {"workload": "compare", "threads": 1, "cache": "warm", **result, "machine": where}
        for result in hold(contest, names, arguments.rounds, chosen.name)
    ]
    if arguments.out:
        results.store(arguments.out, found, ["compare"])
    print(report.engines_section(found))
    if chosen.note:
        print(f"\n{chosen.note}.")
    if (share := chosen.answered()) is not None:
        print(f"\nAmong the exact {K} nearest are {share:.1%} of the relevant rows.")
