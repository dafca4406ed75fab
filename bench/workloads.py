"""The table of workloads. Each yields results: a dict with `metric`, `value`, `unit`, what it ran on, and how often.

Groups: `micro` is kernels and calls; `macro` is a store at work; `compare` is aeon beside its peers, as vector indexes and
as durable stores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator

from aeon_native import dispatch
from bench import compare, kernels, mixed, opening, searching, slb, space, stores, trace_workloads, upkeep, writing
from bench.common import Bench, Result, Workload

WORKLOADS: dict[str, tuple[str, Workload]] = {
    "micro": ("micro", kernels.micro),
    "remember_single": ("macro", writing.remember_single),
    "log_share": ("macro", writing.log_share),
    "remember_many": ("macro", writing.remember_many),
    "remember_threads": ("macro", writing.remember_threads),
    "group_commit": ("macro", writing.group_commit),
    "checkpoint": ("macro", writing.checkpoint),
    "recall_dialogue": ("macro", searching.recall_dialogue),
    "recall_filtered": ("macro", searching.recall_filtered),
    "growth": ("macro", searching.growth),
    "slb": ("macro", slb.slb),
    "reopen": ("macro", opening.reopen),
    "start_up": ("macro", opening.start_up),
    "disk": ("macro", space.disk),
    "space": ("macro", space.space),
    "trace_append": ("macro", trace_workloads.trace_append),
    "trace_graph": ("macro", trace_workloads.trace_graph),
    "trace_memory": ("macro", trace_workloads.trace_memory),
    "time_blocks": ("macro", trace_workloads.time_blocks),
    "compaction": ("macro", upkeep.compaction),
    "pauses": ("macro", upkeep.pauses),
    "readers": ("macro", upkeep.readers),
    "pin": ("macro", upkeep.pin),
    "zero_copy": ("macro", upkeep.zero_copy),
    "mixed": ("macro", mixed.mixed),
    "compare": ("compare", compare.compare),
    "compare_stores": ("compare", stores.compare_stores),
}


def names_of(asked: list[str]) -> list[str]:
    """Workloads named, or in a group that is named; all if none is. KeyError for a name that is neither."""
    groups = {group for group, _ in WORKLOADS.values()}
    for name in asked:
        if name not in WORKLOADS and name not in groups:
            raise KeyError(name)
    return [name for name, (group, _) in WORKLOADS.items() if not asked or name in asked or group in asked]


def run(
    names: list[str], *, quick: bool, folder: str | None = None, mixed_seconds: float | None = None
) -> Iterator[Result]:
    """Run workloads one after the other; stores live in a temporary folder (on `folder`'s disk if given)."""
    dispatch.start()
    dispatch.wait()
    for name in names:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # one each: nothing fills the disk until the end
            for result in WORKLOADS[name][1](Bench(scratch, quick, mixed_seconds)):
                common = {"threads": 1, "cache": "warm", "kernels": dispatch.status()["mode"]}
                yield {"workload": name, **common, **result}
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
