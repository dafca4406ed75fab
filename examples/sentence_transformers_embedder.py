"""Real embeddings from a local model: `pip install sentence-transformers`, then run this file.

From the command line: `aeon recall agent.aeon "what is it called?" --embed sentence_transformers_embedder:Embedder`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "sentence-transformers/all-MiniLM-L6-v2"  # 384 dims, about 90 MB, runs on any CPU


class Embedder:
    """Texts to vectors. `name` is what the store remembers: it refuses the vectors of another model."""

    def __init__(self, model: str = MODEL, encoder: Any = None) -> None:
        if encoder is None:
            from sentence_transformers import SentenceTransformer

            encoder = SentenceTransformer(model)
        self.name = f"sentence-transformers:{model}"
        self._encoder = encoder

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._encoder.encode(list(texts), show_progress_bar=False), np.float32)


if __name__ == "__main__":
    import tempfile

    import aeon

    with tempfile.TemporaryDirectory() as directory, aeon.open(f"{directory}/agent.aeon", embed=Embedder()) as store:
        store.remember_many(["Gravy is a bloodhound.", "The sofa got stuck in the stairs.", "Tess moved to Trieste."])
        for hit in store.recall("which pet does she own?", k=2):
            print(f"{hit.score:.2f}  {hit.text}")
