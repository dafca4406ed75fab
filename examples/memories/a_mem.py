"""A-MEM: notes with keywords, linked to like notes as they arrive; a new note may make older ones evolve. Every version of a
note is kept."""

from __future__ import annotations

import sys
import tempfile

import aeon


def add_note(store: aeon.Store, name: str, text: str, keywords: list[str], like: float = 0.2) -> int:
    """Keep a note, link it to those that are near, and let those learn its keywords."""
    near = [hit for hit in store.recall(text, 3, session="notes") if hit.score >= like]
    note = store.remember(text, key=name, session="notes", metadata={"keywords": keywords})
    for hit in near:
        new = [word for word in keywords if word not in hit.metadata["keywords"]]
        if new:
            evolve(store, hit.key or "", hit.text, hit.metadata["keywords"] + new)
        newest = store.get_key(hit.key or "")
        if newest is not None:
            store.link(note, newest.id, "related")
    return note


def evolve(store: aeon.Store, name: str, text: str, keywords: list[str]) -> int:
    """Keep a new version of a note; its links are made for the new version too."""
    old = store.get_key(name)
    assert old is not None
    links = [edge for edge in store.trace.neighbours(old.id) if edge.kind == "related"]
    with store.transaction():
        new = store.remember(text, key=name, session="notes", metadata={"keywords": keywords})
        for edge in links:
            store.link(*((new, edge.dst) if edge.src == old.id else (edge.src, new)), "related")
    return new


def main(path: str) -> None:
    """Three notes; the second changes the first."""
    with aeon.open(path) as store:
        add_note(store, "harbour", "The flat is by the harbour of Trieste.", ["flat"])
        add_note(store, "ferry", "A ferry leaves the harbour of Trieste at nine.", ["ferry", "time"])
        add_note(store, "tea", "Green tea wants water of 80 degrees.", ["tea"])
        versions = [memory.metadata["keywords"] for memory in store.history_of("harbour")]
        print("the note about the harbour, then and now:", versions)
        ferry = store.get_key("ferry")
        assert ferry is not None
        print(
            "ferry is related to:",
            [store.get(edge.dst).key for edge in store.trace.neighbours(ferry.id, "related", "out")],
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/a_mem.aeon")
