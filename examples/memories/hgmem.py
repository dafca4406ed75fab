"""HGMem: memory as a hypergraph. A memory point is a hyperedge that joins any number of entities; points that share entities
are merged into ones of a higher order as the work goes on."""

from __future__ import annotations

import sys
import tempfile
from itertools import combinations

import aeon


def point(store: aeon.Store, text: str, entities: list[str]) -> int:
    """Keep a hyperedge: one memory that refers to each of its entities."""
    return store.remember(text, refs=[store.concept(name) for name in entities])


def entities_of(store: aeon.Store, id_: int) -> set[int]:
    """The entities that a point joins."""
    return {edge.dst for edge in store.trace.neighbours(id_, "ref", "out")}


def merge_once(store: aeon.Store, shared: int = 2) -> int | None:
    """Merge two points that share so many entities into one of a higher order, which takes their edges over."""
    points = [memory.id for memory in store.memories(session="default") if not store.trace.is_archived(memory.id)]
    for a, b in combinations(points, 2):
        if len(entities_of(store, a) & entities_of(store, b)) >= shared:
            return store.consolidate([a, b], summarise=lambda memories: " / ".join(memory.text for memory in memories))
    return None


def main(path: str) -> None:
    """Three points, two of which share two entities."""
    with aeon.open(path) as store:
        point(store, "Tess signed the lease for the flat.", ["Tess", "flat", "lease"])
        point(store, "Tess painted the flat.", ["Tess", "flat"])
        point(store, "Gravy barked at the postman.", ["Gravy", "postman"])
        merged = merge_once(store)
        assert merged is not None
        names = sorted(store.get(id_).text for id_ in entities_of(store, merged))
        print("merged:", store.get(merged).text)
        print("joins:", names)
        print("with Tess:", [(store.get(id_).text, n) for id_, n in store.trace.cooccurring(store.concept("Tess"))])
        assert merge_once(store) is None


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/hgmem.aeon")
