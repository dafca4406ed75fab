"""Ctrl-C in the middle of a commit: the store goes on, and what was acknowledged stays."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import aeon
from aeon.engine import Engine
from aeon.files import OsFile
from aeon.upkeep import Upkeep
from aeon.wal import Wal


def interrupt_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    """Let the next call of a method end in KeyboardInterrupt, before or after its work."""
    real = getattr(owner, name)
    done = []

    def call(self: Any, *arguments: Any) -> Any:
        if done:
            return real(self, *arguments)
        done.append(True)
        if after:
            real(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), [(OsFile, "fdatasync"), (OsFile, "pwrite"), (Engine, "_remember")])
def test_a_commit_that_was_interrupted_is_whole_or_absent_and_the_store_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool
) -> None:
    path = tmp_path / "agent.aeon"
    store = aeon.open(path)
    first = store.remember("first", session="s", key="k")
    interrupt_once(monkeypatch, owner, name, after=after)
    with pytest.raises(KeyboardInterrupt):
        store.remember("interrupted", session="s", key="k")
    last = store.remember("last", session="s")
    assert store.get(last).text == "last"
    texts = [memory.text for memory in store.history("s")]
    assert texts in (["first", "last"], ["interrupted", "last"])
    assert store.get(first).text == "first"
    store.close()
    with aeon.open(path) as again:
        assert [memory.text for memory in again.history("s")] == texts
        assert again.recovery.bytes_dropped == 0
        assert again.check().ok


def test_an_interrupt_while_the_state_is_made_anew_leaves_a_store_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.aeon"
    store = aeon.open(path)
    store.remember("first")

    def always(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_remember", always)
        with pytest.raises(aeon.PoisonedError, match="KeyboardInterrupt"):
            store.remember("second")
    with pytest.raises(aeon.PoisonedError):
        store.remember("third")
    assert [memory.text for memory in store.history()] == ["first"]
    store.close()
    with aeon.open(path) as again:
        assert [memory.text for memory in again.history()] == ["first", "second"]


def interrupted_at(nth: int, work: Callable[[], Any], *, within: str = "") -> bool:
    """Run `work`, struck by a KeyboardInterrupt at the nth place where Python delivers one; False if it ended before.

    Python looks for signals as a function begins and as a call of C returns. `within` : only in files so named.
    """
    left = nth

    def strike(frame: FrameType, event: str, arg: object) -> None:
        nonlocal left
        at = frame.f_code  # what strikes in a finalizer is dropped by Python
        left -= event in ("call", "c_return") and at.co_filename.endswith(within) and at.co_name != "__del__"
        if left < 0:
            raise KeyboardInterrupt  # the interpreter removes a profile function that raises

    sys.setprofile(strike)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def in_time(work: Callable[[], Any]) -> Any:
    """What `work` returns; an error instead of waiting for ever."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    assert results, "waits for ever, or failed"
    return results[0]


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
def test_an_interrupt_at_every_call_of_a_commit(tmp_path: Path, durability: Any) -> None:
    path = tmp_path / "agent.aeon"
    store = aeon.open(path, 2, durability=durability)
    acknowledged = []
    for nth in count():
        text = f"struck at {nth}"
        struck = interrupted_at(nth, lambda text=text: store.remember(text, [1, 1]))
        acknowledged += [] if struck else [text]
        acknowledged.append(store.get(in_time(lambda after=f"after {nth}": store.remember(after, [1, 1]))).text)
        if not struck:
            break
    assert nth > 100
    texts = [memory.text for memory in store.history(limit=10_000)]
    in_time(store.close)
    with aeon.open(path) as again:
        assert [memory.text for memory in again.history(limit=10_000)] == texts
        assert again.check().ok
    assert len(set(texts)) == len(texts) and set(acknowledged) <= set(texts)


@pytest.mark.parametrize("run", ["checkpoint", "compact", "purge"])
def test_an_interrupt_in_a_checkpoint_or_compaction_is_no_failure(tmp_path: Path, run: str) -> None:
    """At each place in the log's, the files' and the upkeep's code; what comes next is a purge, which needs a new segment."""
    path = tmp_path / "agent.aeon"
    works: dict[str, Callable[[aeon.Store], Any]] = {
        "checkpoint": lambda store: store.checkpoint(),
        "compact": lambda store: store.compact(),
        "purge": lambda store: store.compact(purge=True),
    }
    store = aeon.open(path, 2, durability="normal", background=False)
    said = []
    for within in ("wal.py", "upkeep.py", "generation_files.py", "files.py"):
        for nth in count(0, 1 if within == "wal.py" else 11):
            said.append(f"{within} {nth}")
            store.remember(said[-1], [1, 1])
            struck = interrupted_at(nth, lambda: works[run](store), within=within)
            said.append(f"after {within} {nth}")
            store.remember(said[-1], [1, 1])
            following = works["purge" if nth % 2 else "checkpoint"]
            in_time(lambda following=following: following(store))
            assert len(list((path / "wal").iterdir())) <= 2
            if not struck:
                break
        assert nth > 10
    in_time(store.close)
    with aeon.open(path) as again:
        assert [memory.text for memory in again.history(limit=100_000)] == said
        assert again.check().ok


def test_a_run_that_could_not_end_leaves_its_frozen_state_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next run would take an older generation for the newest, and delete what the MANIFEST names."""
    path = tmp_path / "agent.aeon"
    store = aeon.open(path, 2, background=False)
    store.remember("one", [1, 1])
    store.checkpoint()
    end, calls = Upkeep._end, []

    def interrupted(self: Any) -> None:
        if self._frozen is not None and not calls:
            calls.append(self)
            raise KeyboardInterrupt
        end(self)

    store.remember("two", [1, 1])
    with monkeypatch.context() as patched:
        patched.setattr(Upkeep, "_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    store.remember("three", [1, 1])
    store.checkpoint()
    assert [memory.text for memory in store.history()] == ["one", "two", "three"]
    store.compact(purge=True)
    store.close()
    with aeon.open(path) as again:
        assert [memory.text for memory in again.history()] == ["one", "two", "three"] and again.check().ok


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[Wal]:
    """The log of a new store, without the store."""
    aeon.open(tmp_path / "agent.aeon", 2).close()
    log = aeon.open(tmp_path / "agent.aeon")._wal
    assert log is not None
    yield log
    in_time(lambda: log.close() or True)


def test_an_interrupted_sync_hands_the_lead_on(wal: Wal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Struck anywhere, while others wait for its sync: they are woken, and what they wrote is on disk."""
    real = OsFile.fdatasync
    for nth in count():
        others = [threading.Thread(target=wal.sync, args=(wal.append(b"", 1)[0],), daemon=True) for _ in range(3)]
        done = threading.Event()

        def held(file: OsFile, others: list[threading.Thread] = others, done: threading.Event = done) -> None:
            if not done.is_set():
                done.set()
                for other in others:
                    other.start()
                while len(wal._waiters) < len(others):
                    time.sleep(0.0002)
                wal.append(b"", 1)
                wal._waiters[0].lsn = wal.appended_lsn  # not covered by this sync: leads the next
            real(file)

        with monkeypatch.context() as patched:
            patched.setattr(OsFile, "fdatasync", held)
            struck = interrupted_at(nth, lambda: wal.sync(wal.appended_lsn), within="wal.py")
        for other in others:
            if other.ident is not None:
                other.join(20)
                assert not other.is_alive()
        assert in_time(lambda: wal.sync(wal.append(b"", 1)[0]) or True)
        assert wal.durable_lsn == wal.appended_lsn and not wal._waiters and wal._leader is None
        if not struck:
            break
    assert nth > 20
