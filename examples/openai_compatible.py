"""Embeddings from any endpoint that speaks OpenAI's `POST /v1/embeddings`: OpenAI, Ollama, vLLM, llama.cpp, LM Studio.

Standard library only. Set the environment, then `python openai_compatible.py`:

    EMBED_URL     default http://localhost:11434/v1, an Ollama on this machine
    EMBED_MODEL   default nomic-embed-text
    EMBED_KEY     the API key, if the endpoint wants one

From the command line: `aeon recall agent.aeon "what is the dog called?" --embed openai_compatible:Embedder`
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BATCH = 128  # texts a request; endpoints refuse too many at once
TIMEOUT_S = 60


class Embedder:
    """Texts to vectors. `name` is what the store remembers: it refuses the vectors of another model."""

    def __init__(self, url: str | None = None, model: str | None = None, key: str | None = None) -> None:
        self._url = (url or os.environ.get("EMBED_URL", "http://localhost:11434/v1")).rstrip("/")
        self._model = model or os.environ.get("EMBED_MODEL", "nomic-embed-text")
        self._key = key or os.environ.get("EMBED_KEY", "")
        self.name = f"openai:{self._model}"  # not the URL: the same model elsewhere makes the same vectors

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = [self._ask(list(texts[at : at + BATCH])) for at in range(0, len(texts), BATCH)]
        return np.concatenate(parts)

    def _ask(self, texts: list[str]) -> NDArray[np.float32]:
        body = json.dumps({"model": self._model, "input": texts, "encoding_format": "float"}).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(f"{self._url}/embeddings", body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            rows = json.load(answer)["data"]
        rows.sort(key=lambda row: row["index"])  # the standard allows any order
        return np.array([row["embedding"] for row in rows], np.float32)


if __name__ == "__main__":
    import tempfile

    import aeon

    with tempfile.TemporaryDirectory() as directory, aeon.open(f"{directory}/agent.aeon", embed=Embedder()) as store:
        store.remember_many(["Gravy is a bloodhound.", "The sofa got stuck in the stairs.", "Tess moved to Trieste."])
        for hit in store.recall("which pet does she own?", k=2):
            print(f"{hit.score:.2f}  {hit.text}")
