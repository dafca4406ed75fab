"""HyMem: two granularities. Summaries are searched first; the turns behind them are read when a question needs detail."""

from __future__ import annotations

import sys
import tempfile

import aeon


def ask(store: aeon.Store, question: str, *, detail: bool, k: int = 2) -> list[str]:
    """The best summaries, or the turns that they stand for, nearest to the question first."""
    hits = store.recall(question, k, roles="summary")
    if not detail:
        return [hit.text for hit in hits]
    turns = [id_ for hit in hits for id_ in store.trace.ancestors(hit.id, "summarises", hops=1)]
    wanted = {hit.id: hit.text for hit in store.recall(question, 20, archived=True) if hit.id in turns}
    return list(wanted.values())


def main(path: str) -> None:
    """Tell two episodes, summarise them, ask at both granularities."""
    with aeon.open(path) as store:
        store.remember_many(
            ["Tess moved to Trieste.", "Her flat is by the harbour.", "The rent is 900 euros a month."], session="move"
        )
        store.remember_many(["Gravy is a bloodhound.", "He is afraid of thunder.", "He eats at seven."], session="dog")
        store.consolidate(session="move", summarise=lambda turns: "Tess moved into a flat in Trieste.")
        store.consolidate(session="dog", summarise=lambda turns: "Gravy the dog and his habits.")
        print("coarse:", ask(store, "What about the dog Gravy?", detail=False, k=1))
        print("fine:  ", ask(store, "When does the dog Gravy eat?", detail=True, k=1))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/hymem.aeon")
