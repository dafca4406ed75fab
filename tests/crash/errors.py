"""Family H: the n-th operation of each kind fails, once or for ever, with EIO, ENOSPC or a short write.

The caller gets a typed error, nothing acknowledged is lost, a poisoned store takes no more writes and goes on reading, and
what the disk holds afterwards meets the conditions, whether the process dies or the power goes. After a failed sync the
unsynced bytes are gone and later syncs succeed, as on Linux.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from aeon.errors import AeonError, CapacityError, ClosedError, OpenError, PoisonedError
from tests.crash.backends import Fault, FaultyFileSystem
from tests.crash.conditions import Judge, Violation
from tests.crash.images import Image
from tests.crash.workloads import Runner, Text, Workload, difference, remember

SYNCS = ("fsync", "fdatasync", "fsync_dir")
KINDS = (
    *SYNCS,
    "pwrite",
    "allocate",
    "create",
    "truncate",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "open",
    "pread",
    "map",
    "listdir",
    "lock",
)
_ONE_MORE = Text("one more", "kitchen", "user", 1)


def count_operations(workload: Workload) -> dict[str, int]:
    """How many operations of each kind a run has."""
    files = FaultyFileSystem()
    runner = Runner(workload, files)
    runner.run()
    counts = dict(files.counts)
    assert runner.store is not None
    runner.store.close()
    return counts


def faults(workload: Workload) -> Iterator[Fault]:
    """Every fault that a run of the workload can meet."""
    for kind, count in count_operations(workload).items():
        errors = [errno.EIO]
        if kind in ("pwrite", "allocate", "create", "mkdir", "fsync", "fdatasync", "fsync_dir"):
            errors.append(errno.ENOSPC)
        if kind == "pwrite":
            errors.append(0)
        for nth in range(1, count + 1):
            for error in errors:
                yield Fault(kind, nth, error)
                yield Fault(kind, nth, error, forever=True)


def judge_fault(judge: Judge, fault: Fault) -> None:
    """Run the judge's workload with a fault; raise Violation if something is lost or untyped."""
    try:
        _judge_fault(judge, fault)
    except Violation as violation:
        raise Violation(f"{fault}: {violation}") from violation
    except Exception as error:
        raise Violation(f"{judge.workload.name}: {fault}: {type(error).__name__}: {error}") from error


def _judge_fault(judge: Judge, fault: Fault) -> None:
    files = FaultyFileSystem(fault)
    runner = Runner(judge.workload, files)
    failure: AeonError | None = None
    try:
        runner.run()
    except AeonError as error:
        failure = error
    assert files.fired, "the fault was never met"
    files.plan = None  # whoever asks again finds the device well, and must not believe it
    store = runner.store
    if store is not None and not store._unusable:
        _judge_survivor(judge, runner, failure)
        store.close()
    else:
        assert isinstance(failure, (OpenError, AeonError)), failure
    files.require_nothing_open()
    least = runner.durable if fault.kind in SYNCS else runner.acknowledged
    for family, left, bound in (("H", files.after_kill(), least), ("H", files.after_power_cut(), runner.durable)):
        judge.judge(left, Image(family, 0, (), bound, runner.begun), f"{fault}: ")


def _judge_survivor(judge: Judge, runner: Runner, failure: AeonError | None) -> None:
    """The store that met a failure is still open: what it shows is right, and it writes only if nothing is unknown."""
    store = runner.store
    assert store is not None
    wrong = difference(store, judge.states[store.lsn])
    assert not wrong, f"after {failure!r}: {wrong}"
    assert runner.acknowledged <= store.lsn <= runner.begun, f"after {failure!r} LSN {store.lsn} is shown"
    if store._options.durability == "full":
        assert store.lsn <= store.durable_lsn, f"LSN {store.lsn} is shown, {store.durable_lsn} is on disk"
    if isinstance(failure, CapacityError):
        assert store.lsn == runner.acknowledged, "nothing was written"
    elif failure is not None:
        before = store.lsn
        try:
            remember(store, _ONE_MORE)
        except (PoisonedError, ClosedError):
            pass
        else:
            raise AssertionError(f"after {failure!r} the store takes more writes")
        assert store.lsn == before
