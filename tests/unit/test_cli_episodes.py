"""`aeon trace`, `aeon dream`, and the exports they write."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import aeon
from aeon.cli import main

DAY = 24 * 3600 * 1_000_000


@pytest.fixture
def talked(tmp_path: Path) -> Path:
    path = tmp_path / "agent.aeon"
    with aeon.open(path) as store:
        lines = ["Tess moves <to> Trieste & likes it.", "She takes the sofa.", "It does not fit.", "She sells it."]
        store.remember_many(lines, session="monday", timestamps=[n * DAY // 24 for n in range(4)])
        store.link(3, 4, "causes")
        store.link(2, store.concept("sofa"), "ref")
        store.branch(2, "what if \x1b[2J")
        store.remember("It fits\x07.", session="what if \x1b[2J", timestamp=5)
        store.archive(1)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run_(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err and "defect" not in err, err
        return code, out, err

    return run_


def test_a_session_as_a_tree(run: Any, talked: Path) -> None:
    code, out, _ = run("trace", talked, "monday")
    assert code == 0
    assert out.splitlines() == [
        "monday",
        "├─ #1 user (archived): Tess moves <to> Trieste & likes it.",
        "├─ #2 user: She takes the sofa.",
        "│    ref → #5",
        "│  what if \\x1b[2J (branches off #2)",
        "│  └─ #6 user: It fits\\x07.",
        "├─ #3 user: It does not fit.",
        "│    causes → #4",
        "└─ #4 user: She sells it.",
        "     causes ← #3",
    ]
    assert len(run("trace", talked, "monday", "--limit", 1)[1].splitlines()) == 3
    lines = [json.loads(line) for line in run("trace", talked, "monday", "--json")[1].splitlines()]
    assert [(line["id"], line["branches_off"], line["archived"]) for line in lines] == [
        (1, None, True), (2, None, False), (3, None, False), (4, None, False), (6, 2, False),
    ]  # fmt: skip
    assert lines[2]["edges"] == [{"src": 3, "dst": 4, "kind": "causes"}]
    code, _, err = run("trace", talked, "munday")
    assert code == 1 and "did you mean 'monday'" in err


def test_a_session_as_a_picture(run: Any, talked: Path, tmp_path: Path) -> None:
    file = tmp_path / "monday.svg"
    assert run("trace", talked, "monday", "--svg", file)[:2] == (0, f"wrote {file}\n")
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    name = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{name}text")]
    assert len(root.findall(f"{name}rect")) == 6, "its memories, the branch's, and the concept"
    assert {"monday", "elsewhere", "causes", "ref", "#1 user", "#5 concept", "#6 user"} <= set(texts)
    assert "Tess moves <to> Trieste & likes it." in texts or any("Tess moves <to>" in str(text) for text in texts)
    assert len(root.findall(f"{name}path")) == 6, "three in order, one branching off, two edges"
    assert sum(rect.get("stroke-dasharray") is not None for rect in root.iter(f"{name}rect")) == 1


def test_graphml(run: Any, talked: Path, tmp_path: Path) -> None:
    networkx = pytest.importorskip("networkx")
    file = tmp_path / "monday.graphml"
    assert run("trace", talked, "monday", "--graphml", file)[0] == 0
    graph = networkx.read_graphml(file)
    assert set(graph) == {"1", "2", "3", "4"}
    assert graph.nodes["1"]["text"] == "Tess moves <to> Trieste & likes it." and graph.nodes["1"]["archived"] is True
    kinds = sorted((src, dst, kind) for src, dst, kind in graph.edges(data="kind"))
    assert kinds == [("1", "2", "next"), ("2", "3", "next"), ("3", "4", "causes"), ("3", "4", "next")]
    with aeon.open(talked, read_only=True) as store:
        whole = store.trace.to_networkx()
        assert set(whole) == {1, 2, 3, 4, 5, 6} and whole.has_edge(2, 6, key="next") and whole.has_edge(2, 5, key="ref")
        assert set(store.trace.to_networkx(ids=3)) == {3, 4}
        assert "It fits\ufffd." in {data.text for data in ET.fromstring(store.trace.to_graphml()).iter()}


def test_without_networkx_one_is_told(run: Any, talked: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    code, _, err = run("trace", talked, "monday", "--graphml", tmp_path / "x")
    assert code == 1 and "aeon-memory[graph]" in err and not (tmp_path / "x").exists()


def test_dreaming(run: Any, talked: Path) -> None:
    code, out, _ = run("dream", talked, "--dry-run")
    assert code == 0 and out == "nothing is old and cold enough\n", "too few"
    with aeon.open(talked) as store:
        store.restore(1)
        store.remember("She takes the sofa.", session="monday", timestamp=4 * DAY // 24)
    code, out, _ = run("dream", talked, "--dry-run", "--fold")
    assert code == 0 and "would be folded into #2: #7" in out
    assert "1970-01-01 00:00 to 1970-01-01 03:00, monday: 4 memories would be consolidated (retention 0.00" in out
    told = [json.loads(line) for line in run("dream", talked, "--dry-run", "--json")[1].splitlines()]
    assert told[0]["ids"] == [1, 2, 3, 4, 7] and told[0]["summary_id"] is None
    assert run("dream", talked, "--dry-run", "--size-min", 6)[1] == "nothing is old and cold enough\n"
    assert run("dream", talked, "--dry-run", "--gap", 0.5)[1] == "nothing is old and cold enough\n", "an hour apart"
    code, out, _ = run("dream", talked, "--session", "monday")
    assert code == 0 and "5 memories consolidated into #8" in out
    with aeon.open(talked, read_only=True) as store:
        assert store.get(8).role == "summary" and store.trace.is_archived(3)
    assert run("dream", talked)[1] == "nothing is old and cold enough\n"
    assert run("dream", talked, "--undo", 8)[1] == "#8 is undone: 5 memories back in recall\n"
    for wrong in (
        ("--undo", 8),
        ("--undo", 1),
        ("--undo", 1, "--dry-run"),
        ("--retention", 7),
        ("--older-than", "1e99"),
        ("--gap", "nan"),
        ("--session", "mondey"),
    ):
        code, _, err = run("dream", talked, *wrong)
        assert code == 1 and err
