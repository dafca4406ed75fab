"""Real conversations through the public API: all of it comes back, and search is as good as comparing with every vector.

A result counts as right if its exact score reaches the k-th exact score: 28 % of the dialogue queries tie at rank 10.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import aeon
from aeon.store import Store

pytestmark = pytest.mark.data

K = 10
QUERIES = 400
BATCH = 2000
ROUNDING = 1e-6  # two float32 sums of the same 384 products differ by less


class Turns(NamedTuple):
    """Lines of a .jsonl.gz and their vectors, normalised after widening."""

    lines: list[dict[str, Any]]
    vectors: NDArray[np.float32]


def load(folder: Path, name: str) -> Turns:
    path = folder / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {path.parent.name}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    vectors = np.load(folder / f"{name}.npy").astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(lines) == len(vectors)
    return Turns(lines, vectors)


@pytest.fixture(scope="module")
def shared() -> Path:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the conversations are not here: no shared/data beside the repository")
    return folder


@pytest.fixture(scope="module")
def kernels() -> None:
    from aeon_native import dispatch

    dispatch.start()
    dispatch.wait()


def ingest(path: Path, turns: Turns, rows: Any) -> list[int]:
    """Remember every turn in batches, dialogues as sessions; return the ids."""
    ids: list[int] = []
    roles = {"USER": "user", "SYSTEM": "assistant"}
    with aeon.open(path, 384, rows=rows, durability="off") as store:
        for start in range(0, len(turns.lines), BATCH):
            lines = turns.lines[start : start + BATCH]
            ids += store.remember_many(
                [line["text"] for line in lines], turns.vectors[start : start + BATCH],
                session=[line["dialogue"] for line in lines], role=[roles.get(line["speaker"], "user") for line in lines],
                timestamps=[line["id"] for line in lines], metadata=[{"turn": line["turn"]} for line in lines],
            )  # fmt: skip
        store.flush()
        store.checkpoint()
    return ids


def recall_at_k(found: NDArray[np.uint64], exact: NDArray[np.float32]) -> float:
    """Share of results whose exact score reaches the k-th exact score. found : ids [n, k]; exact : scores [n, rows]."""
    kth = np.partition(exact, -K, axis=1)[:, -K]
    scores = np.take_along_axis(exact, found.astype(np.int64) - 1, axis=1)
    for row in found:
        assert len(set(row.tolist())) == len(row), "a result came twice"
    return float((scores >= kth[:, None] - ROUNDING).mean())


# -- dialogue: 60,012 turns -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dialogue(shared: Path) -> Turns:
    return load(shared / "dialogue", "base")


@pytest.fixture(scope="module")
def dialogue_queries(shared: Path) -> NDArray[np.float32]:
    return load(shared / "dialogue", "queries").vectors[:2000][:: 2000 // QUERIES]


@pytest.fixture(scope="module")
def exact_scores(dialogue: Turns, dialogue_queries: NDArray[np.float32]) -> NDArray[np.float32]:
    return dialogue_queries @ dialogue.vectors.T


@pytest.fixture(scope="module", params=["int8", "float32"])
def dialogue_store(
    request: pytest.FixtureRequest, dialogue: Turns, kernels: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("dialogue") / "agent.aeon"
    assert ingest(path, dialogue, request.param) == list(range(1, len(dialogue.lines) + 1))
    store = aeon.open(path)
    assert store.recovery.commits_replayed == 0
    yield store
    store.close()


def test_exact_search_is_numpys_top_ten(
    dialogue_store: Store, dialogue_queries: NDArray[np.float32], exact_scores: NDArray[np.float32]
) -> None:
    hits = [dialogue_store.recall(query, K, exact=True) for query in dialogue_queries]
    found = np.array([[hit.id for hit in each] for each in hits], np.uint64)
    assert found.shape == (QUERIES, K)
    quality = recall_at_k(found, exact_scores)
    if dialogue_store.stats().rows == "float32":
        assert quality == 1.0
    else:
        assert quality >= 0.995
    scores = np.array([[hit.score for hit in each] for each in hits])
    exact = np.take_along_axis(exact_scores, found.astype(np.int64) - 1, axis=1)
    assert np.abs(scores - exact).max() < (1e-5 if dialogue_store.stats().rows == "float32" else 0.01), (
        "scores are cosines"
    )
    ids, bare = dialogue_store.atlas.search(dialogue_queries[:50], K)
    assert recall_at_k(ids, exact_scores[:50]) >= 0.94
    assert (np.diff(bare, axis=1) <= 0).all()


def test_the_neighbours_that_come_with_the_data_agree(shared: Path, exact_scores: NDArray[np.float32]) -> None:
    """The oracle of these tests is itself held against figures that somebody else computed."""
    neighbours = np.load(shared / "dialogue" / "neighbours.npy")[:: 2000 // QUERIES, :K]
    assert recall_at_k(neighbours.astype(np.uint64) + 1, exact_scores) == 1.0


def test_every_turn_comes_back(dialogue_store: Store, dialogue: Turns) -> None:
    stats = dialogue_store.stats()
    assert stats.memories == stats.vectors == len(dialogue_store) == len(dialogue.lines) == 60_012
    for number in [*range(0, len(dialogue.lines), 61), len(dialogue.lines) - 1]:
        line, memory = dialogue.lines[number], dialogue_store.get(number + 1)
        assert (memory.text, memory.session, memory.timestamp) == (line["text"], line["dialogue"], line["id"])
        assert memory.metadata == {"turn": line["turn"]}
        step = np.abs(dialogue.vectors[number]).max() / 127 if stats.rows == "int8" else 1e-6
        assert np.abs(memory.vector - dialogue.vectors[number]).max() <= step * 0.501, "rounded to the nearest code"
    by_session: dict[str, list[int]] = {}
    for line in dialogue.lines:
        by_session.setdefault(line["dialogue"], []).append(line["id"] + 1)
    assert [(info.name, info.count) for info in dialogue_store.sessions()] == [
        (n, len(ids)) for n, ids in by_session.items()
    ]
    for name in list(by_session)[::300]:
        assert [memory.id for memory in dialogue_store.history(name, limit=None)] == by_session[name]


def test_repeated_turns_are_all_found_in_order(dialogue_store: Store, dialogue: Turns) -> None:
    """22 % of the turns are exact duplicates: each of them is a row, and none hides another."""
    same: dict[str, list[int]] = {}
    for line in dialogue.lines:
        same.setdefault(line["text"], []).append(line["id"])
    groups = sorted((ids for ids in same.values() if len(ids) > 40), key=len, reverse=True)[:10]
    assert len(groups) == 10
    for ids in groups:
        twins = [n for n in ids if np.array_equal(dialogue.vectors[n], dialogue.vectors[ids[0]])]
        hits = dialogue_store.recall(dialogue.vectors[ids[0]], 40, exact=True)
        best = [hit.id for hit in hits if hit.score == hits[0].score]
        assert best == sorted(best), "equal scores in the order they were remembered"
        assert set(best) >= {n + 1 for n in twins[: len(best)]} or len(best) == 40


def test_filters_on_real_data_agree_with_numpy(
    dialogue_store: Store, dialogue: Turns, dialogue_queries: NDArray[np.float32], exact_scores: NDArray[np.float32]
) -> None:
    speaker = np.array([line["speaker"] == "USER" for line in dialogue.lines])
    turn = np.array([line["turn"] for line in dialogue.lines])
    time = np.arange(len(turn))
    filters: list[tuple[dict[str, Any], NDArray[np.bool_]]] = [
        ({"roles": "user"}, speaker),
        ({"since": 30_000, "until": 30_700}, (time >= 30_000) & (time < 30_700)),
        ({"where": {"turn": {"$gte": 20}}}, turn >= 20),
        ({"roles": "assistant", "until": 9_000, "where": {"turn": 3}}, ~speaker & (time < 9_000) & (turn == 3)),
    ]
    for arguments, mask in filters:
        for number in range(0, QUERIES, 150):
            hits = dialogue_store.recall(dialogue_queries[number], K, exact=True, **arguments)
            exact = np.where(mask, exact_scores[number], -2)
            assert len(hits) == K
            assert all(mask[hit.id - 1] for hit in hits)
            slack = ROUNDING if dialogue_store.stats().rows == "float32" else 0.01
            assert min(exact[hit.id - 1] for hit in hits) >= np.sort(exact)[-K] - slack


# -- locomo: five long conversations ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locomo(shared: Path) -> Turns:
    return load(shared / "locomo", "turns")


@pytest.fixture(scope="module")
def questions(shared: Path) -> Turns:
    return load(shared / "locomo", "questions")


def evidence_recall(results: list[list[int]], questions: Turns) -> float:
    """Mean share of a question's evidence among its results, questions without evidence aside."""
    shares = [
        len(set(found) & set(line["evidence_rows"])) / len(set(line["evidence_rows"]))
        for found, line in zip(results, questions.lines, strict=True)
        if line["evidence_rows"]
    ]
    assert len(shares) > 900
    return float(np.mean(shares))


def numpys_answers(turns: Turns, questions: Turns) -> list[list[int]]:
    """Top-10 rows per question within its own conversation."""
    conversation = np.array([line["conv"] for line in turns.lines])
    scores = questions.vectors @ turns.vectors.T
    for number, line in enumerate(questions.lines):
        scores[number, conversation != line["conv"]] = -2
    return np.argsort(-scores, axis=1, kind="stable")[:, :K].tolist()


@pytest.mark.parametrize("rows", ["int8", "float32"])
def test_conversations_as_sessions(tmp_path: Path, locomo: Turns, questions: Turns, kernels: None, rows: Any) -> None:
    path = tmp_path / "agent.aeon"
    assert ingest(path, locomo, rows) == list(range(1, 2961))
    with aeon.open(path) as store:
        counts: dict[str, int] = {}
        for line in locomo.lines:
            counts[line["dialogue"]] = counts.get(line["dialogue"], 0) + 1
        assert len(counts) == 5
        assert [(info.name, info.count) for info in store.sessions()] == list(counts.items())
        results = []
        for line, vector in zip(questions.lines, questions.vectors, strict=True):
            hits = store.recall(vector, K, session=line["dialogue"], exact=True)
            assert len(hits) == K and all(hit.session == line["dialogue"] for hit in hits)
            results.append([hit.id - 1 for hit in hits])
        expected = numpys_answers(locomo, questions)
        scores = questions.vectors @ locomo.vectors.T
        right = [
            scores[n, row] >= scores[n, truth[-1]] - ROUNDING
            for n, (found, truth) in enumerate(zip(results, expected, strict=True))
            for row in found
        ]
        assert np.mean(right) == 1.0 if rows == "float32" else np.mean(right) >= 0.99
        assert evidence_recall(results, questions) == pytest.approx(evidence_recall(expected, questions), abs=0.005)
        for info in store.sessions():
            turns = [line for line in locomo.lines if line["dialogue"] == info.name]
            assert [memory.text for memory in store.history(info.name, limit=None)] == [line["text"] for line in turns]
        assert store.check().ok


def test_the_built_in_embedder_is_good_enough_to_be_useful(
    tmp_path: Path, locomo: Turns, questions: Turns, kernels: None
) -> None:
    """Text in, text out, no model: nearly half of the evidence is among ten hits (chance would find 2 %)."""
    with aeon.open(tmp_path / "agent.aeon", durability="off") as store:
        store.remember_many(
            [line["text"] for line in locomo.lines], session=[line["dialogue"] for line in locomo.lines]
        )
        results = [
            [hit.id - 1 for hit in store.recall(line["text"], K, session=line["dialogue"])] for line in questions.lines
        ]
    assert evidence_recall(results, questions) >= 0.45


def test_the_whole_conversation_survives_being_written_turn_by_turn(
    tmp_path: Path, locomo: Turns, kernels: None
) -> None:
    path = tmp_path / "agent.aeon"
    lines = locomo.lines
    with aeon.open(
        path, 384, durability="normal", segment_bytes_max=1 << 18, checkpoint_log_bytes=1 << 20, background=False
    ) as store:
        for line, vector in zip(lines, locomo.vectors, strict=True):
            store.remember(line["text"], vector, session=line["dialogue"], key=f"{line['dialogue']}/{line['dia_id']}")
        assert store.stats().generation >= 1
    with aeon.open(path) as store:
        assert [store.get(number + 1).text for number in range(len(lines))] == [line["text"] for line in lines]
        assert store.get_key(f"{lines[7]['dialogue']}/{lines[7]['dia_id']}").text == lines[7]["text"]
        assert store.check().ok
