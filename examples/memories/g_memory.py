"""G-Memory: three tiers for teams of agents. Interactions, the queries they answered, and insights over queries; a new
query walks up to insights and down to the interactions that carry them."""

from __future__ import annotations

import sys
import tempfile

import aeon


def solve(store: aeon.Store, query: str, steps: list[str], agent: str) -> int:
    """Keep a query and what was done for it: the query contains its interactions."""
    with store.transaction():
        asked = store.remember(query, session="queries", metadata={"tier": "query"})
        done = store.remember_many(steps, session=agent, metadata={"tier": "interaction"}, role="assistant")
        store.link(asked, done, "contains")
    return asked


def learn(store: aeon.Store, insight: str, queries: list[int]) -> int:
    """Keep what was learnt from several queries."""
    made = store.remember(insight, session="insights", role="summary", metadata={"tier": "insight"})
    store.link(made, queries, "derived_from")
    return made


def prepare(store: aeon.Store, query: str) -> tuple[list[str], list[str]]:
    """For a new query: insights of like queries, and what was done for those."""
    like = [hit.id for hit in store.recall(query, 2, where={"tier": "query"})]
    insights = store.trace.descendants(like, "derived_from", hops=1)
    interactions = store.trace.descendants(like, "contains", hops=1)
    return [store.get(id_).text for id_ in insights], [store.get(id_).text for id_ in interactions]


def main(path: str) -> None:
    """Two queries, one insight, a third query that profits."""
    with aeon.open(path) as store:
        first = solve(store, "Plot sales by month", ["read sales.csv", "group by month", "draw bars"], "analyst")
        second = solve(store, "Plot visits by month", ["read visits.csv", "group by month", "draw a line"], "analyst")
        learn(store, "Group by month before plotting.", [first, second])
        insights, interactions = prepare(store, "Plot returns by month")
        print("insights:", insights)
        print("interactions:", interactions)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/g_memory.aeon")
