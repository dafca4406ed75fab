"""`aeon map`: a picture of the right kind, or one line that says why not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import aeon
from aeon.cli import main


@pytest.fixture
def path(tmp_path: Path, compiled_kernels: None) -> str:
    rng = np.random.default_rng(0)
    where = str(tmp_path / "agent.aeon")
    with aeon.open(where, 16, durability="off") as store:
        for n in range(12):
            texts = [f"$memory {n}: \u4f60\u597d\n" for _ in range(30)]
            centre = rng.standard_normal(16)
            store.remember_many(texts, centre + 0.3 * rng.standard_normal((30, 16)), session=f"_session ${n}")
    return where


@pytest.mark.parametrize(("name", "begin"), (("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")))
@pytest.mark.parametrize("colour", ("session", "time"))
def test_a_picture(path: str, tmp_path: Path, name: str, begin: bytes, colour: str) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / name
    assert main(["map", path, "--out", str(out), "--colour", colour]) == 0
    data = out.read_bytes()
    assert data.startswith(begin) and len(data) > 5000
    assert main(["map", path, "--out", str(out)]) == 1 and out.read_bytes() == data  # not replaced
    assert main(["map", path, "--out", str(out), "--force"]) == 0


def test_why_there_is_no_picture(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        assert main(["map", *arguments]) == 1
        return capsys.readouterr().err

    pytest.importorskip("matplotlib")
    assert ".svg or .png" in said(path, "--out", str(tmp_path / "a.jpeg"))
    assert "No such" in said(path, "--out", str(tmp_path / "nowhere" / "a.svg"))
    empty = str(tmp_path / "empty.aeon")
    aeon.open(empty, 4).close()
    assert "no vectors" in said(empty, "--out", str(tmp_path / "b.svg"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "aeon-memory[map]" in said(path, "--out", str(tmp_path / "c.svg"))
    assert not (tmp_path / "b.svg").exists() and not (tmp_path / "c.svg").exists()


def test_one_memory_is_a_dot(tmp_path: Path, compiled_kernels: None) -> None:
    pytest.importorskip("matplotlib")
    for dim in (1, 4):
        with aeon.open(tmp_path / f"one{dim}", dim) as store:
            store.remember("alone", np.ones(dim))
        assert (
            main(["map", str(tmp_path / f"one{dim}"), "--out", str(tmp_path / f"{dim}.svg"), "--colour", "time"]) == 0
        )
