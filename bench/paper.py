"""The paper's figures, each with what aeon measures for the same thing.

Source: arXiv 2601.15311v3, abstract and tables, as listed in the project's design (section 1). The paper measured C++ on an
Apple M4 Max and reports no recall; its log is not synced. The machines differ, so the two columns are no race: they show
which figures are reached with recall, durability and stable ids, and which are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.tables import fits, number

Result = dict[str, Any]
MACHINE = "C++, Apple M4 Max"


def _value(r: Result) -> str:
    return f"{number(r['value'])} {r['unit']}"


@dataclass(frozen=True)
class Figure:
    """One figure of the paper, and which result stands beside it."""

    what: str
    paper: str
    workload: str
    metric: str
    here: str  # what is measured here
    wanted: Result = field(default_factory=dict)
    shown: Callable[[Result], str] = _value

    def counterpart(self, results: Sequence[Result]) -> Result | None:
        """The result, if its workload has been run."""
        return next((r for r in results if fits(r, self.metric, self.wanted)), None)


FIGURES = (
    Figure(
        "INT8 dot product, 768 dims", "4.70 ns", "micro", "kernel", "a row of many, out of L2",
        {"name": "int8 dot", "where": "L2"}, lambda r: f"{_value(r)} ({number(r['cycles'])} cycles)",
    ),
    Figure("its gain over FP32", "5.6x", "micro", "dot_ratio", "the same rows, out of L2"),
    Figure(
        "traversal at 100K nodes", "3.09 us", "growth", "growth", "a whole search for ten, from Python, with its recall",
        {"rows": 100_000, "kept_as": "int8"}, lambda r: f"{_value(r)}, recall@10 {r['recall@10']:.3f}",
    ),
    Figure(
        "the same with FP32 rows", "3.4 times as long", "growth", "growth", "a store of float32 rows, with its recall",
        {"rows": 100_000, "kept_as": "float32"}, lambda r: f"{_value(r)}, recall@10 {r['recall@10']:.3f}",
    ),
    Figure("SLB hit", "3.56 us", "slb", "slb_lookup", "`slb.lookup` over 64 cached queries x 768, from Python"),
    Figure(
        "size beside FP32", "3.1x smaller", "disk", "vector_bytes", "768 dims, sketches and tables included",
        shown=lambda r: f"{r['ratio']:.2f}x smaller",
    ),
    Figure(
        "WAL overhead", "< 1 %", "log_share", "log_share", "log's share of an insert, one a commit", {"batch": 1},
    ),
    Figure(
        "WAL overhead", "< 1 %", "log_share", "log_share", "log's share of an insert, 1,000 a commit", {"batch": 1000},
    ),
    Figure("P99 read under 16 threads", "750 ns", "pin", "pin", "pin and unpin, 15 readers and a writer that compacts"),
    Figure("freeze pause", "< 10 us", "pauses", "pause", "a writer that commits all the while", {"note": "freeze"}),
    Figure(
        "trace compaction of 100K events", "966 ms", "compaction", "compaction", "every sync, half of them forgotten",
        {"note": "texts only"},
    ),
    Figure(
        "10 MB handed to Python", "334 ns", "zero_copy", "zero_copy", "a view of the mapping",
        {"note": "a view of the mapping"},
    ),
)  # fmt: skip


def section(results: Sequence[Result]) -> str:
    """The table: the paper's figure and machine, and the one measured here."""
    lines = [f"| what | the paper ({MACHINE}) | here | measured here as |", "|---|---|---|---|"]
    for figure in FIGURES:
        found = figure.counterpart(results)
        shown = figure.shown(found) if found else f"not measured yet (`{figure.workload}`)"
        lines.append(f"| {figure.what} | {figure.paper} | {shown} | {figure.here} |")
    return "\n".join(lines)
