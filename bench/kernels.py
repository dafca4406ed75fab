"""The workload `micro`: limits of the machine first, then `bench/micro.py` under pytest-benchmark, several times over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench import limits, machine
from bench.common import Bench, Result, summary

_FILE = Path(__file__).with_name("micro.py")
# No configuration: the project's own is for its tests, in parallel and without benchmarks.
_OPTIONS = ("-c", os.devnull, "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--benchmark-disable-gc")


def micro(bench: Bench) -> Iterator[Result]:
    """Kernels in ns, cycles and bytes a row beside what the machine can do; SLB lookup, pin, log append, frame decode."""
    with machine.pinned():
        most, results = limits.measured()
    yield from results
    passes = [_pass(bench) for _ in range(1 if bench.quick else 3)]  # whole passes: cases in turns
    medians: dict[tuple[str, str], float] = {}
    for name, where in passes[0]:
        every = [one[name, where] for one in passes]
        per_row = [value / every[0]["rows"] for value in (one["median"] for one in every)]
        medians[name, where] = float(np.median(per_row))
        yield _result(every[0], per_row, most)
    ratio = medians["float32 dot", "L2"] / medians["int8 dot", "L2"]
    yield {"metric": "dot_ratio", "unit": "x", "dim": 768, "note": "rows in L2", **summary([ratio])}


def _result(case: dict[str, Any], per_row: list[float], most: dict[str, float]) -> Result:
    """One case as a result, in ns, per row for kernels."""
    about = {key: value for key, value in case.items() if key not in ("median", "least", "most", "row_bytes")}
    metric = {"log append": "log_append", "sketch scan, top 10": "sketch_scan"}.get(case["name"], "")
    metric = metric or ("kernel" if case["where"] else "call")
    whole = metric == "call" and case["name"] != "frame decode"  # a call is what is asked for, whatever it looks at
    scale = case["rows"] if whole else 1
    result: Result = {"metric": metric, "unit": "ns", **about, **summary([value * scale for value in per_row])}
    result["cycles"] = result["value"] * most["clock"]
    result["cache"] = "cold" if case["where"] == "memory" else "warm"
    if case["where"]:
        result["row_bytes"] = case["row_bytes"]
        result["bytes_per_cycle"] = case["row_bytes"] / result["cycles"]
        result["of_limit_percent"] = 100 * case["row_bytes"] / result["value"] / most[case["where"]]
    return result


def _pass(bench: Bench) -> dict[tuple[str, str], dict[str, Any]]:
    """Run the file once: nanoseconds of a call, and what it worked on, by case and place."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        out = Path(folder) / "micro.json"
        seconds = "0.02" if bench.quick else "0.3"
        command = [
            sys.executable, "-m", "pytest", str(_FILE), *_OPTIONS, f"--benchmark-json={out}", f"--basetemp={folder}/tmp",
            f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=5",
        ]  # fmt: skip
        if bench.quick:  # blocks beyond every cache take a second each to make
            command += ["-k", "not memory"]
        root = str(_FILE.parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
        if run.returncode:
            raise RuntimeError(f"bench/micro.py failed:\n{run.stdout[-3000:]}{run.stderr[-1000:]}")
        found = {}
        for one in json.loads(out.read_text(encoding="utf-8"))["benchmarks"]:
            times = {"median": one["stats"]["median"] * 1e9}
            found[one["extra_info"]["name"], one["extra_info"]["where"]] = {**one["extra_info"], **times}
        return found
