"""`aeon demo`: the whole story, in a test's time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aeon
from aeon.cli import demo, main

ROOT = Path(aeon.__file__).resolve().parents[1]


def test_it_answers_and_recovers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "demo.aeon"
    assert main(["demo", "--json", "--keep", str(path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["whole"] and facts["recovered"]["found"] == facts["crash"]["acknowledged"] >= 120
    assert facts["recovered"]["bytes_dropped"] > 0 and facts["recovered"]["reason"]
    assert facts["recovered"]["from_before"] == facts["remembered"]["turns"]
    assert all(question["rank"] for question in facts["questions"])
    with aeon.open(path) as store:
        assert (
            len(store)
            == facts["remembered"]["turns"] + facts["crash"]["acknowledged"] + facts["recovered"]["unreported"]
        )
    assert main(["demo", "--keep", str(path)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_it_reads_well_without_rich_and_in_a_pipe() -> None:
    code = "import sys; sys.modules['rich'] = None; from aeon.cli import main; sys.exit(main(['demo']))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert shown.stderr == "" and "\x1b" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert "✗" not in shown.stdout
    for words in ("Tess is moving", "Head of Platform, from 1 April", "acknowledged turns are there", "Your turn"):
        assert words in shown.stdout


def test_a_second_process_that_fails_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false" if sys.platform != "win32" else sys.executable + "x")
    if not Path(sys.executable).exists():
        pytest.skip("no program that fails")
    assert main(["demo"]) == 1
    assert "ended by itself" in capsys.readouterr().err


def test_the_writer_is_killed_when_the_demo_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aeon.cli.demo.time.sleep", interrupted)
    assert main(["demo", "--json"]) == 130


def test_half_a_record_is_torn_though_the_other_half_is_zeros(tmp_path: Path) -> None:
    """What stands behind the log is zeros as well: the demo failed when its writer was killed after a turn of one word."""
    path = str(tmp_path / "short.aeon")
    with aeon.open(path) as store:
        store.remember("And?")
    torn = demo._tear(path)
    with aeon.open(path) as store:
        assert len(store) == 1 and 0 < store.recovery.bytes_dropped <= torn
