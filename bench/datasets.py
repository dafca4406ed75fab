"""Data of the user's own, by path: `.npy`, ann-benchmarks HDF5, a BEIR folder, LoCoMo.

Vectors are taken at length 1: aeon ranks by cosine. Texts without vectors (BEIR, LoCoMo) are embedded with aeon's
HashEmbedder, which needs no model and finds words rather than meaning: speeds and recall against exact search hold for
any embedder, `answered` (how much of what is relevant the exact search finds) is this embedder's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon import HashEmbedder
from bench.data import unit

HELD_OUT = 1000  # rows at the end of a `.npy` that become queries
_COSINE = ("angular", "cosine")


class DataError(ValueError):
    """A file that is not what it should be, or that takes a library which is not installed."""


@dataclass(frozen=True)
class Dataset:
    """base, queries : float32[n, dim], float32[m, dim], of length 1. relevant : of each query, the rows that answer it."""

    name: str
    base: NDArray[np.float32]
    queries: NDArray[np.float32]
    note: str = ""
    relevant: list[set[int]] = field(default_factory=list)

    def answered(self, k: int = 10) -> float | None:
        """Share of the relevant rows among the exact k nearest; None where nobody said what is relevant."""
        found = total = 0
        for query, wanted in zip(self.queries, self.relevant, strict=False):
            best = np.argpartition(-(self.base @ query), k)[:k] if k < len(self.base) else range(len(self.base))
            found += len(wanted & {int(row) for row in best})
            total += len(wanted)
        return found / total if total else None


def load(path: Path) -> Dataset:
    """Read whatever lies at `path`; DataError if it is nothing that is known."""
    if path.is_dir():
        return _beir(path)
    readers = {".npy": _npy, ".hdf5": _hdf5, ".h5": _hdf5, ".json": _locomo}
    if path.suffix not in readers:
        raise DataError(f"{path}: expected a .npy, .hdf5 or LoCoMo .json file, or a BEIR folder")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    return readers[path.suffix](path)


def _vectors(array: Any, what: str) -> NDArray[np.float32]:
    rows = np.asarray(array)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not len(rows):
        raise DataError(f"{what}: expected numbers[n, dim], found {rows.dtype}{list(rows.shape)}")
    wide = rows.astype(np.float32)
    if not np.isfinite(wide).all():
        raise DataError(f"{what}: holds NaN or infinity")
    return unit(wide[np.linalg.norm(wide, axis=1) > 0])


def _npy(path: Path) -> Dataset:
    """The last rows are the queries, and no longer part of the base."""
    try:
        rows = _vectors(np.load(path, allow_pickle=False), str(path))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {error}") from error
    held = min(HELD_OUT, len(rows) // 10)
    if not held:
        raise DataError(f"{path}: expected ten rows or more, found {len(rows)}")
    return Dataset(path.stem, rows[:-held], rows[-held:], f"the last {held} rows as queries")


def _hdf5(path: Path) -> Dataset:
    """The layout of ann-benchmarks: `train`, `test`, and the attribute `distance`."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"reading {path.name} takes h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            distance = str(file.attrs.get("distance", "angular"))
            if distance not in _COSINE:
                raise DataError(f"{path}: its distance is {distance!r}; aeon ranks by cosine, expected 'angular'")
            base, queries = (_vectors(file[name][:], f"{path}: {name}") for name in ("train", "test"))
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: expected HDF5 with `train` and `test` ({error})") from error
    return Dataset(path.stem, base, queries)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path}: a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/*.tsv")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _beir(folder: Path) -> Dataset:
    corpus, asked = _lines(folder / "corpus.jsonl"), _lines(folder / "queries.jsonl")
    qrels = next(
        (path for name in ("test", "dev", "train") if (path := folder / "qrels" / f"{name}.tsv").is_file()), None
    )
    if qrels is None:
        raise DataError(f"{folder}/qrels: expected test.tsv, dev.tsv or train.tsv")
    row = {str(document["_id"]): n for n, document in enumerate(corpus)}
    relevant: dict[str, set[int]] = {}
    for line in qrels.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        if int(score) > 0 and document in row:
            relevant.setdefault(query, set()).add(row[document])
    asked = [query for query in asked if str(query["_id"]) in relevant]
    if not asked:
        raise DataError(f"{folder}: no query of queries.jsonl has a relevant document in {qrels.name}")
    return _embedded(
        folder.name,
        [f"{document.get('title', '')} {document['text']}".strip() for document in corpus],
        [query["text"] for query in asked],
        [relevant[str(query["_id"])] for query in asked],
    )


def _locomo(path: Path) -> Dataset:
    """Turns of all conversations; a question's evidence is among those of its own."""
    try:
        conversations = json.loads(path.read_text(encoding="utf-8"))
        texts, questions, relevant = [], [], []
        for conversation in conversations:
            rows: dict[str, int] = {}
            for turns in conversation["conversation"].values():
                for turn in turns if isinstance(turns, list) else ():
                    rows[turn["dia_id"]] = len(texts)
                    texts.append(f"{turn['speaker']}: {turn['text']}")
            for asked in conversation["qa"]:
                wanted = {rows[name] for name in asked.get("evidence", ()) if name in rows}
                if wanted:
                    questions.append(asked["question"])
                    relevant.append(wanted)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected LoCoMo conversations with `conversation` and `qa` ({error!r})") from error
    if not questions:
        raise DataError(f"{path}: no question with evidence")
    return _embedded(path.stem, texts, questions, relevant)


def _embedded(name: str, texts: list[str], questions: list[str], relevant: list[set[int]]) -> Dataset:
    embed = HashEmbedder()
    return Dataset(name, embed(texts), embed(questions), "embedded with aeon's HashEmbedder", relevant)
