"""What must hold for every image: the eight conditions of the crash tests, and the driver that holds images against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aeon.errors import CorruptionError
from aeon.store import Store
from tests.crash.backends import MemoryFileSystem, RecordingFileSystem
from tests.crash.images import History, Image
from tests.crash.workloads import DIM, State, Text, Workload, difference, open_store, plan, remember, with_one_more
from tests.crash.workloads import Runner as WorkloadRunner


class Violation(AssertionError):
    """A condition that an image does not meet; says which image, so that it can be built again."""


_MORE = (
    Text("written after the crash", "kitchen", "user", 1, vector=(1.0, 2.0, 3.0, 4.0)),
    Text(
        "a second one, with a key", "garden", "assistant", 2, (), "plan", {"topic": "tea"}, vector=(0.5, 0.0, 0.0, 1.0)
    ),
    Text("and a third " * 40, "attic", "user", 3, vector=None),
)

VIOLATIONS_MAX = 20  # of one workload: more of them tell nothing new

HOOKS_BEFORE_LAST_OPEN: list[Callable[[Store], object]] = [
    lambda store: store.atlas.settle(),
    lambda store: store.checkpoint(),
    lambda store: store.atlas.settle(),
    lambda store: store.compact(),
    lambda store: store.compact(purge=True),
]
"""Condition 6: what is done after three more writes, before the fresh open."""


@dataclass
class Judge:
    """Holds images of one workload against the conditions.

    Attributes
    ----------
    tested : images opened. distinct : images that differ in a byte of any file. recovered : different stores that
        recovery made of them; conditions 4, 5 and 6 are functions of those bytes, so they are judged once for each.
    by_family : images per family.
    """

    workload: Workload
    states: list[State]
    tested: int = 0
    distinct: int = 0
    by_family: dict[str, int] = field(default_factory=dict)
    thorough: bool = True
    _seen: set[int] = field(default_factory=set)
    _recovered: set[int] = field(default_factory=set)

    def absorb(self, other: Judge) -> None:
        """Add another judge's figures."""
        self.tested += other.tested
        self.distinct += other.distinct
        for family, count in other.by_family.items():
            self.by_family[family] = self.by_family.get(family, 0) + count

    @property
    def recovered(self) -> int:
        """How many different stores recovery made."""
        return len(self._recovered)

    def judge(self, files: MemoryFileSystem, image: Image, origin: str = "") -> None:
        """Raise Violation unless the image meets every condition."""
        self.tested += 1
        self.by_family[image.family] = self.by_family.get(image.family, 0) + 1
        key = hash((tuple(files.contents()), image.least, image.most))
        if key in self._seen:
            return
        self._seen.add(key)
        self.distinct += 1
        try:
            self._judge(files, image)
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{self.workload.name}: {origin}{image}: {type(error).__name__}: {error}") from error

    def _judge(self, files: MemoryFileSystem, image: Image) -> None:
        store = open_store(files, self.workload, "full")  # condition 1: it opens
        try:
            lsn = store.lsn
            _require(
                image.least <= lsn <= image.most, f"{lsn} commits, not {image.least} to {image.most}; {store.recovery}"
            )
            wrong = difference(store, self.states[lsn])  # conditions 2 and 3
            _require(not wrong, f"at LSN {lsn}: {wrong}; {store.recovery}")
        finally:
            store.close()
        files.require_nothing_open()  # condition 8
        key = hash(tuple(files.contents()))
        if key in self._recovered:
            return
        self._recovered.add(key)
        self._judge_recovered(files, lsn)

    def _judge_recovered(self, files: MemoryFileSystem, lsn: int) -> None:
        files.mutations.clear()
        with open_store(files, self.workload, "full") as store:
            _require(not files.mutations, f"the second open changed {files.mutations}")  # condition 5
            wrong = difference(store, self.states[lsn])
            _require(store.lsn == lsn and not wrong, f"the second open shows LSN {store.lsn}, {wrong}")
            report = store.check()  # condition 4
            _require(report.ok, f"check found {report.problems}")
            wrong = wrong_through_the_index(store, self.states[lsn])
            _require(not wrong, wrong)
        files.require_nothing_open()
        with open_store(files, self.workload, "normal") as store:
            ids = [remember(store, text) for text in _MORE]
            _require(ids == list(range(self.states[lsn].next_id, self.states[lsn].next_id + 3)), f"new ids are {ids}")
            before = _everything(store, ids[-1])
        with open_store(
            files, self.workload, "normal"
        ) as store:  # through the log first: was it continued where it ended?
            after = _everything(store, ids[-1])
            _require(after == before, f"after a replay: {after}, before it: {before}; {store.recovery}")
            for hook in HOOKS_BEFORE_LAST_OPEN:
                hook(store)
        with open_store(files, self.workload, "full") as store:  # condition 6
            after = _everything(store, ids[-1])
            _require(after == before, f"after a checkpoint: {after}, before it: {before}")
            report = store.check()
            _require(report.ok, f"check found {report.problems}")
            _require(store.recovery.commits_replayed == 0, "a checkpointed store replays nothing")
        files.require_nothing_open()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _everything(store: Store, last_id: int) -> list[Any]:
    """All that can be read, in a form to compare."""
    found: list[Any] = []
    for id_ in range(1, last_id + 2):
        try:
            memory = store.get(id_)
        except KeyError:
            continue
        vector = memory.vector
        found.append((memory.to_dict(), None if vector is None else vector.tobytes()))
    found += [[memory.id for memory in store.history(info.name, None)] for info in store.sessions()]
    found.append(sorted(store.atlas.search([1.0] * DIM, last_id + 1)[0][0].tolist()))
    return found


def wrong_through_the_index(store: Store, state: State) -> str:
    """What searches through the pages and along time show that an exact one does not; "" if nothing."""
    hits = store.trace.search([1.0, 2.0, 3.0, 4.0], len(state.searchable) + 3, probes=2)
    if {hit.id for hit in hits} != state.searchable:
        return f"a search along time reaches {sorted(hit.id for hit in hits)}, expected {sorted(state.searchable)}"
    if not store.atlas.settle():
        return ""
    for id_ in sorted(state.searchable)[::3]:
        vector = np.frombuffer(state.memories[id_][9], np.float32)
        exact_ids, exact_scores = store.atlas.search(vector, len(state.searchable), exact=True)
        exact = dict(zip(exact_ids[0].tolist(), exact_scores[0].tolist(), strict=True))
        ids, scores = store.atlas.search(vector, 2)
        for found, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True):
            if found and exact.get(found) != score:
                return f"through the index memory {found} scores {score}, exactly {exact.get(found)}"
    return ""


def record(workload: Workload) -> tuple[History, list[State]]:
    """Run a workload on a recording file system."""
    files = RecordingFileSystem()
    runner = WorkloadRunner(workload, files, files.promise)
    runner.run()
    assert runner.store is not None
    runner.store.close()
    files.promise("durable", runner.begun)
    files.require_nothing_open()
    return History.of(files), plan(workload)


def recoveries(history: History, image: Image, workload: Workload, states: list[State]) -> tuple[History, list[State]]:
    """Family G: what opening an image does, and one more commit, as a history of its own that begins with that image on disk.

    Returns it with the states that its images may show: what recovery found, before and after it is done, and then one more.
    What it dropped never comes back.
    """
    start = history.build(image)
    files = RecordingFileSystem(start.root, max(history.is_directory, default=2))
    with open_store(files, workload, "full") as store:
        lsn = store.lsn
        files.promise("durable", store.durable_lsn)
        files.promise("begun", lsn + 1)
        remember(store, _MORE[0])
        files.promise("durable", lsn + 1)
    return History.of(files, image.least, lsn), [
        *states[: lsn + 1],
        with_one_more(states[lsn], _MORE[0], workload.rows),
    ]


def after_kill(history: History, point: int, workload: Workload, states: list[State]) -> tuple[History, list[State]]:
    """Family K: the process dies at `point`, the machine does not; the store is opened anew and one more memory acknowledged.

    What was pending then is still pending: the page cache has outlived the process. Returns the whole history, and the
    states that it may leave. Judge its images from `point` on: the power goes during or after the second life.
    """
    start = history.build(Image("K", point, (), 0, 0))
    files = RecordingFileSystem(start.root, max(history.is_directory, default=2))
    with open_store(files, workload, "full") as store:
        lsn = store.lsn
        files.promise("durable", store.durable_lsn)
        files.promise("begun", lsn + 1)
        remember(store, _MORE[0])
        files.promise("durable", lsn + 1)
        store.checkpoint()
    before = history.log[:point]
    # The second life goes on from LSN `lsn`: what the first had begun beyond it was never acknowledged.
    log = [entry for entry in before if entry.kind != "promise" or entry.target <= lsn] + files.log
    whole = History(history.base, log, {**history.is_directory, **files.is_directory})
    whole.first_point = len(log) - len(files.log)
    return whole, [*states[: lsn + 1], with_one_more(states[lsn], _MORE[0], workload.rows)]


def judge_all(
    judge: Judge,
    history: History,
    images: Iterable[Image],
    *,
    crash_in_recovery_every: int = 0,
    kill_every: int = 0,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[str]:
    """Judge images; return the violations found.

    Every `crash_in_recovery_every`-th image is crashed again while it opens; at every `kill_every`-th point the process dies,
    opens the store anew, and the power goes after that.
    """
    violations: list[str] = []
    for count, image in enumerate(images, 1):
        try:
            judge.judge(history.build(image), image)
            if crash_in_recovery_every and count % crash_in_recovery_every == 0:
                second, states = recoveries(history, image, judge.workload, judge.states)
                inner_judge = Judge(judge.workload, states, _recovered=judge._recovered)
                for inner in second.images("AB"):
                    inner_judge.judge(second.build(inner), replace(inner, family="G"), f"{image} then ")
                judge.absorb(inner_judge)
        except Violation as violation:
            violations.append(str(violation))
        except CorruptionError as error:
            violations.append(f"{judge.workload.name}: {image}: while recording recovery: {error}")
        if progress is not None and count % 256 == 0:
            progress(count)
        if len(violations) >= VIOLATIONS_MAX or (stop is not None and stop()):
            return violations
    for point in range(1, len(history.log) + 1, kill_every) if kill_every else ():
        try:
            second, states = after_kill(history, point, judge.workload, judge.states)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            violations.append(f"{judge.workload.name}: killed at {point}: {type(error).__name__}: {error}")
            continue
        inner_judge = Judge(judge.workload, states, _recovered=judge._recovered)
        for inner in second.images("BF", 8):
            if inner.point > second.first_point:
                try:
                    inner_judge.judge(second.build(inner), replace(inner, family="K"), f"killed at {point}, then ")
                except Violation as violation:
                    violations.append(str(violation))
        judge.absorb(inner_judge)
        if len(violations) >= VIOLATIONS_MAX or (stop is not None and stop()):
            break
    return violations


def explain(history: History, image: Image) -> str:
    """The log up to an image's point, each pending change with its fate: for reading a violation."""
    fates = dict(image.fates)
    lines = []
    pending: list[int] = []
    for point, waiting, *_ in history.points():
        if point == image.point:
            pending = waiting
    for index, entry in enumerate(history.log[: image.point]):
        arguments = [f"<{len(a)} bytes>" if isinstance(a, bytes) else a for a in entry.arguments]
        mark = f"{fates.get(index, 'keep')}" if index in pending else ""
        lines.append(f"{index:5} {mark:12} {entry.kind} #{entry.target} {arguments} {entry.place}")
    return "\n".join(lines)
