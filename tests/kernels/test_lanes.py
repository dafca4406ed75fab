"""The tests of equality again on every SIMD path below this processor's best."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ORDER = ("portable", "avx2", "avx512")


def best_lane() -> str:
    from aeon_native import _jit

    return _jit.simd_path


@pytest.mark.slow
@pytest.mark.parametrize("lane", ORDER)
def test_lane_of_pages(lane: str) -> None:
    """Half a minute each."""
    run_lane(lane, "test_sketch.py")


@pytest.mark.parametrize("lane", ORDER)
def test_lane(lane: str) -> None:
    run_lane(lane, "test_equal.py")


def run_lane(lane: str, file: str) -> None:
    if "AEON_SIMD" in os.environ:
        pytest.skip("a lane is forced from outside")
    if ORDER.index(lane) >= ORDER.index(best_lane()):
        pytest.skip("this process runs that lane itself, or the processor has none")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "error", "-c", os.devnull]
    command += ["--rootdir", str(HERE.parents[1]), str(HERE / file)]
    run = subprocess.run(command, env={**os.environ, "AEON_SIMD": lane}, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
