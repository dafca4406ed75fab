"""The process that is killed: it writes for ever, and says through a pipe what it begins and what it was promised.

    python -m aeon.torture

reads one order a line (mode, path, number, durability) and forks a writer for each. Everything is imported by then, so a
life begins within a millisecond.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from aeon import store as stores
from aeon.opening import open_store
from aeon.torture.model import DIM, SESSIONS, Model, State, Step, StepMaker, carry_out

SETTINGS: dict[str, Any] = {"segment_bytes_max": 1 << 14, "segment_growth_bytes": 1 << 12}
_TEXT_BYTES_INLINE = 300  # instead of 1 MiB: texts that are written ahead of their commit come often, and cost little
_WRITERS = 4

# What a stream consists of, with weights; `model.carry_out` does them.
_MIX = (
    ("remember", 30), ("upsert", 12), ("many", 8), ("forget", 8), ("forget_topic", 2), ("transaction", 6), ("abort", 2),
    ("checkpoint", 1), ("compact", 1), ("purge", 1), ("flush", 2), ("link", 6), ("unlink", 2), ("archive", 2), ("restore", 1),
    ("branch", 1),
)  # fmt: skip


class Stream:
    """An endless list of steps made from a seed; the model is at `commits`."""

    def __init__(self, seed: int) -> None:
        self._maker = StepMaker(seed, "int8")
        self.commits = 0

    def steps(self) -> Iterator[tuple[Step, bool]]:
        """Yield each step and whether it is a commit; the model moves on when the next one is asked for."""
        kinds, weights = zip(*_MIX, strict=True)
        pick = self._maker.random
        while True:
            step = self._maker.step(pick.choices(kinds, weights)[0])
            is_commit = self.model.apply(step)
            self.commits += is_commit
            yield step, is_commit

    def state_at(self, commits: int) -> State:
        """The model's state after so many commits; only forward."""
        for _ in self.steps() if self.commits < commits else ():
            if self.commits == commits:
                break
        assert self.commits == commits
        return self.model.state()

    @property
    def model(self) -> Model:
        """The model as it is now."""
        return self._maker.model


def say(line: str) -> None:
    """Tell the parent, in one write: what was written before a kill arrives."""
    os.write(1, f"{os.getpid()} {line}\n".encode())


def write_stream(path: str, seed: int, durability: Any) -> None:
    """Go on with the stream where the store stands, for ever."""
    store = open_store(path, DIM, durability=durability, **SETTINGS)
    stream = Stream(seed)
    stream.state_at(store.lsn)
    say(f"opened {store.lsn}")
    for step, is_commit in stream.steps():
        if is_commit:
            say(f"begun {stream.commits}")
        carry_out(store, step)
        if is_commit:
            say(f"done {stream.commits}")


def thread_text(life: int, thread: int, n: int) -> str:
    """The text that a thread remembers: says who wrote it, and is long every now and then."""
    return f"life {life} thread {thread} turn {n}" + (" and so on" * 50 if n % 40 == 7 else "")


def write_in_threads(path: str, life: int, durability: Any) -> None:
    """Four threads remember, one recalls, checkpoints and compacts, for ever."""
    store = open_store(path, DIM, durability=durability, **SETTINGS)
    say(f"opened {store.lsn}")

    def write(thread: int) -> None:
        for n in itertools.count():
            say(f"begun {life} {thread} {n}")
            vector = [1.0, thread + 1.0, n % 7 - 3.0, 0.5]
            id_ = store.remember(thread_text(life, thread, n), vector, session=SESSIONS[thread % 3], timestamp=n)
            say(f"done {life} {thread} {n} {id_}")

    for thread in range(_WRITERS):
        threading.Thread(target=write, args=(thread,), daemon=True).start()
    for n in itertools.count(1):
        store.recall([1.0] * DIM, 5)
        time.sleep(0.001)
        if n % 50 == 0:
            store.checkpoint() if n % 150 else store.compact()


def serve() -> None:
    """Fork a writer for each line of orders, and say when it is dead."""
    stores.TEXT_BYTES_INLINE = _TEXT_BYTES_INLINE  # type: ignore[attr-defined]
    for line in sys.stdin:
        mode, path, number, durability = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            try:
                (write_stream if mode == "stream" else write_in_threads)(path, int(number), durability)
            except BaseException as error:  # noqa: BLE001 - a writer that dies by itself is a finding
                say(f"failed {type(error).__name__}: {error}")
            finally:
                os._exit(1)
        os.write(1, f"{pid} born\n".encode())
        os.waitpid(pid, 0)
        os.write(1, f"{pid} dead\n".encode())
