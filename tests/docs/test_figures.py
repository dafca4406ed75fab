"""README's figures are those of the last benchmark run: a hand edit fails here."""

from __future__ import annotations

from pathlib import Path

from bench import report

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_in_the_readme_is_the_one_the_results_give() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.partition(report.BEGIN)[2].partition(report.END)[0].strip()
    assert shown == report.table(report.load(ROOT / "bench" / "results.jsonl"))


def test_no_search_is_shown_without_its_recall_and_no_commit_without_its_durability() -> None:
    for result in report.load(ROOT / "bench" / "results.jsonl"):
        if result["metric"] == "search":
            assert 0.5 < result["recall@10"] <= 1
        if result["metric"] in ("remember", "remember_many", "group_commit", "log_share"):
            assert result["durability"] in ("full", "normal", "off")
