"""Results as JSON lines, and the rule that no figure stands without what makes it mean something.

A result is a dict: `workload`, `metric`, `value`, `unit`, the conditions it holds under (`threads`, `cache` cold or warm,
`durability`, `recall@10`, sizes), the spread (`least`, `most`, `repeats`; `p50`, `p99`, `p99.9` for single calls), and
`machine` (CPU, cores, versions, commit, date).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
DURABILITIES = ("full", "normal", "off")

# A search is as fast as one likes if it may find nothing; a write, if it may be lost.
SEARCHES = frozenset({
    "search", "recall_call", "filtered", "growth", "slb_lookup", "slb_exact", "slb_overhead", "slb_hit_time", "slb_threads",
    "search_tail", "two_readers", "beside_writer", "time_blocks", "first_recall", "mixed_recall", "engine", "store_search",
    "sketch_scan",
})  # fmt: skip
WRITES = frozenset({
    "remember", "remember_many", "remember_threads", "log_share", "group_commit", "trace_append", "log_append", "checkpoint",
    "compaction", "pause", "mixed_remember", "store_insert", "store_batch",
})  # fmt: skip


class UnprintableError(ValueError):
    """A figure without its recall or its durability."""


def require_printable(result: Result) -> None:
    """UnprintableError if it is a search speed without recall, or a write speed without durability."""
    metric = result["metric"]
    if metric in SEARCHES:
        recall = result.get("recall@10", result.get("recall@1"))
        if not isinstance(recall, float) or not 0 <= recall <= 1:
            raise UnprintableError(f"`{metric}` of workload `{result['workload']}` was measured without its recall")
    if metric in WRITES and not result.get("durability"):
        raise UnprintableError(f"`{metric}` of workload `{result['workload']}` was measured without its durability")


def printable(results: Iterable[Result]) -> tuple[list[Result], list[str]]:
    """(what may be shown, why the others may not)."""
    kept, refused = [], []
    for result in results:
        try:
            require_printable(result)
        except UnprintableError as error:
            refused.append(str(error))
        else:
            kept.append(result)
    return kept, refused


def load(path: Path) -> list[Result]:
    """Read results."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def store(path: Path, fresh: Sequence[Result], order: Sequence[str]) -> None:
    """Write results, those of other workloads than the fresh ones kept, by the order of workloads."""
    measured = {result["workload"] for result in fresh}
    kept = [result for result in load(path) if result["workload"] not in measured] if path.exists() else []
    place = {name: n for n, name in enumerate(order)}
    every = sorted([*kept, *fresh], key=lambda result: place.get(result["workload"], len(place)))
    path.write_text("".join(json.dumps(result) + "\n" for result in every), encoding="utf-8")
