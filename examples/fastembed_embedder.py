"""Real embeddings without PyTorch: `pip install fastembed`, then `python fastembed_embedder.py`.

From the command line: `aeon recall agent.aeon "what is the dog called?" --embed fastembed_embedder:Embedder`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "BAAI/bge-small-en-v1.5"  # 384 dims, about 70 MB, ONNX


class Embedder:
    """Texts to vectors. `name` is what the store remembers: it refuses the vectors of another model."""

    def __init__(self, model: str = MODEL, encoder: Any = None) -> None:
        if encoder is None:
            from fastembed import TextEmbedding

            encoder = TextEmbedding(model)
        self.name = f"fastembed:{model}"
        self._encoder = encoder

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(list(self._encoder.embed(list(texts))), np.float32)  # embed() is a generator


if __name__ == "__main__":
    import tempfile

    import aeon

    with tempfile.TemporaryDirectory() as directory, aeon.open(f"{directory}/agent.aeon", embed=Embedder()) as store:
        store.remember_many(["Gravy is a bloodhound.", "The sofa got stuck in the stairs.", "Tess moved to Trieste."])
        for hit in store.recall("which pet does she own?", k=2):
            print(f"{hit.score:.2f}  {hit.text}")
