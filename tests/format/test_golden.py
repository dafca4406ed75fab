"""Stores that earlier versions of aeon wrote: each opens, shows what it held, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import aeon
from aeon.format import FORMAT_VERSION
from tests.format.golden.make_golden import describe

GOLDEN = Path(__file__).parent / "golden"
STORES = sorted(path for path in GOLDEN.glob("v*/*") if path.is_dir())


def require_equal(shown: dict[str, Any], expected: dict[str, Any]) -> None:
    """Everything is the same, scores within rounding."""
    assert [id_ for id_, _ in shown["hits"]] == [id_ for id_, _ in expected["hits"]]
    assert [score for _, score in shown["hits"]] == pytest.approx([score for _, score in expected["hits"]], abs=2e-5)
    assert {**shown, "hits": None} == {**expected, "hits": None}


def test_this_version_has_its_golden_stores() -> None:
    assert {path.parent.name for path in STORES} >= {f"v{version}" for version in range(1, FORMAT_VERSION + 1)}


@pytest.mark.parametrize("golden", STORES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_golden_store_opens_and_shows_what_it_held(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "agent.aeon"
    shutil.copytree(golden, path)
    expected = json.loads(golden.with_name(f"{golden.name}.json").read_text(encoding="utf-8"))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with aeon.open(path, read_only=True) as store:
        require_equal(describe(store), expected)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    with aeon.open(path) as store:
        assert store.recovery.reason == ""
        require_equal(describe(store), expected)
        assert store.check().problems == ()
        new = store.remember("written by a later version", [1.0] * expected["dim"], session="kitchen", key="plan")
        assert new > max(map(int, expected["memories"]))
        store.checkpoint()
        assert store.check().problems == ()
    with aeon.open(path) as store:
        shown = describe(store)
        assert shown["memories"].pop(str(new))["text"] == "written by a later version"
        assert shown["memories"] == expected["memories"]
