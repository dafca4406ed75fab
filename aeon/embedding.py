"""Who makes the vectors: a callable from texts to an array, and the name that the store remembers it by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon.errors import DimensionError, EmbedderMismatchError, InvalidInputError
from aeon.format import DIM_MAX

Embed = Callable[[list[str]], Any]

CALLERS_OWN = ""  # the embedder's name in a store whose vectors the caller brings


def embedder_name(embed: Embed) -> str:
    """Return the identity of an embedder: its `name` attribute, else module and qualified name of it or its class."""
    name = getattr(embed, "name", None)
    if isinstance(name, str) and name:
        return name
    named = embed if hasattr(embed, "__qualname__") else type(embed)
    return f"{named.__module__}.{named.__qualname__}"


def embed_texts(embed: Embed, texts: Sequence[str], dim: int | None) -> NDArray[np.float32]:
    """Return float32[n, dim] for `texts`; InvalidInputError or DimensionError if the embedder returns something else."""
    made = embed(list(texts))
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
            array = np.asarray(made, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"the embedder returned no array of numbers: {error}") from None
    if array.ndim != 2 or len(array) != len(texts):
        raise InvalidInputError(f"the embedder returned shape {array.shape} for {len(texts)} texts: [n, dim] is needed")
    if dim is not None and array.shape[1] != dim:
        raise DimensionError(f"the embedder returned {array.shape[1]} dims; this store keeps {dim}")
    return np.ascontiguousarray(array)


def choose(dim: int | None, embed: Embed | None) -> tuple[int, str]:
    """Return (dim, embedder name) of a new store."""
    if dim is not None and (isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= DIM_MAX):
        raise InvalidInputError(f"dim is an int from 1 to {DIM_MAX}, not {dim!r}")
    if embed is not None:
        if not callable(embed):
            raise InvalidInputError(f"embed is a callable from texts to vectors, not {embed!r}")
        found = embed_texts(embed, ["aeon"], dim).shape[1]
        if not 1 <= found <= DIM_MAX:
            raise InvalidInputError(f"the embedder makes vectors of {found} dims; aeon keeps 1 to {DIM_MAX}")
        return found, embedder_name(embed)
    if dim is not None:
        return dim, CALLERS_OWN
    from aeon.embedder import HashEmbedder

    return HashEmbedder.dim, HashEmbedder.name


def match(path: str, stored_dim: int, stored_name: str, dim: int | None, embed: Embed | None) -> Embed | None:
    """Return the embedder to use with an existing store, or None; EmbedderMismatchError if it made other vectors."""
    if dim is not None and dim != stored_dim:
        raise EmbedderMismatchError(f"{path} keeps vectors of {stored_dim} dims, not {dim!r}")
    if embed is not None:
        if not callable(embed):
            raise InvalidInputError(f"embed is a callable from texts to vectors, not {embed!r}")
        name = embedder_name(embed)
        if name != stored_name:
            made_by = f"the embedder {stored_name!r}" if stored_name else "its caller, who passes them along"
            raise EmbedderMismatchError(
                f"the vectors in {path} were made by {made_by}; {name!r} would mix two kinds that cannot be compared"
                " (its `name` attribute, or else its module and name, is an embedder's identity)"
            )
        return embed
    from aeon.embedder import HashEmbedder

    return HashEmbedder() if stored_name == HashEmbedder.name else None
