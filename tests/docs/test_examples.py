"""The examples of memories that others have described run, and show what they are about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aeon

MEMORIES = Path(__file__).resolve().parents[2] / "examples" / "memories"
SHOWN = {
    "hymem": ["coarse: ['Gravy the dog and his habits.']", "fine:   ['He eats at seven.'"],
    "g_memory": ["insights: ['Group by month before plotting.']", "read visits.csv"],
    "hgmem": ["merged: Tess signed the lease for the flat. / Tess painted the flat.", "['Tess', 'flat', 'lease']"],
    "a_mem": ["[['flat'], ['flat', 'ferry', 'time']]", "ferry is related to: ['harbour']"],
    "tim": ["forgotten: ['Tess lives in Leipzig.']", "because of: ['I moved to Leipzig. I like my dog Gravy.']"],
}


def test_every_example_is_known() -> None:
    assert {file.stem for file in MEMORIES.glob("*.py")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_it_runs(name: str, tmp_path: Path) -> None:
    store = tmp_path / "agent.aeon"
    run = subprocess.run(
        [sys.executable, "-W", "error", str(MEMORIES / f"{name}.py"), str(store)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for line in SHOWN[name]:
        assert line in run.stdout
    with aeon.open(store) as made:
        assert made.check().ok
