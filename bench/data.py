"""Rows to measure with: the real conversations where they are, else a seeded imitation; both normalised float32."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


def dialogue() -> tuple[list[str], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None:
    """(texts, base [60012, 384], queries [2000, 384], exact 10th-best score of each query), or None if not there."""
    folder = FOLDER / "dialogue"
    if not folder.is_dir():
        return None
    base, queries = (unit(np.load(folder / f"{name}.npy").astype(np.float32)) for name in ("base", "queries"))
    with gzip.open(folder / "base.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return texts, base, queries[:2000], np.load(folder / "neighbour_scores.npy")[:, 9]


def imitation(count: int, dim: int, seed: int = 1) -> NDArray[np.float32]:
    """Rows in clusters with a falling spectrum and a fifth of exact duplicates: float32[count, dim], normalised."""
    rng = np.random.default_rng(seed)
    spectrum = (1 / np.sqrt(1 + np.arange(dim))).astype(np.float32)
    centres = rng.standard_normal((max(1, count // 200), dim), np.float32) * spectrum
    rows = centres[rng.integers(0, len(centres), count)]
    rows += 0.7 * rng.standard_normal((count, dim), np.float32) * spectrum
    twins = rng.integers(0, count, count // 5)
    rows[rng.integers(0, count, count // 5)] = rows[twins]
    return unit(rows)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at length 1."""
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
