"""Seeded workloads, and a plain-Python model of what a store must hold after each of their commits.

A workload is a list of steps. `plan` carries them out on the model alone and gives one `State` per commit, so that the state
with LSN j is `states[j]`. `Runner` carries them out on a store and says at each moment what callers have been promised.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import aeon
from aeon import atlas, index_maker, page_building, pages, time_blocks
from aeon import store as store_module
from aeon import upkeep as upkeep_module
from aeon.errors import AeonError
from aeon.files import FileSystem
from aeon.store import Store
from aeon.torture.model import (  # what `aeon torture` and these tests share
    DIM,
    KEYS,
    SESSIONS,
    TOPICS,
    Model,
    State,
    Step,
    StepMaker,
    Text,
    carry_out,
    difference,
    remember,
)
from tests.crash.backends import STORE

__all__ = [
    "DIM", "KEYS", "SESSIONS", "TOPICS", "Model", "Runner", "State", "Step", "StepMaker", "Text", "Workload", "abandon",
    "carry_out", "difference", "make_workload", "open_store", "plan", "remember", "short_texts_inline", "small_index",
    "with_one_more",
]  # fmt: skip

TEXT_BYTES_INLINE = 300  # instead of 1 MiB, so that texts by reference cost little


@contextmanager
def short_texts_inline(limit: int = TEXT_BYTES_INLINE) -> Iterator[None]:
    """Let texts above `limit` bytes go to the arena by reference."""
    before = store_module.TEXT_BYTES_INLINE
    store_module.TEXT_BYTES_INLINE = limit
    try:
        yield
    finally:
        store_module.TEXT_BYTES_INLINE = before


@contextmanager
def small_index(rows: int = 6) -> Iterator[None]:
    """Let a page index come with `rows` vectors, in pages of a few, so that small stores have every kind of file."""
    settings = (
        (index_maker, "_CALIBRATION_QUERIES", 2),
        (atlas, "INDEX_FROM_ROWS", rows),
        (atlas, "TAIL_ROWS", 2),
        (index_maker, "TAIL_ROWS", 2),
        (page_building, "BUILD_ROWS", 4),
        (pages, "_SPARSE_ROWS", 2),
        (time_blocks, "BLOCK_ROWS", 4),
        (time_blocks, "CENTROIDS", 2),
    )
    before = [getattr(module, name) for module, name, _ in settings]
    try:
        for module, name, value in settings:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(settings, before, strict=True):
            setattr(module, name, value)


@dataclass(frozen=True)
class Workload:
    """Steps and the settings of the store they run on."""

    name: str
    seed: int
    durability: str
    rows: str
    settings: dict[str, Any]
    steps: tuple[Step, ...]


def plan(workload: Workload) -> list[State]:
    """The state after each commit: `states[j]` is what a store with LSN j holds."""
    model = Model(workload.rows)
    return [model.state(), *(model.state() for step in workload.steps for one in parts(step) if model.apply(one))]


def parts(step: Step) -> tuple[Step, ...]:
    """What a step commits, one by one."""
    return step.inner if step.kind in UPKEEP else (step,)


def with_one_more(state: State, text: Text, rows: str) -> State:
    """The state after one more memory, without a key, was remembered."""
    assert text.key is None
    model = Model(rows)
    model.next_id = state.next_id
    id_ = model.remember(text)
    one = model.state()
    history, counts = dict(state.history), dict(state.counts)
    assert text.session in SESSIONS, "a session that none can branch off at this id"
    history[text.session] = (*history[text.session], id_)
    counts[text.session] += 1
    return replace(
        state, memories={**state.memories, **one.memories}, history=history, counts=counts,
        searchable=state.searchable | one.searchable, next_id=one.next_id,
    )  # fmt: skip


STAGES = ("preparing", "freezing", "discarding", "frozen", "writing", "mapping", "counting", "swapping")  # of a run
UPKEEP = ("checkpoint", "compact", "purge")
_MIX = (
    ("remember", 8), ("upsert", 5), ("many", 4), ("forget", 3), ("forget_topic", 1), ("transaction", 3), ("abort", 1),
    ("checkpoint", 2), ("compact", 2), ("purge", 1), ("flush", 1), ("reopen", 1), ("kill", 2), ("link", 4), ("unlink", 1),
    ("archive", 1), ("restore", 1), ("branch", 1), ("consolidate", 2), ("undo", 1), ("ask", 2),
)  # fmt: skip


def make_workload(seed: int, steps: int = 26) -> Workload:
    """A workload from a seed; the seed also chooses durability, kind of rows and sizes."""
    rows = "float32" if seed % 7 == 3 else "int8"
    maker = StepMaker(seed, rows)
    kinds, weights = zip(*_MIX, strict=True)
    chosen = ["remember", *maker.random.choices(kinds, weights, k=steps - 3), "kill", "remember"]
    for at, kind in enumerate(("checkpoint", "compact", "purge")):
        if kind not in chosen:
            chosen[steps // 2 + 3 * at] = kind
    made = []
    for kind in chosen:
        step = maker.step(kind)
        if kind in UPKEEP and maker.random.random() < 0.8:
            step = replace(step, inner=tuple(_meanwhile(maker)))
        else:
            maker.model.apply(step)
        made.append(step)
    settings = {
        "segment_bytes_max": maker.random.choice((1024, 2048, 4096)),
        "segment_growth_bytes": maker.random.choice((512, 1024)),
        "checkpoint_log_bytes": maker.random.choice((0, 0, 0, 4096)),
        "background": False,
    }
    durability = ("full", "normal", "off")[seed % 3]
    return Workload(f"seed {seed}", seed, durability, rows, settings, tuple(made))


def _meanwhile(maker: StepMaker) -> Iterator[Step]:
    """Commits of other threads while a generation is written: few or many enough that some are left for the swap."""
    kinds = (
        "remember",
        "upsert",
        "many",
        "forget",
        "transaction",
        "link",
        "unlink",
        "archive",
        "restore",
        "branch",
        "undo",
    )
    for kind in maker.random.choices(kinds, k=maker.random.randint(1, 7)):
        step = maker.step(kind)
        if maker.model.apply(step):
            yield step


# -- running ------------------------------------------------------------------------------------------------------


def open_store(files: FileSystem, workload: Workload, durability: str = "", path: str = "", **more: Any) -> Store:
    """Open the workload's store as its writer, or make it."""
    return aeon.open(
        path or STORE,
        DIM,
        durability=durability or workload.durability,
        rows=workload.rows,
        files=files,
        **workload.settings,
        **more,
    )


def abandon(store: Store) -> None:
    """What the death of the process does to a store: nothing is written, descriptors and the lock go."""
    lock, wal = store._lock, store._wal
    store._unusable = "its process died"
    if lock is not None:
        lock.release()
    if wal is not None:
        for file in (*wal._unsynced, wal._file):
            file.close()


@dataclass
class Runner:
    """Runs a workload on a store.

    Attributes
    ----------
    promise : called with ("begun", n) before the n-th commit, ("acknowledged", n) after it returned, and ("durable", n) when
        the store says that n commits are on disk.
    acknowledged, durable, begun : the same as figures.
    meanwhile : commits made while a generation was written, by what it was at.
    """

    workload: Workload
    files: FileSystem
    promise: Callable[[str, int], None] = lambda kind, commits: None
    acknowledged: int = 0
    durable: int = 0
    begun: int = 0
    store: Store | None = None
    meanwhile: Counter[str] = field(default_factory=Counter)
    after_step: Callable[[Store, int], None] | None = None

    def run(self) -> None:
        """Carry out every step; an error of the store ends it. The store stays open until `stop`."""
        self._model = Model(self.workload.rows)
        self._open("")
        for step in self.workload.steps:
            if step.kind in ("reopen", "kill"):
                assert self.store is not None
                self.store.close() if step.kind == "reopen" else abandon(self.store)
                self._open(step.durability)
            elif step.inner and step.kind in UPKEEP:
                self._carry_out_meanwhile(step)
            else:
                self._carry_out(step)
            assert self.store is not None
            self.store.atlas.settle()  # whether a checkpoint writes pages must not depend on a thread's pace
            self._tell()
            if self.after_step is not None:
                self.after_step(self.store, self.begun)

    def _carry_out(self, step: Step) -> None:
        assert self.store is not None
        if self._model.apply(step):
            self.begun += 1
            self.promise("begun", self.begun)
        carry_out(self.store, step)

    def _carry_out_meanwhile(self, step: Step) -> None:
        """Let the inner steps commit while a generation is written, mapped, and after its MANIFEST counts, before the swap."""
        store = self.store
        assert store is not None and store._wal is not None
        wal = store._wal
        upkeep, pick = store._upkeep, random.Random(f"{self.workload.seed} {self.begun}")
        waiting = list(zip(sorted(pick.choices(range(len(STAGES)), k=len(step.inner))), step.inner, strict=True))
        failures: list[AeonError] = []

        def others(stage: int, chance: float = 1.0) -> None:
            while waiting and waiting[0][0] <= stage and not failures and pick.random() < chance:
                try:
                    self._carry_out(waiting.pop(0)[1])
                    self.meanwhile[STAGES[stage]] += 1
                    self._tell()
                except AeonError as error:  # it is that caller's, not the upkeep's
                    failures.append(error)

        with pytest.MonkeyPatch.context() as patch:

            def at(name: str, stage: int, chance: float = 1.0, *, of: Any = upkeep) -> None:
                method = getattr(of, name)

                def after_others(*given: Any, **named: Any) -> Any:
                    if not wal._lock.locked():  # a purge discards inside `begin_checkpoint`
                        others(stage, chance)
                    return method(*given, **named)

                patch.setattr(of, name, after_others)

            catch_up = upkeep._catch_up

            def catch_up_and_go_on(*given: Any, pausing: bool) -> None:
                catch_up(*given, pausing=pausing)
                if not store._index_lock.locked() and not pausing:
                    others(7)  # behind all but what is applied under the lock

            at("begin_checkpoint", 0, of=wal)  # the next segment is made, and not yet begun
            at("discard_prepared", 1, of=wal)  # the log goes on behind what is to be frozen
            at("unlink", 2, of=self.files)  # the file of a segment that was made and not begun is about to go
            at("write_generation", 3, of=upkeep_module)
            at("_pause", 4, 0.2)
            at("_build", 5)
            at("_publish", 6)  # the MANIFEST says the new generation
            patch.setattr(upkeep, "_catch_up", catch_up_and_go_on)
            patch.setattr(upkeep, "run_if_due", lambda store: None)  # another run waits for this one
            carry_out(store, step)
        for failure in failures:
            raise failure
        for _, left in waiting:
            self._carry_out(left)
            self._tell()

    def _open(self, durability: str) -> None:
        self.store = open_store(self.files, self.workload, durability)
        if self.store.durable_lsn > self.durable:
            self.durable = self.store.durable_lsn
            self.promise("durable", self.durable)

    def _tell(self) -> None:
        assert self.store is not None
        commits = self.begun
        if self.store.lsn != commits:
            raise AssertionError(f"the store is at LSN {self.store.lsn} after {commits} commits")
        if commits > self.acknowledged:
            self.acknowledged = commits
            self.promise("acknowledged", commits)
        if self.store.durable_lsn > self.durable:
            self.durable = self.store.durable_lsn
            self.promise("durable", self.durable)
