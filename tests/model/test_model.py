"""The public API against a model made of a dict and NumPy: any sequence of calls, reopens and checkpoints included.

Run long: AEON_HYPOTHESIS=aeon-long pytest tests/model
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import aeon
from aeon import atlas, columns, recall, slb, store, trace
from aeon import rows as rows_module
from aeon.files import OsFile, OsFileSystem
from aeon.where import compile_where

DIM = 8
POOL = np.random.default_rng(1).standard_normal((12, DIM)).astype(np.float32)
POOL[6:] = POOL[0] + 0.05 * POOL[6:]  # near each other, so that ranks depend on small differences

SESSIONS = ["s0", "s1", "s2"]
SPACES = [(), ("a",), ("a", "b"), ("ab",)]
KEYS = ["k0", "k1", "k2"]
ROLES = ["user", "assistant", "tool"]
KINDS = ["likes", "contradicts", "causes"]

texts = st.text(st.sampled_from("aé漢🙂 "), max_size=40)
vectors = st.none() | st.integers(0, len(POOL) - 1)
metadata = st.none() | st.fixed_dictionaries(
    {"n": st.integers(0, 5)}, optional={"tags": st.lists(st.sampled_from("xyz"), max_size=2)}
)

WHERES: dict[str, tuple[Any, Any]] = {
    "n = 2": ({"n": 2}, lambda m: m.get("n") == 2),
    "n >= 3": ({"n": {"$gte": 3}}, lambda m: m.get("n", -1) >= 3),
    "x in tags": ({"tags": "x"}, lambda m: "x" in m.get("tags", [])),
    "no n": ({"n": {"$exists": False}}, lambda m: "n" not in m),
    "n < 2 or y": (
        {"$or": [{"n": {"$lt": 2}}, {"tags": "y"}]},
        lambda m: m.get("n", 9) < 2 or "y" in m.get("tags", []),
    ),
    "not n = 1": ({"$not": {"n": 1}}, lambda m: m.get("n") != 1),
}


@dataclass
class Record:
    """What the model knows of one memory."""

    id: int
    text: str
    vector: int | None
    session: str
    role: str
    namespace: tuple[str, ...]
    key: str | None
    metadata: dict[str, Any] | None
    timestamp: int
    refs: tuple[int, ...] = ()
    parent: int | None = None
    replaced: int | None = None
    state: str = "current"


@dataclass
class Model:
    """A store as a dict."""

    records: dict[int, Record] = field(default_factory=dict)
    keys: dict[tuple[tuple[str, ...], str], int] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)
    links: set[tuple[int, int, str]] = field(default_factory=set)
    archived: dict[int, int] = field(default_factory=dict)
    branches: dict[str, int] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    next_id: int = 1
    lsn: int = 0

    def remember(self, **values: Any) -> int:
        record = Record(id=self.next_id, **values)
        self.begin(record.session)
        self.next_id += 1
        if record.key is not None:
            name = (record.namespace, record.key)
            record.replaced = self.keys.get(name)
            if record.replaced is not None:
                self.records[record.replaced].state = "replaced"
            self.keys[name] = record.id
        self.records[record.id] = record
        self.fields |= set(record.metadata or {})
        if record.session not in self.begun:
            self.begun.append(record.session)
        return record.id

    def forget(self, ids: list[int]) -> int:
        chosen = [id_ for id_ in dict.fromkeys(ids) if self.records[id_].state != "forgotten"]
        for id_ in chosen:
            walk: int | None = id_
            while walk is not None and self.records[walk].state != "forgotten":
                record = self.records[walk]
                record.state = "forgotten"
                if record.key is not None and self.keys.get((record.namespace, record.key)) == walk:
                    del self.keys[record.namespace, record.key]
                walk = record.replaced
        return len(chosen)

    def begin(self, session: str) -> None:
        if session not in self.begun:
            self.begun.append(session)

    def edges(self) -> set[tuple[int, int, str]]:
        """Every edge but next whose ends can be read."""
        found = set(self.links)
        for record in self.records.values():
            found |= {(record.id, ref, "ref") for ref in record.refs}
            found |= {(record.id, record.parent, "parent")} if record.parent else set()
            found |= {(record.id, record.replaced, "replaces")} if record.replaced else set()
        known = set(self.readable())
        return {edge for edge in found if edge[0] in known and edge[1] in known}

    def leads(self, src: int, dst: int, kind: str) -> bool:
        edges, reached, before = self.edges(), {src}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {end for start, end, name in edges if start in reached and name == kind}
        return dst in reached

    def past(self, session: str) -> list[int]:
        """Ids in a session's history, back to the root."""
        own = [record.id for record in self.current() if record.session == session]
        event = self.branches.get(session)
        return own if event is None else [i for i in self.past(self.records[event].session) if i <= event] + own

    def versions(self, id_: int) -> list[int]:
        """Every version of a memory that can be read, oldest first."""
        newer = {record.replaced: record.id for record in self.records.values() if record.replaced}
        chain = [id_]
        while self.records[chain[0]].replaced and self.records[self.records[chain[0]].replaced].state != "forgotten":
            chain.insert(0, self.records[chain[0]].replaced)
        while chain[-1] in newer and self.records[newer[chain[-1]]].state != "forgotten":
            chain.append(newer[chain[-1]])
        return chain

    def current(self) -> list[Record]:
        return [record for record in self.records.values() if record.state == "current"]

    def readable(self) -> list[int]:
        return [record.id for record in self.records.values() if record.state != "forgotten"]


class StoreMachine(RuleBasedStateMachine):
    """Rules are the public calls; the invariant compares everything that can be seen."""

    options: ClassVar[dict[str, Any]] = {"durability": "normal"}
    limits: ClassVar[list[tuple[Any, str, Any]]] = []
    rows = "int8"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        for owner, name in ((OsFile, "fsync"), (OsFile, "fdatasync"), (OsFileSystem, "fsync_dir")):
            self.stack.enter_context(mock.patch.object(owner, name, lambda *_: None))
        self.stack.enter_context(mock.patch.object(store.dispatch, "start", lambda: None))
        self.stack.enter_context(mock.patch.object(slb, "AHEAD_FROM_ROWS", 0))
        self.stack.enter_context(mock.patch.object(recall, "_READ_MAX", 0))
        self.stack.enter_context(mock.patch.object(recall, "_FIRST_BATCH", 1))
        for owner, name, value in self.limits:
            self.stack.enter_context(mock.patch.object(owner, name, value))
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.path = self.folder / "agent.aeon"
        self.model = Model()
        self.held: list[tuple[aeon.Memory, Record]] = []
        self.branched = 0

    @initialize()
    def begin(self) -> None:
        self.store = aeon.open(self.path, DIM, rows=self.rows, **self.options)
        self.reader = aeon.open(self.path, read_only=True)

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.held_results_are_as_they_were()
                self.reopen()
                self.everything_agrees()
                self.store.checkpoint()
                self.everything_agrees()
                self.store.compact()
                self.everything_agrees()
                self.store.close()
                self.reader.close()
        finally:
            self.stack.close()

    # -- writing ------------------------------------------------------------------------------------------------

    def _values(self, data: Any) -> dict[str, Any]:
        known, sessions = self.model.readable(), [*SESSIONS, *self.model.branches]
        return {
            "text": data.draw(texts), "vector": data.draw(vectors), "session": data.draw(st.sampled_from(sessions)),
            "role": data.draw(st.sampled_from(ROLES)), "namespace": data.draw(st.sampled_from(SPACES)),
            "key": data.draw(st.none() | st.sampled_from(KEYS)), "metadata": data.draw(metadata),
            "timestamp": data.draw(st.integers(0, 20)),
            "refs": tuple(data.draw(st.lists(st.sampled_from(known), max_size=3, unique=True))) if known else (),
            "parent": data.draw(st.none() | st.sampled_from(known)) if known else None,
        }  # fmt: skip

    def _remember(self, model: Model, values: dict[str, Any]) -> None:
        call = dict(values)
        vector = call.pop("vector")
        id_ = self.store.remember(call.pop("text"), None if vector is None else POOL[vector] * 3, **call)
        assert id_ == model.remember(**values)

    @rule(data=st.data())
    def remember(self, data: Any) -> None:
        self._remember(self.model, self._values(data))
        self.model.lsn += 1

    @rule(data=st.data(), count=st.integers(1, 7), sparse=st.booleans())
    def remember_many(self, data: Any, count: int, sparse: bool) -> None:
        values = [self._values(data) for _ in range(count)]
        for value in values:
            value["namespace"] = values[0]["namespace"]
            if not sparse:
                value["vector"] = value["vector"] or 0
        given_vectors: Any = [None if value["vector"] is None else POOL[value["vector"]] for value in values]
        ids = self.store.remember_many(
            [value["text"] for value in values],
            given_vectors if sparse else np.array(given_vectors),
            namespace=values[0]["namespace"],
            **{
                name: [value[single] for value in values]
                for name, single in (
                    ("session", "session"), ("role", "role"), ("keys", "key"), ("metadata", "metadata"),
                    ("timestamps", "timestamp"), ("parents", "parent"), ("refs", "refs"),
                )
            },
        )  # fmt: skip
        assert ids == [self.model.remember(**value) for value in values]
        self.model.lsn += 1

    @precondition(lambda self: self.model.records)
    @rule(data=st.data())
    def forget(self, data: Any) -> None:
        ids = data.draw(st.lists(st.integers(1, self.model.next_id - 1), min_size=1, max_size=4))
        count = self.model.forget(ids)
        assert self.store.forget(ids) == count
        self.model.lsn += bool(count)

    @rule(
        where=st.none() | st.sampled_from(list(WHERES)), session=st.none() | st.sampled_from(SESSIONS),
        namespace=st.none() | st.sampled_from(SPACES[1:]),
    )  # fmt: skip
    def forget_where(self, where: str | None, session: str | None, namespace: tuple[str, ...] | None) -> None:
        if where is None and session is None and namespace is None:
            return
        mapping, matches = WHERES[where] if where else (None, lambda m: True)
        if mapping is not None and self._names_unknown(mapping):
            return
        chosen = [
            record.id
            for record in self.model.current()
            if matches(record.metadata or {})
            and session in (None, record.session)
            and (namespace is None or record.namespace[: len(namespace)] == namespace)
        ]
        assert self.store.forget(where=mapping, session=session, namespace=namespace) == len(chosen)
        self.model.forget(chosen)
        self.model.lsn += bool(chosen)

    def _names_unknown(self, mapping: Any) -> bool:
        """Whether the store must refuse the filter; then it is tried, and it does."""
        if not compile_where(mapping).fields - self.model.fields:
            return False
        if not self.model.readable():
            return True  # an empty store knows no field to miss, and a checkpoint is what empties it
        with pytest.raises(aeon.FilterError):
            self.store.forget(where=mapping)
        return True

    # -- the graph ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.readable()) > 1)
    @rule(data=st.data(), kind=st.sampled_from(KINDS), apart=st.booleans())
    def link(self, data: Any, kind: str, apart: bool) -> None:
        src, *dsts = data.draw(st.lists(st.sampled_from(self.model.readable()), min_size=2, max_size=4, unique=True))
        if kind == "causes" and any(self.model.leads(dst, src, kind) for dst in dsts):
            if not all((src, dst, kind) in self.model.links for dst in dsts):
                with pytest.raises(aeon.InvalidInputError, match="circle"):
                    self.store.link(src, dsts, kind)
            return
        if apart:
            with self.store.transaction():
                made = sum(self.store.link(src, dst, kind) for dst in dsts)
        else:
            made = self.store.link(src, dsts, kind)
        new = {(src, dst, kind) for dst in dsts} - self.model.links
        assert made == len(new)
        self.model.links |= new
        self.model.lsn += bool(new)

    @precondition(lambda self: self.model.links)
    @rule(data=st.data())
    def unlink(self, data: Any) -> None:
        src, dst, kind = link = data.draw(st.sampled_from(sorted(self.model.links)))
        if not {src, dst} <= set(self.model.readable()):
            with pytest.raises(aeon.NotFoundError):
                self.store.unlink(src, dst, kind)
            return
        if kind == "ref" and dst in self.model.records[src].refs:
            return
        assert self.store.unlink(src, dst, kind) == 1
        self.model.links.discard(link)
        self.model.lsn += 1

    @precondition(lambda self: self.model.readable())
    @rule(data=st.data(), back=st.booleans())
    def archive(self, data: Any, back: bool) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.model.readable()), min_size=1, max_size=4, unique=True))
        changed = [id_ for id_ in ids if (id_ in self.model.archived) == back]
        assert (self.store.restore if back else self.store.archive)(ids) == len(changed)
        for id_ in changed:
            self.model.archived.pop(id_) if back else self.model.archived.update({id_: 0})
        self.model.lsn += bool(changed)

    @precondition(lambda self: self.model.readable() and len(self.model.branches) < 4)
    @rule(data=st.data())
    def branch(self, data: Any) -> None:
        name = f"b{self.branched}"  # never a name again: a compaction drops branches, and the name stays taken
        self.branched += 1
        self.model.branches[name] = data.draw(st.sampled_from(self.model.readable()))
        self.store.branch(self.model.branches[name], name)
        self.model.begin(name)
        self.model.lsn += 1

    @precondition(lambda self: set(self.model.readable()) - set(self.model.archived))
    @rule(
        data=st.data(),
        vector=st.integers(0, len(POOL) - 1),
        forget=st.booleans(),
        key=st.none() | st.sampled_from(KEYS),
    )
    def consolidate(self, data: Any, vector: int, forget: bool, key: str | None) -> None:
        model = self.model
        free = sorted(set(model.readable()) - set(model.archived))
        chosen = sorted(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=4, unique=True)))
        outward = {edge for edge in model.edges() if (edge[0] in chosen) != (edge[1] in chosen)}
        if any(kind == "causes" for _, _, kind in outward):
            return  # whether a circle closes depends on the order in which edges are taken over
        made = self.store.consolidate(
            chosen, summarise=lambda memories: " ".join(str(memory.id) for memory in memories), vector=POOL[vector] * 2,
            originals="forget" if forget else "archive", key=key,
        )  # fmt: skip
        newest = model.records[chosen[-1]]
        assert made == model.remember(
            text=" ".join(map(str, chosen)), vector=vector, session=newest.session, role="summary",
            namespace=newest.namespace, key=key, metadata=None, timestamp=self.store.get(made).timestamp,
        )  # fmt: skip
        for src, dst, kind in outward:
            if kind not in ("parent", "replaces", "summarises"):
                model.links.add((made if src in chosen else src, made if dst in chosen else dst, kind))
        model.links |= {(made, id_, "summarises") for id_ in chosen}
        if forget:
            model.forget(chosen)
        else:
            model.archived.update(dict.fromkeys(chosen, made))
        model.lsn += 1

    @precondition(lambda self: any(self.model.archived.values()))
    @rule(data=st.data())
    def undo(self, data: Any) -> None:
        model = self.model
        summary = data.draw(st.sampled_from(sorted(set(model.archived.values()) - {0})))
        back = [i for i in model.archived if model.archived[i] == summary and i in model.readable()]
        if summary not in model.readable():
            with pytest.raises(aeon.NotFoundError):
                self.store.undo(summary)
        elif not back or not all((summary, i, "summarises") in model.links for i in back):
            return
        else:
            older = model.records[summary].replaced
            if older not in model.readable():
                model.forget([summary])
            elif model.records[summary].state == "current":
                again = self._bring_back(older)
                if older in back or older not in model.archived:
                    back = [*(id_ for id_ in back if id_ != older), again]
                else:
                    model.archived[again] = model.archived[older]
            assert self.store.undo(summary) == sorted(back)
            for id_ in [*back, older]:
                if model.archived.get(id_) == summary:
                    del model.archived[id_]
            model.lsn += 1

    def _bring_back(self, older: int) -> int:
        """Remember a version again, with the edges it has."""
        model = self.model
        record = model.records[older]
        values = {field.name: getattr(record, field.name) for field in fields(Record)[1:-2]}
        moved = {
            edge for edge in model.edges() if older in edge[:2] and edge[2] not in ("parent", "replaces", "summarises")
        }
        parent = record.parent if record.parent in model.readable() else None
        again = model.remember(**{**values, "refs": (), "parent": parent})
        for src, dst, kind in moved:
            model.links.add((again if src == older else src, again if dst == older else dst, kind))
        return again

    @rule(data=st.data(), count=st.integers(0, 5), commit=st.booleans())
    def transaction(self, data: Any, count: int, commit: bool) -> None:
        before = self._seen(self.store)
        import copy

        trial = copy.deepcopy(self.model)
        wrote = False
        try:
            with self.store.transaction():
                for _ in range(count):
                    if trial.records and data.draw(st.integers(0, 3)) == 0:
                        ids = data.draw(st.lists(st.integers(1, trial.next_id - 1), min_size=1, max_size=3))
                        state_before = {id_: record.state for id_, record in trial.records.items()}
                        expected = trial.forget(ids)
                        found = self.store.forget(ids)
                        # What the transaction itself replaced or took along is not looked up: those are counted again.
                        unchanged = all(
                            state_before[i] == self.model.records[i].state for i in ids if i in self.model.records
                        )
                        assert found >= expected
                        if unchanged and all(i in self.model.records for i in ids):
                            assert found == expected
                        wrote = wrote or bool(found)
                    elif len(trial.readable()) > 1 and data.draw(st.integers(0, 3)) == 0:
                        src, dst = data.draw(
                            st.lists(st.sampled_from(trial.readable()), min_size=2, max_size=2, unique=True)
                        )
                        made = self.store.link(src, dst, "likes")
                        assert made == ((src, dst, "likes") not in trial.links)
                        trial.links.add((src, dst, "likes"))
                        wrote = wrote or bool(made)
                    else:
                        self._remember(trial, self._values(data))
                        wrote = True
                assert self._seen(self.store) == before, "inside, the store is as it was before"
                if not commit:
                    raise LookupError("changed my mind")
        except LookupError:
            assert self._seen(self.store) == before
            return
        self.model = trial
        self.model.lsn += wrote

    # -- storage ------------------------------------------------------------------------------------------------

    @rule()
    def checkpoint(self) -> None:
        self.store.checkpoint()
        assert self.store.stats().log_bytes == 64

    @rule(purge=st.booleans())
    def compact(self, purge: bool) -> None:
        report = self.store.compact(purge=purge)
        assert report.memories == len(self.model.readable()) == self.store.stats().events
        assert self.store.stats().log_bytes == 64
        used = {self.model.records[id_].session for id_ in self.model.readable()}
        branches = {}
        for name, event in self.model.branches.items():
            trunk = self.model.records[event].session
            while trunk not in used and trunk in self.model.branches:  # a trunk without memories is skipped
                event = self.model.branches[trunk]
                trunk = self.model.records[event].session
            if trunk in used:
                branches[name] = event
        self.model.branches = branches
        used |= set(branches)
        self.model.begun = [name for name in self.model.begun if name in used]  # the others begin anew
        if purge:  # what no memory has any more is in no file, the names of fields included
            kept = [self.model.records[id_].metadata or {} for id_ in self.model.readable()]
            self.model.fields = {name for metadata in kept for name in metadata}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = aeon.open(self.path, **self.options)
        assert self.store.recovery.bytes_dropped == 0

    @rule()
    def die_and_come_back(self) -> None:
        """The process is killed: what its files hold now is all there is."""
        copy = self.folder / "copy.aeon"
        shutil.copytree(self.path, copy)
        with aeon.open(copy, **self.options) as survivor:
            self._agrees(survivor)
            assert survivor.recovery.bytes_dropped == 0
            survivor.remember("goes on")
        shutil.rmtree(copy)

    @rule()
    def follow(self) -> None:
        assert self.reader.refresh() == self.model.lsn
        self._agrees(self.reader)

    # -- reading ------------------------------------------------------------------------------------------------

    @rule(
        query=st.integers(0, len(POOL) - 1), k=st.integers(1, 30),
        session=st.none() | st.lists(st.sampled_from(SESSIONS), max_size=2), namespace=st.none() | st.sampled_from(SPACES),
        roles=st.none() | st.sampled_from(ROLES), since=st.none() | st.integers(0, 20), until=st.none() | st.integers(0, 20),
        where=st.none() | st.sampled_from(list(WHERES)), archived=st.booleans(),
        mode=st.sampled_from(["certified", "approximate", "auto"]),
    )  # fmt: skip
    def recall(
        self,
        query: int,
        k: int,
        session: Any,
        namespace: Any,
        roles: Any,
        since: Any,
        until: Any,
        where: Any,
        archived: bool,
        mode: Any,
    ) -> None:
        mapping, matches = WHERES[where] if where else (None, lambda m: True)
        if mapping is not None and self._names_unknown(mapping):
            return
        if since is not None and until is not None and since > until:
            with pytest.raises(aeon.InvalidInputError):
                self.store.recall(POOL[query], k, since=since, until=until)
            return
        expected = {}
        unit = POOL[query] / np.linalg.norm(POOL[query])
        for record in self.model.current():
            if (
                record.vector is not None
                and (archived or record.id not in self.model.archived)
                and (session is None or record.session in session)
                and record.namespace[: len(namespace or ())] == (namespace or ())
                and roles in (None, record.role)
                and (since is None or record.timestamp >= since)
                and (until is None or record.timestamp < until)
                and matches(record.metadata or {})
            ):
                expected[record.id] = float(self.store.get(record.id).vector @ unit)
        hits = self.store.recall(
            POOL[query],
            k,
            session=session,
            namespace=namespace,
            roles=roles,
            since=since,
            until=until,
            where=mapping,
            exact=True,
            archived=archived,
        )
        best = sorted(expected.values(), reverse=True)
        note(f"{len(expected)} match; best {best[:3]}")
        assert len(hits) == min(k, len(expected))
        for rank, hit in enumerate(hits):
            assert hit.id in expected
            assert abs(hit.score - expected[hit.id]) < 1e-4
            assert expected[hit.id] > best[rank] - 1e-4, "a better one was left out"
        order = [(-hit.score, hit.id) for hit in hits]
        assert order == sorted(order), "best first, equal ones in the order they were remembered"
        assert len({hit.id for hit in hits}) == len(hits)
        if hits:
            self.held.append((hits[0], self.model.records[hits[0].id]))
        # The SLB: these stores are searched row by row, so it has to say the same, whatever was cached before.
        cached = self.store.recall(
            POOL[query], k, session=session, namespace=namespace, roles=roles, since=since, until=until, where=mapping,
            archived=archived, asked_in="asker", slb=mode,
        )  # fmt: skip
        self.store.slb.settle(10)
        assert "approximate" in {hit.answered for hit in cached} or [(hit.id, hit.score) for hit in cached] == [
            (hit.id, hit.score) for hit in hits
        ]

    @rule(
        session=st.sampled_from([*SESSIONS, "b0", "b1", "nobody"]),
        limit=st.none() | st.integers(1, 9),
        before=st.none() | st.integers(1, 60),
    )
    def history(self, session: str, limit: int | None, before: int | None) -> None:
        expected = [id_ for id_ in self.model.past(session) if before is None or id_ < before]
        found = self.store.history(session, limit, before)
        assert [memory.id for memory in found] == expected[-limit if limit else 0 :]
        self.held += [(memory, self.model.records[memory.id]) for memory in found[:1]]

    @rule(name=st.sampled_from(KEYS), namespace=st.sampled_from(SPACES))
    def get_key(self, name: str, namespace: tuple[str, ...]) -> None:
        found = self.store.get_key(name, namespace)
        assert (found.id if found else None) == self.model.keys.get((namespace, name))

    @rule()
    def held_results_are_as_they_were(self) -> None:
        for memory, record in self.held:
            self._same(memory, record)
        self.held = [(memory, record) for memory, record in self.held if id(memory) % 2]  # fresh ones keep being added

    # -- what must always hold ----------------------------------------------------------------------------------

    def _same(self, memory: aeon.Memory, record: Record) -> None:
        assert (memory.text, memory.session, memory.role, memory.namespace, memory.key, memory.metadata) == (
            record.text, record.session, record.role, record.namespace, record.key, record.metadata or {},
        )  # fmt: skip
        assert (memory.timestamp, memory.refs, memory.parent) == (record.timestamp, record.refs, record.parent)
        assert record.text.startswith(memory.preview)
        if record.vector is None:
            assert memory.vector is None
        else:
            unit = POOL[record.vector] / np.linalg.norm(POOL[record.vector])
            assert np.abs(memory.vector - unit).max() < 1 / 127

    def _seen(self, store: aeon.Store) -> Any:
        return (
            len(store), store.sessions(), [[m.id for m in store.history(name, limit=None)] for name in SESSIONS], store.lsn,
            [getattr(store.get_key(name, space), "id", None) for name in KEYS for space in SPACES],
        )  # fmt: skip

    def _agrees(self, store: aeon.Store) -> None:
        model = self.model
        current = model.current()
        assert store.lsn == model.lsn
        assert len(store) == len(current)
        infos = {info.name: info for info in store.sessions()}
        assert list(infos) == [name for name in self._begun() if any(r.session == name for r in current)]
        for name in model.begun:
            ids = [record.id for record in current if record.session == name]
            assert [memory.id for memory in store.history(name, limit=None)] == model.past(name)
            if ids:
                assert (infos[name].count, infos[name].last_timestamp) == (len(ids), model.records[ids[-1]].timestamp)
        for record in model.records.values():
            if record.state == "forgotten":
                with pytest.raises(aeon.NotFoundError):
                    store.get(record.id)
            else:
                self._same(store.get(record.id), record)
        with pytest.raises(aeon.NotFoundError):
            store.get(model.next_id)
        for name in KEYS:
            for space in SPACES:
                found = store.get_key(name, space)
                assert (found.id if found else None) == model.keys.get((space, name))
        stats = store.stats()
        assert (stats.memories, stats.vectors, stats.keys) == (
            len(current), sum(record.vector is not None for record in current), len(model.keys),
        )  # fmt: skip

        self._graph_agrees(store)

    def _graph_agrees(self, store: aeon.Store) -> None:
        model = self.model
        edges = model.edges()
        for id_ in model.readable():
            out, in_ = (store.trace.neighbours(id_, direction=direction) for direction in ("out", "in"))
            assert {tuple(edge) for edge in out} == {edge for edge in edges if edge[0] == id_}
            assert {tuple(edge) for edge in in_} == {edge for edge in edges if edge[1] == id_}
            assert store.trace.is_archived(id_) == (id_ in model.archived)
        for id_ in model.readable()[-3:]:
            assert [memory.id for memory in store.history_of(id_)] == model.versions(id_)

    def _begun(self) -> list[str]:
        return self.model.begun

    @invariant()
    def everything_agrees(self) -> None:
        if hasattr(self, "store"):
            self._agrees(self.store)
            assert self.store.check().problems == ()


class FloatMachine(StoreMachine):
    """The same with float32 rows and every commit synced."""

    rows = "float32"
    options: ClassVar[dict[str, Any]] = {"durability": "full"}


class TinyLimitsMachine(StoreMachine):
    """The same with every limit so small that its edges are met all the time."""

    options: ClassVar[dict[str, Any]] = {
        "durability": "off", "segment_bytes_max": 1024, "segment_growth_bytes": 512, "checkpoint_log_bytes": 3000,
    }  # fmt: skip
    limits: ClassVar[list[tuple[Any, str, Any]]] = [
        (columns, "CHUNK_RECORDS", 4),  # kernels find rows by shifts
        (atlas, "CHUNK_RECORDS", 4),
        (rows_module, "CHUNK_RECORDS", 4),
        (trace, "CHUNK_RECORDS", 3),
        (trace, "FIELDS_MAX", 10_000),
        (store, "TEXT_BYTES_INLINE", 24),
        (recall, "_BLOCK", 2),
        (recall, "_FIRST_BATCH", 2),
    ]


def bounded(machine: type[StoreMachine], examples: int, steps: int) -> Any:
    """The machine as a test, at the given size unless a longer profile is asked for."""
    test = machine.TestCase
    base = settings.default
    if base is not None and base.max_examples <= 100:
        test.settings = settings(base, max_examples=examples, stateful_step_count=steps)
    else:
        test.settings = base
    return test


TestStore = bounded(StoreMachine, 40, 25)
TestFloatStore = bounded(FloatMachine, 15, 25)
TestTinyLimits = bounded(TinyLimitsMachine, 40, 30)
