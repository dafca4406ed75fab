"""The demo's conversation is well formed, and the built-in embedder finds what its questions ask for."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from aeon.embedder import HashEmbedder

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def lines(name: str) -> list[dict[str, Any]]:
    text = resources.files("aeon.demo_data").joinpath(name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


TURNS = lines("conversation.jsonl")
QUESTIONS = lines("questions.jsonl")


def test_every_turn_has_its_fields() -> None:
    for turn in TURNS:
        assert {"session", "role", "text", "timestamp"} <= turn.keys()
        assert turn.keys() <= {"session", "role", "text", "timestamp", "metadata"}
        assert turn["role"] in {"user", "assistant", "tool"}
        assert turn["text"].strip() == turn["text"] != ""
        assert type(turn["timestamp"]) is int
        assert turn.get("metadata", {"topic": ""}) != {}


def test_its_size() -> None:
    assert 250 <= len(TURNS) <= 400
    assert len({turn["session"] for turn in TURNS}) >= 8
    assert {turn["role"] for turn in TURNS} == {"user", "assistant", "tool"}
    assert len({turn["text"] for turn in TURNS}) >= len(TURNS) - 3


def test_time_only_moves_forward() -> None:
    stamps = [turn["timestamp"] for turn in TURNS]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert timedelta(weeks=6) < timedelta(microseconds=stamps[-1] - stamps[0]) < timedelta(weeks=8)


def test_sessions_are_whole_and_named_by_their_day() -> None:
    order = [turn["session"] for turn in TURNS]
    starts = [i for i, session in enumerate(order) if i == 0 or session != order[i - 1]]
    assert len(starts) == len(set(order))
    for i in starts:
        started = EPOCH + timedelta(microseconds=TURNS[i]["timestamp"])
        assert order[i].startswith(f"{started:%Y-%m-%d}-")


def test_questions_have_their_fields() -> None:
    assert 10 <= len(QUESTIONS) <= 12
    for question in QUESTIONS:
        assert question.keys() == {"question", "answer", "evidence", "note"}
        assert question["evidence"] == sorted(set(question["evidence"]))
        assert all(0 <= line < len(TURNS) for line in question["evidence"])
        assert question["evidence"] != []


def test_some_answers_changed_on_the_way() -> None:
    assert sum("newest" in question["note"] for question in QUESTIONS) >= 3


@pytest.mark.parametrize("question", QUESTIONS, ids=[question["question"][:32] for question in QUESTIONS])
def test_the_evidence_is_in_the_top_five(question: dict[str, Any]) -> None:
    embed = HashEmbedder()
    scores = embed([turn["text"] for turn in TURNS]) @ embed([question["question"]])[0]
    best = np.argsort(-scores, kind="stable")[:5]
    assert set(question["evidence"]) <= set(best.tolist())
