"""Results: small, typed, JSON-friendly, read when asked for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.store import Store

ONES = np.ones(8)


def test_a_hit_is_a_memory_with_a_score(store: Store) -> None:
    id_ = store.remember("a text", ONES, role="tool", session="s", metadata={"n": 1})
    hit = store.recall(ONES)[0]
    assert isinstance(hit, aeon.Memory)
    assert type(hit.score) is float and type(hit.id) is int
    assert repr(hit) == "<Hit 1 1.000 s/tool: 'a text'>"
    assert hit.to_dict() == {"score": hit.score, **store.get(id_).to_dict()}
    assert json.loads(json.dumps(hit.to_dict()))["text"] == "a text"


def test_everything_in_a_dict_is_json(store: Store) -> None:
    store.remember("ü\0", key="k", namespace=("a", "b"), metadata={"deep": [{"er": None}]}, refs=[store.remember("b")])
    for memory in store.history():
        assert json.loads(json.dumps(memory.to_dict())) == memory.to_dict()
    for info in store.sessions():
        assert json.loads(json.dumps(dataclasses.asdict(info))) == dataclasses.asdict(info)
    assert json.loads(json.dumps(dataclasses.asdict(store.stats())))["memories"] == 2
    assert json.loads(json.dumps(dataclasses.asdict(store.recovery)))["bytes_dropped"] == 0


def test_results_cannot_be_changed(store: Store) -> None:
    store.remember("a")
    for result in (store.sessions()[0], store.stats(), store.check(), store.recovery):
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.name = "x"


def test_changing_what_a_result_gave_does_not_change_the_store(open_store: Any) -> None:
    store = open_store()
    store.remember("a", ONES, metadata={"tags": ["x"]})
    for _ in range(2):
        memory = store.get(1)
        memory.metadata["tags"].append("y")
        memory.metadata["new"] = 1
        memory.vector[:] = 0
        assert store.get(1).metadata == {"tags": ["x"]}
        assert store.recall(ONES, where={"tags": "y"}) == []
        assert store.recall(ONES)[0].score == pytest.approx(1, abs=1e-3)
        store.checkpoint()


def test_a_vector_is_a_copy_that_may_be_written(store: Store) -> None:
    store.remember("a", ONES)
    for _ in range(2):
        vector = store.get(1).vector
        assert (vector.dtype, vector.shape, vector.flags.writeable, vector.flags.owndata) == (
            np.float32,
            (8,),
            True,
            True,
        )
        store.checkpoint()


def test_a_check_report_says_what_was_verified(store: Store) -> None:
    store.remember_many(["a", "b"], np.eye(2, 8), keys=["k", "l"])
    store.checkpoint()
    store.remember("c")
    report = store.check()
    assert report.ok and report.problems == ()
    expected = {"files": 12, "events": 2, "rows": 2, "sessions": 1, "keys": 2, "edges": 0, "commits in the log": 1}
    assert report.counts.items() >= expected.items()
