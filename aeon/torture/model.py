"""A store in plain Python, steps made from a seed, and what a real store shows that differs from them.

A model is at some commit; a store that has the same number of commits must show exactly what the model's `state` says.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aeon.atlas import Atlas
from aeon.errors import NotFoundError
from aeon.store import Store

DIM = 4
SESSIONS = ("kitchen", "garden", "cellar")
KEYS: tuple[tuple[tuple[str, ...], str], ...] = (((), "plan"), (("team",), "plan"), ((), "mood"))
TOPICS = ("tea", "rain", "moss")
_WORDS = "amber birch copper dune ember fern gale heather iris juniper kelp larch moss nettle osier pearl quartz reed".split()


# -- steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """One memory to remember."""

    text: str
    session: str
    role: str
    timestamp: int
    namespace: tuple[str, ...] = ()
    key: str | None = None
    metadata: dict[str, Any] | None = None
    refs: tuple[int, ...] = ()
    parent: int | None = None
    vector: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One step: remember, many, forget, forget_topic, transaction, abort, checkpoint, compact, purge, flush, reopen, kill, ask;
    on the graph: link, unlink (ids: src and its dsts; topic: the kind), archive, restore, branch (topic: the session).

    inner : the steps of a transaction; of a checkpoint or compaction, the commits that are made while it runs.
    """

    kind: str
    texts: tuple[Text, ...] = ()
    ids: tuple[int, ...] = ()
    topic: str = ""
    inner: tuple[Step, ...] = ()
    durability: str = ""


# -- the model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """What a store must show: memories by id, alive ids per session with what it branched off, how many are its own, the id
    each key names, ids that search finds, links, archived ids."""

    memories: dict[int, tuple[Any, ...]]
    history: dict[str, tuple[int, ...]]
    counts: dict[str, int]
    keys: dict[tuple[tuple[str, ...], str], int]
    searchable: frozenset[int]
    next_id: int
    links: frozenset[tuple[int, int, str]] = frozenset()
    archived: frozenset[int] = frozenset()


class Model:
    """A store in plain Python."""

    def __init__(self, rows: str = "int8", dim: int = DIM) -> None:
        self._atlas = Atlas({}, dim, rows)
        self._memories: dict[int, tuple[Any, ...]] = {}
        self._texts: dict[int, Text] = {}
        self._current: set[int] = set()
        self._replaced: dict[int, int] = {}
        self._keys: dict[tuple[tuple[str, ...], str], int] = {}
        self._links: dict[tuple[int, int, str], None] = {}
        self._archived: dict[int, int] = {}
        self.branches: dict[str, int] = {}
        self.next_id = 1

    def kept_vector(self, vector: tuple[float, ...]) -> bytes:
        """What a store keeps of a vector, as float32 bytes; checked to point the same way."""
        given = np.array([vector], np.float32)
        codes, scales = self._atlas.encode(given)
        if self._atlas.quantised:
            kept = codes.view(np.int8)[0, : self._atlas.dim].astype(np.float32) * scales[0]
        else:
            kept = codes.view(np.float32)[0, : self._atlas.dim]
        assert abs(np.linalg.norm(kept) - 1) < 0.02, "a kept vector has norm 1"
        assert kept @ given[0] / np.linalg.norm(given[0]) > 0.99, "a kept vector points where the given one did"
        return bytes(kept.tobytes())

    def remember(self, text: Text) -> int:
        """Add a memory; with a key it replaces the one the key named."""
        id_ = self.next_id
        self.next_id += 1
        self._texts[id_] = text
        self._memories[id_] = (
            text.text, text.session, text.role, text.timestamp, text.namespace, text.key, text.metadata or {}, text.refs,
            text.parent, None if text.vector is None else self.kept_vector(text.vector),
        )  # fmt: skip
        self._current.add(id_)
        if text.key is not None:
            name = (text.namespace, text.key)
            if name in self._keys:
                self._replaced[id_] = self._keys[name]
                self._current.discard(self._keys[name])
            self._keys[name] = id_
        return id_

    def forget(self, id_: int) -> bool:
        """Remove a memory and what it had replaced."""
        if id_ not in self._memories:
            return False
        chain: int | None = id_
        while chain is not None:
            self._memories.pop(chain, None)
            self._current.discard(chain)
            text = self._texts[chain]
            if text.key is not None and self._keys.get((text.namespace, text.key)) == chain:
                del self._keys[text.namespace, text.key]
            chain = self._replaced.get(chain)
        return True

    def with_topic(self, topic: str) -> list[int]:
        """Current ids whose metadata names the topic."""
        return sorted(id_ for id_ in self._current if self._memories[id_][6].get("topic") == topic)

    def readable(self) -> list[int]:
        """Ids that `get` answers."""
        return sorted(self._memories)

    def knows_topics(self) -> bool:
        """Whether any memory that can be read has metadata: a purge takes the names of fields away that none has."""
        return any(memory[6] for memory in self._memories.values())

    def links(self) -> list[tuple[int, int, str]]:
        """Links whose ends can both be read."""
        return [link for link in self._links if link[0] in self._memories and link[1] in self._memories]

    def archived(self) -> list[int]:
        """Readable ids that are out of recall."""
        return [id_ for id_ in self._archived if id_ in self._memories]

    def leads(self, src: int, dst: int, kind: str) -> bool:
        """Whether links of a kind lead from one memory to another."""
        reached, before = {src}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {end for start, end, name in self.links() if start in reached and name == kind}
        return dst in reached

    def current(self) -> list[int]:
        """Ids that the history shows."""
        return sorted(self._current)

    def session_of(self, id_: int) -> str:
        """Session of a memory, forgotten ones too."""
        return self._texts[id_].session

    def past(self, session: str) -> tuple[int, ...]:
        """Ids in a session's history, back to the root."""
        own = tuple(i for i in sorted(self._current) if self._texts[i].session == session)
        event = self.branches.get(session)
        if event is None:
            return own
        return tuple(i for i in self.past(self._texts[event].session) if i <= event) + own

    def state(self) -> State:
        """A copy of what there is now."""
        current = sorted(self._current)
        names = (*SESSIONS, *self.branches)
        counts = {name: sum(self._texts[i].session == name for i in current) for name in names}
        searchable = frozenset(i for i in current if self._texts[i].vector is not None and i not in self._archived)
        return State(
            dict(self._memories), {name: self.past(name) for name in names}, counts, dict(self._keys), searchable,
            self.next_id, frozenset(self.links()), frozenset(self.archived()),
        )  # fmt: skip

    def apply(self, step: Step) -> bool:
        """Carry out a step; whether it is a commit."""
        if step.kind in ("remember", "many"):
            for text in step.texts:
                self.remember(text)
            return True
        if step.kind == "forget":
            return sum(self.forget(id_) for id_ in step.ids) > 0
        if step.kind == "forget_topic":
            return sum(self.forget(id_) for id_ in self.with_topic(step.topic)) > 0
        if step.kind == "transaction":
            return sum(self.apply(inner) for inner in step.inner) > 0
        return self._apply_to_graph(step)

    def _apply_to_graph(self, step: Step) -> bool:
        if step.kind == "link":
            new = [(step.ids[0], dst, step.topic) for dst in step.ids[1:]]
            new = [link for link in new if link not in self.links()]
            for link in new:
                self._links.pop(link, None)
                self._links[link] = None
            return bool(new)
        if step.kind == "unlink":
            gone = [
                link
                for link in self.links()
                if link[0] == step.ids[0] and link[1] in step.ids[1:] and link[2] == step.topic
            ]
            for link in gone:
                del self._links[link]
            return bool(gone)
        if step.kind == "archive":
            new_ids = [id_ for id_ in step.ids if id_ not in self._archived]
            self._archived.update(dict.fromkeys(new_ids, 0))
            return bool(new_ids)
        if step.kind == "restore":
            return sum(self._archived.pop(id_, None) is not None for id_ in step.ids) > 0
        if step.kind == "branch":
            self.branches[step.topic] = step.ids[0]
            return True
        if step.kind == "consolidate":
            outward = self.outward(step.ids)
            made = self.remember(step.texts[0])
            for src, dst, kind in outward:
                self._links[made if src in step.ids else src, made if dst in step.ids else dst, kind] = None
            self._links.update(dict.fromkeys((made, id_, "summarises") for id_ in step.ids))
            self._archived.update(dict.fromkeys(step.ids, made))
            return True
        if step.kind == "undo":
            return self._undo(step.ids[0])
        return False

    def _undo(self, summary: int) -> bool:
        older = self._replaced.get(summary, 0)
        out = older in self._archived and older not in self.stood_for(summary)
        for id_ in self.stood_for(summary):
            del self._archived[id_]
        if older not in self._memories:
            return self.forget(summary)
        if summary in self._current:  # what it replaced is the current version again, as a new memory
            text, outward = self._texts[older], self.outward((older,))
            _, *_, parent, vector = self._memories[older]
            again = self.remember(
                replace(
                    text, refs=(), parent=parent if parent in self._memories else None,
                    vector=None if vector is None else tuple(np.frombuffer(vector, np.float32).tolist()),
                )
            )  # fmt: skip
            for src, dst, kind in outward:
                self._links[again if src == older else src, again if dst == older else dst, kind] = None
            if out:
                self._archived[again] = self._archived[older]
        return True

    def outward(self, ids: tuple[int, ...]) -> list[tuple[int, int, str]]:
        """Edges from or to one of `ids` and no other, that a summary of them takes over."""
        refs = [
            (id_, ref, "ref") for id_, memory in self._memories.items() for ref in memory[7] if ref in self._memories
        ]
        edges = [edge for edge in [*self.links(), *refs] if edge[2] != "summarises"]
        return [edge for edge in edges if (edge[0] in ids) != (edge[1] in ids)]

    def stood_for(self, summary: int) -> list[int]:
        """Readable ids that are archived for a summary, and linked to it: `undo` finds them by their links."""
        linked = {dst for src, dst, kind in self.links() if src == summary and kind == "summarises"}
        return [id_ for id_ in self.archived() if self._archived[id_] == summary and id_ in linked]

    def summaries(self) -> list[int]:
        """Summaries that can be undone."""
        return sorted({by for by in self._archived.values() if by and self.stood_for(by)})


# -- making workloads ---------------------------------------------------------------------------------------------


class StepMaker:
    """Makes steps, keeping a model beside, so that they refer to what exists."""

    def __init__(self, seed: int, rows: str) -> None:
        self.random = random.Random(seed)
        self.model = Model(rows)
        self.clock = 1_700_000_000_000_000

    def words(self, least: int, most: int) -> str:
        return " ".join(self.random.choices(_WORDS, k=self.random.randint(least, most)))

    def vector(self) -> tuple[float, ...]:
        return tuple(round(self.random.gauss(0, 1), 3) or 0.5 for _ in range(DIM))

    def text(self, *, key: bool = False, plain: bool = False) -> Text:
        pick, self.clock = self.random, self.clock + 1
        long = pick.random() < 0.12
        readable = self.model.readable()
        namespace, name = pick.choice(KEYS) if key else ((), None)
        return Text(
            text=(self.words(60, 90) + " " if long else "")
            + self.words(1, 8)
            + pick.choice(["", " é", " 漢字", " 🌱"]),
            session=pick.choice((*SESSIONS, *self.model.branches)),
            role=pick.choice(("user", "assistant", "tool")),
            timestamp=self.clock,
            namespace=namespace if key else pick.choice(((), ("team",), ("team", "b"))),
            key=name,
            metadata=None if plain or pick.random() < 0.4 else {"topic": pick.choice(TOPICS), "n": pick.randint(0, 99)},
            refs=() if plain or not readable or pick.random() < 0.7 else (pick.choice(readable),),
            parent=None if not readable or pick.random() < 0.7 else pick.choice(readable),
            vector=self.vector() if pick.random() < 0.75 else None,
        )

    def step(self, kind: str) -> Step:
        readable = self.model.readable()
        if kind == "remember":
            return Step(kind, (self.text(),))
        if kind == "upsert":
            return Step("remember", (self.text(key=True),))
        if kind == "many":
            first = self.text(plain=True)
            texts = [
                replace(self.text(plain=True), namespace=first.namespace) for _ in range(self.random.randint(2, 6))
            ]
            return Step(kind, tuple(texts))
        if kind == "forget" and readable:
            return Step(
                kind, ids=tuple(sorted(self.random.sample(readable, min(len(readable), self.random.randint(1, 2)))))
            )
        if kind == "forget_topic" and self.model.knows_topics():
            return Step(kind, topic=self.random.choice(TOPICS))
        if kind in ("transaction", "abort"):
            inner = [Step("remember", (self.text(),)), Step("remember", (self.text(key=True),))]
            if readable:
                inner.insert(1, Step("forget", ids=(self.random.choice(readable),)))
            elif self.random.random() < 0.5:
                next_id = self.model.next_id
                inner.append(Step("link", ids=(next_id, next_id + 1), topic="causes"))
            # Reads inside a transaction show the store as it was before, so refs must not reach what it forgets.
            gone = {id_ for step in inner for id_ in step.ids}
            inner = [
                replace(s, texts=tuple(replace(t, refs=(), parent=None if t.parent in gone else t.parent) for t in s.texts))
                for s in inner
            ]  # fmt: skip
            return Step(kind, inner=tuple(inner))
        if kind in ("checkpoint", "compact", "purge", "flush", "ask"):
            return Step(kind)
        if kind in _ON_GRAPH and readable:
            return self._on_graph(kind, readable)
        if kind in ("reopen", "kill"):
            return Step(kind, durability=self.random.choice(("full", "full", "normal", "off")))
        return Step("remember", (self.text(),))

    def _on_graph(self, kind: str, readable: list[int]) -> Step:
        pick, links, archived = self.random, self.model.links(), self.model.archived()
        if kind == "link" and len(readable) > 1:
            src, *dsts = pick.sample(readable, min(len(readable), pick.randint(2, 3)))
            name = pick.choice(LINK_KINDS)
            dsts = [dst for dst in dsts if not self.model.leads(dst, src, name)]
            if dsts:
                return Step(kind, ids=(src, *dsts), topic=name)
        if kind == "unlink" and links:
            src, dst, name = pick.choice(links)
            return Step(kind, ids=(src, dst), topic=name)
        if kind == "archive":
            return Step(kind, ids=tuple(pick.sample(readable, min(len(readable), pick.randint(1, 3)))))
        if kind == "restore" and archived:
            return Step(kind, ids=(pick.choice(archived),))
        if kind == "branch":
            return Step(kind, ids=(pick.choice(readable),), topic=f"branch {len(self.model.branches)}")
        free = [id_ for id_ in readable if id_ not in archived]
        if kind == "consolidate" and free:
            chosen = tuple(sorted(pick.sample(free, min(len(free), pick.randint(1, 3)))))
            newest = self.model.state().memories[chosen[-1]]
            # Whether causes would close a circle depends on the order in which edges are taken over.
            if not any(name == "causes" for _, _, name in self.model.outward(chosen)):
                named = [name for space, name in KEYS if space == newest[4]]  # the key may be taken
                key = pick.choice(named) if named and pick.random() < 0.5 else None
                text = Text(
                    f"a summary of {chosen}", newest[1], "summary", self.clock, newest[4], key, vector=self.vector()
                )
                return Step(kind, (text,), ids=chosen)
        if kind == "undo" and self.model.summaries():
            return Step(kind, ids=(pick.choice(self.model.summaries()),))
        return Step("remember", (self.text(),))


LINK_KINDS = ("causes", "contradicts", "echoes")
_ON_GRAPH = ("link", "unlink", "archive", "restore", "branch", "consolidate", "undo")

# -- carrying out ------------------------------------------------------------------------------------------------


def remember(store: Store, text: Text) -> int:
    """Call `Store.remember` with a Text."""
    return store.remember(
        text.text, text.vector, session=text.session, role=text.role, namespace=text.namespace, key=text.key,
        metadata=text.metadata, timestamp=text.timestamp, refs=text.refs, parent=text.parent,
    )  # fmt: skip


def carry_out(store: Store, step: Step) -> None:
    """Carry out a step that changes memories."""
    texts = step.texts
    if step.kind == "remember":
        remember(store, texts[0])
    elif step.kind == "many":
        store.remember_many(
            [text.text for text in texts],
            [text.vector for text in texts],
            session=[text.session for text in texts],
            role=[text.role for text in texts],
            namespace=texts[0].namespace,
            keys=[text.key for text in texts],
            metadata=[text.metadata for text in texts],
            timestamps=[text.timestamp for text in texts],
            parents=[text.parent for text in texts],
        )
    elif step.kind == "forget":
        store.forget(step.ids)
    elif step.kind == "forget_topic":
        store.forget(where={"topic": step.topic})
    elif step.kind == "transaction":
        with store.transaction():
            for inner in step.inner:
                carry_out(store, inner)
    elif step.kind == "abort":
        try:
            with store.transaction():
                for inner in step.inner:
                    carry_out(store, inner)
                raise KeyError("changed my mind")
        except KeyError:
            pass
    elif step.kind in ("link", "unlink"):
        (store.link if step.kind == "link" else store.unlink)(step.ids[0], step.ids[1:], step.topic)
    elif step.kind == "archive":
        store.archive(step.ids)
    elif step.kind == "restore":
        store.restore(step.ids)
    elif step.kind == "branch":
        store.branch(step.ids[0], step.topic)
    elif step.kind == "consolidate":
        [text] = step.texts
        store.consolidate(
            step.ids, summarise=lambda _: text.text, vector=text.vector, timestamp=text.timestamp, key=text.key
        )
    elif step.kind == "undo":
        store.undo(step.ids[0])
    elif step.kind == "checkpoint":
        store.checkpoint()
    elif step.kind in ("compact", "purge"):
        store.compact(purge=step.kind == "purge")
    elif step.kind == "flush":
        store.flush()
    elif step.kind == "ask":
        store.recall(_ALONG, 2)  # counted, and kept at a checkpoint
        store.trace.search(_ALONG, 1, probes=2)  # from here on the time blocks are written with a checkpoint
    else:
        raise AssertionError(step.kind)


# -- comparing ----------------------------------------------------------------------------------------------------

_ALONG = np.arange(1, DIM + 1, dtype=np.float32)


def difference(store: Store, state: State) -> str:
    """What a store shows that differs from `state`; "" if nothing does."""
    for id_ in range(1, state.next_id + 2):
        expected = state.memories.get(id_)
        try:
            memory = store.get(id_)
        except NotFoundError:
            if expected is not None:
                return f"memory {id_} is missing"
            continue
        vector = memory.vector
        found = (
            memory.text, memory.session, memory.role, memory.timestamp, memory.namespace, memory.key, memory.metadata,
            memory.refs, memory.parent, None if vector is None else vector.tobytes(),
        )  # fmt: skip
        if found != expected:
            return f"memory {id_} is {found}, expected {expected}"
    for session, ids in state.history.items():
        shown = tuple(memory.id for memory in store.history(session, None))
        if shown != ids:
            return f"history of {session} is {shown}, expected {ids}"
    counts = {info.name: info.count for info in store.sessions()}
    if counts != {name: count for name, count in state.counts.items() if count}:
        return f"sessions are {counts}, expected {state.counts}"
    wrong = _difference_of_graphs(store, state)
    if wrong:
        return wrong
    for namespace, key in KEYS:
        named = store.get_key(key, namespace)
        if (named.id if named is not None else None) != state.keys.get((namespace, key)):
            return f"key {namespace}{key} names {named}, expected {state.keys.get((namespace, key))}"
    found_ids, _ = store.atlas.search(_ALONG, len(state.searchable) + 3)
    reached = {int(id_) for id_ in found_ids[0] if id_}
    if reached != state.searchable:
        return f"vector search reaches {sorted(reached)}, expected {sorted(state.searchable)}"
    return ""


def _difference_of_graphs(store: Store, state: State) -> str:
    """Links from both their ends, and what is archived."""
    names = store._engine.trace.names
    known = [kind for kind in (*LINK_KINDS, "summarises") if names.known_kind(kind) is not None]
    refs = {(id_, ref, "ref") for id_, memory in state.memories.items() for ref in memory[7] if ref in state.memories}
    for direction in ("out", "in"):
        edges = store.trace.neighbours(list(state.memories), [*known, "ref"], direction)  # type: ignore[arg-type]
        links = {tuple(edge) for edge in edges}
        if links != state.links | refs:
            return f"links are {sorted(links)} going {direction}, expected {sorted(state.links)}"
    archived = {id_ for id_ in state.memories if store.trace.is_archived(id_)}
    return "" if archived == state.archived else f"archived are {archived}, expected {set(state.archived)}"
