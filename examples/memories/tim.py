"""TiM, think-in-memory: thoughts rather than turns are kept, and after each answer they are organised by insert, forget and
merge."""

from __future__ import annotations

import sys
import tempfile

import aeon


def insert(store: aeon.Store, thoughts: list[str], turn: int) -> list[int]:
    """Keep what was thought about a turn."""
    return store.remember_many(thoughts, session="thoughts", refs=[[turn]] * len(thoughts), role="assistant")


def forget(store: aeon.Store, thought: str, contradicts: float = 0.3) -> list[str]:
    """Forget the thoughts that a new one makes wrong; here the nearest one, a model would judge."""
    hits = [hit for hit in store.recall(thought, 1, session="thoughts") if hit.score >= contradicts]
    gone = [hit.text for hit in hits]
    store.forget([hit.id for hit in hits])
    return gone


def merge(store: aeon.Store, about: str, k: int) -> int:
    """Merge thoughts about the same thing into one; the originals are archived and can be taken back."""
    near = [hit.id for hit in store.recall(about, k, session="thoughts")]
    return store.consolidate(near, summarise=lambda thoughts: " ".join(thought.text for thought in thoughts))


def main(path: str) -> None:
    """A few turns and what is thought of them."""
    with aeon.open(path) as store:
        turn = store.remember("I moved to Leipzig. I like my dog Gravy.", session="chat")
        insert(store, ["Tess lives in Leipzig.", "Tess has a dog, Gravy.", "Tess likes her dog, Gravy."], turn)
        news = store.remember("I live in Trieste now.", session="chat")
        print("forgotten:", forget(store, "Tess lives in Trieste."))
        insert(store, ["Tess lives in Trieste."], news)
        merged = merge(store, "Tess and her dog Gravy", 2)
        print("merged:", store.get(merged).text)
        print("because of:", [store.get(id_).text for id_ in store.trace.ancestors(merged, "ref", hops=1)])
        print("recalled:", [hit.text for hit in store.recall("Where does Tess live?", 2, session="thoughts")])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/tim.aeon")
