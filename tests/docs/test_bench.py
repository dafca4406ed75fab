"""The benchmark itself: its data, its contest, its clock."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import compare, data, datasets, engines, micro, mixed, results
from bench.generated import Generated
from bench.workloads import WORKLOADS, names_of

ROWS, SMALL = data.imitation(600, 384), data.imitation(3000, 32)


def test_workloads_are_named_described_and_grouped() -> None:
    assert all(workload.__doc__ for _, workload in WORKLOADS.values())
    assert {group for group, _ in WORKLOADS.values()} == {"micro", "macro", "compare"}
    assert names_of(["compare"]) == ["compare", "compare_stores"]
    assert names_of([]) == list(WORKLOADS)
    with pytest.raises(KeyError):
        names_of(["no such"])


def test_what_is_measured_anew_replaces_what_was_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.store(path, [{"workload": "b", "value": 1}, {"workload": "a", "value": 1}], ["a", "b"])
    results.store(path, [{"workload": "b", "value": 2}], ["a", "b"])
    assert results.load(path) == [{"workload": "a", "value": 1}, {"workload": "b", "value": 2}]


def test_generated_rows_have_the_duplicates_that_were_asked_for() -> None:
    plain, doubled = Generated(SMALL, 32, 0.5), Generated(SMALL, 32, 0.5, duplicates=0.2)
    assert len({row.tobytes() for row in plain.block(1, 1000, 0.5)}) == 1000
    rows = doubled.block(1, 1000, 0.5)
    copies = Counter(row.tobytes() for row in rows)
    assert len(copies) == 800
    assert max(copies.values()) > 5  # some are said again and again
    np.testing.assert_array_equal(rows, doubled.block(1, 1000, 0.5))


def test_generated_rows_drift() -> None:
    def apart(drift: float) -> float:
        made = Generated(SMALL, 32, 0.5, drift=drift)
        early, late = made.block(1, 2000, 0.0), made.block(2, 2000, 0.5)
        return float(np.linalg.norm(early.mean(0) - late.mean(0)))

    assert apart(2.0) > 2 * apart(0.0)


def test_npy_holds_out_its_last_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", 3 * ROWS[:500])
    found = datasets.load(tmp_path / "rows.npy")
    assert found.base.shape == (450, 384) and found.queries.shape == (50, 384)
    np.testing.assert_allclose(np.linalg.norm(found.base, axis=1), 1, atol=1e-5)


def test_hdf5_is_read_and_its_absence_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "glove.hdf5"
    path.write_bytes(b"not HDF5")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        with pytest.raises(datasets.DataError, match=r"takes h5py: pip install h5py"):
            datasets.load(path)
    h5py = pytest.importorskip("h5py")
    with pytest.raises(datasets.DataError, match="expected HDF5"):
        datasets.load(path)
    for distance in ("angular", "euclidean"):
        with h5py.File(path, "w") as file:
            file.attrs["distance"] = distance
            file["train"], file["test"] = ROWS[:100], ROWS[100:110]
        if distance == "angular":
            assert datasets.load(path).queries.shape == (10, 384)
        else:
            with pytest.raises(datasets.DataError, match="ranks by cosine"):
                datasets.load(path)


def _jsonl(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_beir_is_embedded_with_the_embedder_that_is_there(tmp_path: Path) -> None:
    texts = ["the ferry leaves at nine", "a dog named Gravy", "bread and butter", *(f"note {n}" for n in range(30))]
    _jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)])
    _jsonl(
        tmp_path / "queries.jsonl", [{"_id": "q1", "text": "when leaves the ferry"}, {"_id": "q2", "text": "unjudged"}]
    )
    with pytest.raises(datasets.DataError, match="qrels"):
        datasets.load(tmp_path)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td0\t1\nq1\td1\t0\n", encoding="utf-8")
    found = datasets.load(tmp_path)
    assert found.base.shape == (33, 384) and found.relevant == [{0}]
    assert found.answered(1) == 1.0
    assert "HashEmbedder" in found.note


def test_locomo_evidence_lies_in_its_own_conversation(tmp_path: Path) -> None:
    def turn(n: int, text: str) -> dict[str, str]:
        return {"speaker": "Tess", "dia_id": f"D1:{n}", "text": text}

    conversations = [
        {
            "conversation": {"speaker_a": "Tess", "session_1": [turn(1, "hello"), turn(2, text)]},
            "qa": [{"question": text, "evidence": ["D1:2"]}, {"question": "nobody knows", "evidence": ["D9:9"]}],
        }
        for text in ("the flat is in Trieste", "the dog eats at seven")
    ]
    path = tmp_path / "locomo10.json"
    path.write_text(json.dumps(conversations), encoding="utf-8")
    found = datasets.load(path)
    assert found.relevant == [{1}, {3}]
    assert found.answered(1) == 1.0


@pytest.mark.parametrize("name", ["nothing.npy", "notes.txt", "broken.json", "scalar.npy", "text.npy"])
def test_what_is_no_data_is_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.json").write_text('{"a": 1}', encoding="utf-8")
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]] * 20))
    with pytest.raises(datasets.DataError, match=name.split(".")[0]):
        datasets.load(tmp_path / name)


def test_a_contest_measures_recall_and_names_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    base, queries = ROWS[:500], ROWS[500:520]

    def exact(contest: compare.Contest) -> None:
        contest.add("exact", "scan", lambda query: np.argsort(-(contest.base @ query)))

    def lucky(contest: compare.Contest) -> None:
        contest.add("lucky", "nine", lambda query: np.append(np.argsort(-(contest.base @ query))[:9], -1))

    def absent(contest: compare.Contest) -> None:
        raise ImportError("no", name="absent_library")

    monkeypatch.setattr(engines, "ENGINES", {"exact": exact, "lucky": lucky, "absent": absent})
    contest = compare.Contest(base, queries, queries[:0])
    contest.pass_seconds = 0.001
    found = list(compare.hold(contest, ["exact", "lucky", "absent"], 2, "rows"))
    recall = {one["engine"]: one["recall@10"] for one in found if one["metric"] == "engine"}
    assert recall == {"exact": 1.0, "lucky": 0.9}
    assert found[-1]["missing"] == {"absent": "not installed (absent_library)"}
    for one in found:
        results.require_printable({"workload": "compare", **one})


def test_a_call_that_had_to_wait_counts_its_waiting() -> None:
    class Slow:
        calls = 0

        def recall(self, *_: Any) -> None:
            self.calls += 1
            if self.calls == 1:
                time.sleep(0.05)

    times: dict[str, list[float]] = {"recall": [], "remember": []}
    mixed._slice(Slow(), None, 0, np.zeros((10, 2)), np.zeros(10, bool), times)
    assert len(times["recall"]) == 10
    assert times["recall"][0] >= 50_000  # microseconds
    assert times["recall"][9] >= 30_000  # due 18 milliseconds after the first, and stuck behind it


@pytest.mark.parametrize("name", ["pin and unpin", "log append", "frame decode", "SLB lookup"])
def test_the_cases_of_micro_do_what_they_say(name: str, tmp_path: Path) -> None:
    case = micro.CASES[name][0]("", tmp_path)
    answer = case.call()
    kept = (case.about or {}).get("keep")
    if name == "frame decode":
        assert answer == 1000
    elif name == "log append":
        assert case.call()[0] == answer[0] + 1  # the next LSN
        kept._wal = None
    if kept is not None:
        kept.close()
