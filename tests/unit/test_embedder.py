"""The built-in embedder: frozen outputs, unit rows for any text, and near means near."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from aeon import embedder
from aeon.embedder import CACHED_WORDS_MAX, DIM, HashEmbedder

# text, some of its coordinates, and its dot product with arange(384) / 384. Printed by the first aeon-hash-1; if one
# of these has to change, it is the name that changes.
GOLDEN = [
    ("", {0: 0.0, 34: 1.0}, 0.08854),
    (
        "The dog takes half a tablet at eight o'clock.",
        {190: -0.20534, 243: -0.26151, 256: -0.21355, 268: 0.20534},
        -1.33048,
    ),
    (
        "don't don't DON'T they're na\xefve caf\xe9s \U0001f600",
        {20: -0.18240, 122: 0.38453, 173: 0.19227, 305: 0.38453},
        0.19676,
    ),
    (
        "\u6771\u4eac\u3078\u5f15\u3063\u8d8a\u3057\u307e\u3057\u305f\u3002",
        {26: -0.30697, 204: -0.30697, 269: 0.43853, 303: 0.30697},
        -0.51379,
    ),
    (
        "\u043c\u043e\u0439 \u0440\u0435\u0439\u0441 \u0432 10:30",
        {103: -0.32682, 255: -0.27815, 367: -0.23840, 382: -0.24775},
        -0.96517,
    ),
    (
        "\u092e\u0948\u0902 \u0926\u093f\u0932\u094d\u0932\u0940 \u0917\u092f\u093e",
        {31: -0.16330, 42: 0.34427, 207: -0.26472, 275: -0.18097},
        0.37802,
    ),
    ("the of and", {0: 0.0, 29: 0.57735, 133: 0.57735, 239: -0.57735}, -0.11577),
    ("x" * 100, {68: 0.54880, 169: 0.50564, 191: 0.44596, 307: 0.46248}, 0.99642),
    ("lone \ud800 half", {47: 0.22430, 65: -0.42670, 112: -0.20240, 196: 0.34212}, 0.56756),
]

ODD_TEXTS = {
    "empty": "",
    "spaces": " \t\n\u3000",
    "null byte": "\x00",
    "punctuation": "?!... --- ***",
    "emoji": "\U0001f600\U0001f389",
    "joined emoji": "\U0001f469\u200d\U0001f4bb",
    "surrogate": "\ud800",
    "two surrogates": "a\udfff b\ud83d",
    "function words": "the of and",
    "Chinese": "\u6211\u4eec\u660e\u5929\u642c\u5bb6",
    "Japanese": "\u6771\u4eac\u3078\u5f15\u3063\u8d8a\u3057\u307e\u3057\u305f",
    "Korean": "\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "Arabic": "\u0645\u0631\u062d\u0628\u0627",
    "Hebrew": "\u05e9\u05dc\u05d5\u05dd",
    "Hindi": "\u0926\u093f\u0932\u094d\u0932\u0940",
    "Thai": "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a",
    "mark alone": "\u0301",
    "one letter": "x",
    "one long word": "z" * 1_000_000,
}


def near(a: str, b: str) -> float:
    va, vb = HashEmbedder()([a, b])
    return float(va @ vb)


@pytest.mark.parametrize(("text", "coordinates", "checksum"), GOLDEN, ids=[ascii(text)[:24] for text, _, _ in GOLDEN])
def test_outputs_are_frozen_under_the_name(text: str, coordinates: dict[int, float], checksum: float) -> None:
    assert (HashEmbedder.name, HashEmbedder.dim) == ("aeon-hash-1", 384)
    vector = HashEmbedder()([text])[0]
    assert {i: float(vector[i]) for i in coordinates} == pytest.approx(coordinates, abs=2e-5)
    assert float(vector.astype(np.float64) @ (np.arange(DIM) / DIM)) == pytest.approx(checksum, abs=2e-5)


def test_same_bytes_in_processes_with_different_hash_seeds() -> None:
    program = (
        "import sys; from aeon.embedder import HashEmbedder\n"
        "texts = ['The dog takes half a tablet', 'caf\\xe9 \\u6771\\u4eac \\U0001f600', '']\n"
        "sys.stdout.write(HashEmbedder()(texts).tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(embedder.__file__).parents[1],
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) == 3 * DIM * 4 * 2


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
def test_every_text_has_a_unit_vector(text: str) -> None:
    vectors = HashEmbedder()([text])
    assert vectors.shape == (1, DIM)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert float(np.linalg.norm(vectors[0].astype(np.float64))) == pytest.approx(1.0, abs=1e-6)


def test_a_megabyte_of_distinct_words() -> None:
    text = " ".join(f"{i:x}" for i in range(170_000))
    assert len(text) > 950_000
    assert float(np.linalg.norm(HashEmbedder()([text])[0])) == pytest.approx(1.0, abs=1e-6)


def test_a_row_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for text, _, _ in GOLDEN] + [text[:500] for text in ODD_TEXTS.values()]
    embed = HashEmbedder()
    batch = embed(texts)
    np.testing.assert_array_equal(batch, np.vstack([embed([text]) for text in texts]))
    np.testing.assert_array_equal(batch[::-1], HashEmbedder()(texts[::-1]))
    monkeypatch.setattr(embedder, "PENDING_FEATURES_MAX", 40)
    np.testing.assert_array_equal(batch, HashEmbedder()(texts))


def test_no_texts_no_rows() -> None:
    assert HashEmbedder()([]).shape == (0, DIM)


def test_a_single_string_is_refused() -> None:
    with pytest.raises(TypeError, match="sequence of texts"):
        HashEmbedder()("one text")


def test_features_that_cancel_fall_back_to_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def opposite(word: str) -> embedder.Features:
        return np.array([7], dtype=np.int16), np.array([1.0 if word == "up" else -1.0], dtype=np.float32)

    monkeypatch.setattr(embedder, "_word_features", opposite)
    vectors = HashEmbedder()(["up down", "up"])
    assert np.flatnonzero(vectors[0]).size == 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0)


@pytest.mark.parametrize(
    ("query", "closer", "farther"),
    [
        ("When is my flight to Porto?", "I booked the flight to Porto for Friday.", "The bread needs another hour."),
        ("What dose does the dog take?", "The vet doubled the dog's dose.", "We moved the meeting to Tuesday."),
        ("Who bought the boat?", "Ines buys a boat!", "Ines sails every summer."),
        ("\u72ac\u306e\u85ac", "\u72ac\u306b\u85ac\u3092\u3042\u3052\u305f", "\u6771\u4eac\u3078\u884c\u304f"),
    ],
)
def test_related_is_nearer_than_unrelated(query: str, closer: str, farther: str) -> None:
    assert near(query, closer) > near(query, farther) + 0.15


@pytest.mark.parametrize(
    ("text", "mistyped"),
    [
        ("reservation at the restaurant", "resrevation at the restaraunt"),
        ("the antibiotic prescription", "the antibiotc perscription"),
        ("schedule a maintenance window", "shedule a maintenence window"),
    ],
)
def test_typos_stay_near(text: str, mistyped: str) -> None:
    assert near(text, mistyped) > 0.4
    assert near(text, mistyped) > near("the kettle has been whistling again", mistyped) + 0.3


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("The cat sat.", "THE CAT SAT"),
        ("a caf\xe9 in M\xfcnchen", "a cafe in Munchen"),
        ("don't", "don\u2019t"),
        ("at eight o'clock", "at eight o\u2019clock"),
        ("\uff21\uff22\uff23 \uff11\uff12\uff13", "ABC 123"),
        ("\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627", "\u0645\u0631\u062d\u0628\u0627"),
        ("\u0439\u043e\u0433\u0443\u0440\u0442", "\u0439\u043e\u0433\u0443\u0440\u0442".upper()),
    ],
)
def test_case_accents_and_width_do_not_matter(a: str, b: str) -> None:
    assert near(a, b) == pytest.approx(1.0, abs=1e-6)


def test_different_texts_without_words_differ() -> None:
    assert near("???", "!!!") < 0.5
    assert near("\U0001f600", "\U0001f389") < 0.5
    assert near("\U0001f600\U0001f600", "\U0001f600") == pytest.approx(1.0, abs=1e-6)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CACHED_WORDS_MAX >= 1_000
    monkeypatch.setattr(embedder, "CACHED_WORDS_MAX", 10)
    embed = HashEmbedder()
    texts = [f"word{i} common text" for i in range(100)]
    small = embed(texts)
    assert len(embed._cache) <= 10
    monkeypatch.undo()
    np.testing.assert_array_equal(small, HashEmbedder()(texts))


def test_threads_share_one_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "CACHED_WORDS_MAX", 50)  # full all the time: eviction races with reads
    texts = [f"turn {i} about thing{i % 37} and place{i % 91}" for i in range(200)]
    expected = HashEmbedder()(texts)
    embed = HashEmbedder()
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(10):
            wrong.extend([number] * (not np.array_equal(embed(texts), expected)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
