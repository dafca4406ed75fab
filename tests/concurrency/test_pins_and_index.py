"""A pin taken before rows ended still finds them through the index, though its pages have lost them since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aeon
from aeon_native import dispatch


def test_a_pin_finds_what_has_ended_since(tmp_path: Path) -> None:
    dispatch.start()
    if not dispatch.wait(120):
        pytest.skip("no compiled kernels here")
    rows = np.random.default_rng(0).standard_normal((10_000, 16)).astype(np.float32)
    with aeon.open(tmp_path / "a.aeon", 16, durability="off", checkpoint_log_bytes=0, compact_share=0) as store:
        ids = store.remember_many([""] * len(rows), rows, session=[f"s{n % 2}" for n in range(len(rows))])
        assert store.atlas.settle(60)
        pin = store.pin()
        store.forget(ids[::2])
        store.forget(ids[1::4])
        index = store._engine.atlas.index
        assert index is not None and index.counters.rewritten + index.counters.dissolved > 50
        for session in (None, "s0"):
            same = 0
            for row in rows[:100]:
                exact = pin.atlas.search(row, 10, exact=True, session=session)[0][0].tolist()
                found = pin.atlas.search(row, 10, session=session)[0][0].tolist()
                assert len(set(found)) == 10
                same += len(set(found) & set(exact))
            assert same > 900
