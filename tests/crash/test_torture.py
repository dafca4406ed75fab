"""kill -9 of a real writer, a few times; `aeon torture DIR --kills 1000` for a verdict on a disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aeon.cli import main
from aeon.store import Store
from aeon.torture import Torturer, killer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked")


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killer, "_LIFE_SECONDS", 0.15)


def test_no_acknowledged_commit_is_lost_by_kill_9(tmp_path: Path) -> None:
    with Torturer(tmp_path, seed=7) as torturer:
        for durability in ("full", "normal"):
            torturer.run(4, durability, "stream")
            torturer.run(3, durability, "threads")
    verdict = torturer.verdict
    assert verdict.violations == []
    assert verdict.kills == 14 and verdict.acknowledged > 100 and verdict.followed
    assert verdict.kills_before_commit <= 3


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["torture", str(tmp_path), "--kills", "2", "--durability", "normal", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    assert "NOTHING WAS LOST" in out and "2 kills" in out and not err
    assert main(["torture", str(tmp_path), "--kills", "1000000", "--seconds", "0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["kills"] >= 1 and found["violations"] == []
    assert list(tmp_path.iterdir()) == []
    assert main(["torture", str(tmp_path / "nowhere")]) == 1


def test_a_lost_commit_is_seen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that cannot see a loss proves nothing: here what was written is cut off behind the writer's back."""
    open_store = killer.open_store

    def lose_the_newest(path: Path, *arguments: object, **options: object) -> Store:
        if "read_only" not in options and path.is_dir():
            newest = max((path / "wal").iterdir())
            with open(newest, "r+b") as file:
                file.truncate(64)
        return open_store(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(killer, "open_store", lose_the_newest)
    monkeypatch.setattr(killer, "_EARLY_SHARE", 0.0)
    assert main(["torture", str(tmp_path), "--kills", "6"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED" in out and ("commits, not" in out or "acknowledged as" in out) and str(tmp_path) in err
