"""Ctrl-C in the middle of a commit: the store goes on, and what was acknowledged stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import aeon
from aeon.engine import Engine
from aeon.files import OsFile


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
