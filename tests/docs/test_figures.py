"""README's figures, docs/BENCHMARKS.md and the plots are those of the last benchmark run: a hand edit fails here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import paper, plots, report, results, tables
from bench.micro import CASES
from bench.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = results.load(ROOT / "bench" / "results.jsonl")
DESIGN = ROOT.parent / "shared" / "DESIGN.md"
MACHINE = {
    "cpu": "a CPU", "cores": 2, "memory_gb": 24.0, "system": "Linux", "python": "3.11", "numpy": "2", "numba": "0.68",
    "commit": "abc", "date": "2026-11-28",
}  # fmt: skip


def result(metric: str, value: float, **more: Any) -> dict[str, Any]:
    return {"workload": "w", "metric": metric, "value": value, "unit": "us", "machine": MACHINE, **more}


def engine(name: str, value: float, recall: float) -> dict[str, Any]:
    return result(
        "engine", value, engine=name, setting="s", rows=1000, dim=8, k=10, data="rows", least=value, most=value,
        **{"recall@10": recall},
    )  # fmt: skip


def test_the_figures_in_the_readme_are_those_the_results_give() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.partition(report.BEGIN)[2].partition(report.END)[0].strip()
    assert shown == report.readme(RESULTS)


def test_benchmarks_md_is_what_the_results_give() -> None:
    assert (ROOT / "docs" / "BENCHMARKS.md").read_text(encoding="utf-8") == report.benchmarks(RESULTS)


def test_the_plots_are_drawn_from_these_results() -> None:
    kept, _ = results.printable(RESULTS)
    for name in plots.available(kept):
        assert plots.carried(ROOT / "docs" / "figures" / name) == plots.digest(name, kept), f"{name} is an old one"


def test_another_value_is_another_document() -> None:
    changed = json.loads(json.dumps(RESULTS))
    for one in changed:
        if one["metric"] == "remember":
            one["value"] *= 2
    assert report.readme(changed) != report.readme(RESULTS)
    assert report.benchmarks(changed) != report.benchmarks(RESULTS)


def test_every_result_has_a_place() -> None:
    known = set(tables.ROWS) | tables.TABLED_APART
    assert {one["metric"] for one in RESULTS} <= known
    assert known >= results.SEARCHES | results.WRITES
    assert {one["workload"] for one in RESULTS} <= set(WORKLOADS)


@pytest.mark.parametrize(
    "bare",
    [
        result("search", 3.14, rows=1000, dim=8, kept_as="int8", exact=False, k=10),
        result("search", 3.14, rows=1000, dim=8, kept_as="int8", exact=False, k=10, **{"recall@10": None}),
        engine("x", 3.14, 7.0),
        result("remember", 3.14, dim=8),
        result("checkpoint", 3.14, dim=8, rows=10, new=10, note="the first", durability=""),
    ],
)
def test_a_speed_without_recall_or_durability_is_not_printed(bare: dict[str, Any]) -> None:
    with pytest.raises(results.UnprintableError):
        results.require_printable(bare)
    good = result("remember", 2.72, dim=8, durability="full")
    text = report.benchmarks([bare, good])
    assert "3.14" not in text and "2.72" in text
    assert f"`{bare['metric']}` of workload `w` was measured without its" in text
    assert "3.14" not in report.readme([bare, good])


def test_a_peer_that_is_faster_is_called_the_fastest() -> None:
    found = [
        engine("aeon", 20.0, 0.96),
        engine("rival", 10.0, 0.97),
        engine("rival", 5.0, 0.91),
        engine("slow", 90.0, 0.92),
    ]
    text = report.engines_section(found)
    at_95 = text.split("**recall@10 of at least 0.95**")[1].split("**")[0]
    assert "(not reached: slow)" in at_95
    assert re.search(r"\| rival \| s \| 0.9700 \| 10.0 .*\| fastest \|", at_95)
    assert re.search(r"\| aeon .*\| 2.0x as long \|", at_95)
    line = next(line for line in report.readme(found).splitlines() if line.startswith("| 0.95"))
    assert line == "| 0.95 | 20.0 us | 10.0 us (rival) | rival |"


def test_stores_are_compared_where_the_same_survives() -> None:
    found = []
    for name, durability, insert in (("aeon, full", "full", 100.0), ("b", "full", 300.0), ("c", "normal", 9.0)):
        common = {"engine": name, "durability": durability, "rows": 10, "dim": 8}
        loss = {"kill -9": "nothing", "power cut": "it depends"}
        found += [
            result("store_insert", insert, **common, **loss),
            result("store_batch", 1000.0, **common),
            result("store_search", insert, **common, **{"recall@10": 1.0}),
            result("store_reopen", 1.0, **common),
            result("store_disk", 1.0, **common),
        ]
    text = report.stores_section([*found, result("stores", 3, missing={"d": "not installed (d)"})])
    assert "full: aeon, full; normal: c" in text
    assert "| search, us | 100, recall@10 1.000 | 300, recall@10 1.000 | 9.00, recall@10 1.000 | c |" in text
    assert "Left out: d, not installed (d)." in text
    assert text.count("it depends") == 3


def test_every_figure_of_the_paper_has_its_counterpart() -> None:
    for figure in paper.FIGURES:
        assert figure.workload in WORKLOADS
        assert figure.metric in tables.ROWS
        assert figure.wanted.get("name", "int8 dot") in CASES
    for figure in ("4.70 ns", "5.6x", "3.09 us", "3.56 us", "3.1x", "< 1 %", "750 ns", "< 10 us", "966 ms", "334 ns"):
        assert any(figure in one.paper for one in paper.FIGURES), figure
    kept, refused = results.printable(RESULTS)
    held_back = {re.findall(r"`(\w+)`", reason)[0] for reason in refused}
    run = {one["workload"] for one in kept}
    for one in paper.FIGURES:
        if one.workload in run and one.metric not in held_back:
            assert one.counterpart(kept) is not None, one.what


@pytest.mark.skipif(not DESIGN.is_file(), reason="the design is not at hand")
def test_no_figure_of_the_paper_in_the_design_is_forgotten() -> None:
    text = " ".join(
        DESIGN.read_text(encoding="utf-8").partition("headline figures")[2].split("The paper reports no")[0].split()
    )
    named = re.findall(r"(\d[\d.]*) ?(?:ns|us|ms|x|%)(?![\w])", text)
    assert len(named) == 10
    shown = " ".join(figure.paper for figure in paper.FIGURES)
    assert [value for value in named if value not in shown] == []
