"""kill -9 of a real writer, a few times; `python -m tests.crash.torture --kills 1000` for a verdict on a disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.torture import Torturer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked")


def test_no_acknowledged_commit_is_lost_by_kill_9(tmp_path: Path) -> None:
    with Torturer(tmp_path, seed=7) as torturer:
        for durability in ("full", "normal"):
            torturer.run(5, durability, "stream", seconds_max=0.2)
            torturer.run(3, durability, "threads", seconds_max=0.2)
    verdict = torturer.verdict
    assert verdict.violations == []
    assert verdict.kills == 16 and verdict.acknowledged > 0
