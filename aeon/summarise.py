"""The built-in summariser: the sentences that stand best for all others. Needs no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aeon.embedder import HashEmbedder
from aeon.results import Memory

SENTENCES = 3
_SENTENCES_MAX = 512  # more are thinned out evenly: the work grows with their square
_ENDS = re.compile(r"(?<=[.!?。！？…])[\"')\]]*\s+|\n+")


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, as far as punctuation and line breaks tell."""
    return [part.strip() for part in _ENDS.split(text) if part and part.strip()]


def extract(
    memories: Sequence[Memory], sentences: int = SENTENCES, embed: Callable[[list[str]], Any] | None = None
) -> str:
    """Return the medoid sentences of memories, in their order: chosen one by one so that every sentence is near to one.

    embed : from texts to unit vectors; None = the built-in embedder. "" if there is no text.
    """
    found = list(dict.fromkeys(sentence for memory in memories for sentence in split_sentences(memory.text)))
    if len(found) > _SENTENCES_MAX:
        found = [found[n * len(found) // _SENTENCES_MAX] for n in range(_SENTENCES_MAX)]
    if len(found) <= sentences:
        return " ".join(found)
    vectors = np.asarray((embed or HashEmbedder())(found), np.float32)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    near = np.maximum(vectors @ vectors.T, 0)
    covered = np.zeros(len(found), np.float32)
    chosen: list[int] = []
    for _ in range(sentences):
        gain = np.maximum(near, covered).sum(axis=1)
        gain[chosen] = -1
        best = int(np.argmax(gain))
        chosen.append(best)
        covered = np.maximum(covered, near[best])
    return " ".join(found[n] for n in sorted(chosen))
