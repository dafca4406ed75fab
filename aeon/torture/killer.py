"""Kills writers at random moments, and holds what is left of their stores against what they had been promised.

A writer says when each commit is begun and when it is acknowledged. After the kill the store must hold every acknowledged
commit and at most those that were under way: ids, texts, vectors, events, keys, order, and nothing else. In half of the rounds
four threads commit at once while a fifth recalls and checkpoints; now and then another process reads along.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeon.errors import InvalidInputError, NotAStoreError
from aeon.files import absolute
from aeon.opening import open_store
from aeon.store import Store
from aeon.torture.model import DIM, SESSIONS, difference
from aeon.torture.writer import SETTINGS, Stream, thread_text

_COMMITS_MAX = 1500  # then a new store is begun: reading everything after each kill costs in proportion
_EARLY_SHARE = 0.05  # of the kills come at any moment, that is mostly while the store is being opened
_EARLY_SECONDS = 0.03
_LIFE_SECONDS = 0.4  # most that a writer lives after its first acknowledged commit
_HANG_SECONDS = 60.0  # without an acknowledgement: a finding


@dataclass
class Verdict:
    """What a torture found.

    Attributes
    ----------
    kills : writers killed; `kills_before_open` of them before their store was open, `kills_before_commit` before a commit.
    stores : stores begun. acknowledged : commits that callers were told of, all of which were found.
    extra : commits that were under way when the kill came, and are there whole. torn_tails : cut off at the next open.
    followed : times that a reader looked along. violations : must be empty. kept : where a store that failed was left.
    """

    kills: int = 0
    kills_before_open: int = 0
    kills_before_commit: int = 0
    stores: int = 0
    acknowledged: int = 0
    extra: int = 0
    torn_tails: int = 0
    followed: int = 0
    violations: list[str] = field(default_factory=list)
    kept: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was lost."""
        return not self.violations


def torture(
    folder: str | os.PathLike[str] = ".",
    *,
    kills: int = 100,
    durability: str = "",
    seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[Verdict], None] | None = None,
) -> Verdict:
    """Kill writers of new stores in `folder` and say whether anything was lost; cleans up unless something was.

    Parameters
    ----------
    folder : a directory on the disk to test. kills : how many. durability : "full", "normal", or "" for half of each.
    seconds : stop after about so long, however many kills that were. seed : of the steps and of the moments.
    progress : called after each kill.
    """
    if not hasattr(os, "fork"):
        raise InvalidInputError(
            "torture forks its writers and kills them with SIGKILL, which this system does not have"
        )
    if durability not in ("", "full", "normal"):
        raise InvalidInputError(f"durability is 'full' or 'normal', not {durability!r}")
    root = absolute(folder)
    if not os.path.isdir(root):
        raise InvalidInputError(f"{root} is no directory")
    levels = (durability,) if durability else ("full", "normal")
    made = Path(tempfile.mkdtemp(prefix="aeon-torture-", dir=root))
    end = None if seconds is None else time.monotonic() + seconds
    with Torturer(made, seed, end=end, progress=progress) as torturer:
        rounds = list(itertools.product(levels, ("stream", "threads")))
        for n, (level, mode) in enumerate(rounds):
            share = kills * (n + 1) // len(rounds) - kills * n // len(rounds)
            torturer.run(share, level, mode)
    if torturer.verdict.ok:
        shutil.rmtree(made, ignore_errors=True)
    else:
        torturer.verdict.kept = str(made)
    return torturer.verdict


class Torturer:
    """Kills writers of stores in `folder`. A context manager: the helper that forks them ends with it."""

    def __init__(
        self,
        folder: Path,
        seed: int = 0,
        *,
        end: float | None = None,
        progress: Callable[[Verdict], None] | None = None,
    ) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._end = end
        self._progress = progress or (lambda verdict: None)
        self.verdict = Verdict()
        package = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "aeon.torture"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip

    def __enter__(self) -> Torturer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._helper.stdin is not None and self._helper.stdout is not None
        self._helper.stdin.close()
        self._helper.wait()
        self._helper.stdout.close()

    @property
    def _is_over(self) -> bool:
        return bool(self.verdict.violations) or (self._end is not None and time.monotonic() >= self._end)

    def run(self, kills: int, durability: str, mode: str) -> None:
        """Kill so many writers, beginning a new store whenever the old one has grown long. mode : "stream" or "threads"."""
        done = 0
        while done < kills and not self._is_over:
            self.verdict.stores += 1
            path = self._folder / f"{durability}-{mode}-{self.verdict.stores}.aeon"
            done += (self._stream if mode == "stream" else self._threads)(path, kills - done, durability)
            if self.verdict.ok:
                shutil.rmtree(path, ignore_errors=True)

    # -- one life -----------------------------------------------------------------------------------------------

    def _live_and_die(self, mode: str, path: Path, number: int, durability: str, *, follow: bool) -> list[list[str]]:
        """One life of a writer: what it said, word by word, until it was killed.

        The kill comes a random time after the first acknowledged commit, so that it meets a writer at work; some come at any
        moment, so that opening and recovery are met too.
        """
        assert self._helper.stdin is not None and self._helper.stdout is not None
        self._helper.stdin.write(f"{mode}\t{path}\t{number}\t{durability}\n")
        self._helper.stdin.flush()
        heard: list[list[str]] = []
        pid = int(self._helper.stdout.readline().split()[0])  # "born": the child's own words may come first
        dead = threading.Event()
        alarms: list[threading.Timer] = []

        def kill_after(seconds: float, why: str = "") -> None:
            def kill() -> None:
                if not dead.is_set():
                    if why:
                        self.verdict.violations.append(why)
                    os.kill(pid, signal.SIGKILL)

            alarms.append(threading.Timer(seconds, kill))
            alarms[-1].start()

        early = self._random.random() < _EARLY_SHARE
        delay = self._random.uniform(0, _EARLY_SECONDS if early else _LIFE_SECONDS)
        waits = not early
        kill_after(_HANG_SECONDS, f"{path.name}: the writer acknowledged nothing in {_HANG_SECONDS:.0f} s")
        if early:
            kill_after(delay)
        follower = threading.Thread(target=self._follow, args=(path, dead)) if follow else None
        if follower is not None:
            follower.start()
        while True:
            words = self._helper.stdout.readline().split()
            if not words:
                raise RuntimeError("the helper died")
            if words[1] == "dead":
                break
            if words[1] == "done" and waits:
                waits = False
                alarms.pop().cancel()
                kill_after(delay)
            heard.append(words[1:])
        dead.set()
        for alarm in alarms:
            alarm.cancel()
        if follower is not None:
            follower.join()
        self.verdict.kills += 1
        said = {words[0] for words in heard}
        self.verdict.kills_before_open += "opened" not in said
        self.verdict.kills_before_commit += "done" not in said
        return heard

    def _follow(self, path: Path, dead: threading.Event) -> None:
        """Read along: whatever is shown was written, and everything shown can be read."""
        while not dead.is_set():
            try:
                with open_store(path, read_only=True) as reader:
                    before = -1
                    while not dead.is_set():
                        lsn = reader.refresh()
                        assert lsn >= before, f"a reader went back from LSN {before} to {lsn}"
                        before = lsn
                        for session in SESSIONS:
                            for memory in reader.history(session, 50):
                                assert memory.text is not None and memory.session == session
                        self.verdict.followed += 1
            except NotAStoreError:
                dead.wait(0.001)  # not made yet
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                self.verdict.violations.append(f"a reader that followed {path.name}: {type(error).__name__}: {error}")
                return

    # -- judging ------------------------------------------------------------------------------------------------

    def _judge(self, path: Path, what: str, judge: Callable[[Store], Any]) -> bool:
        """Open what the kill left, and hold it against what was promised."""
        verdict = self.verdict
        try:
            with open_store(path, DIM, durability="normal", **SETTINGS) as store:
                judge(store)
                report = store.check()
                assert report.ok, f"check found {report.problems}"
                verdict.torn_tails += bool(store.recovery.bytes_dropped)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            verdict.violations.append(f"{path.name}, {what}: {type(error).__name__}: {error}")
        self._progress(verdict)
        return not verdict.violations

    def _stream(self, path: Path, kills: int, durability: str) -> int:
        verdict, seed = self.verdict, self._random.randrange(1 << 30)
        stream, acknowledged, kill = Stream(seed), 0, 0
        while kill < kills and not self._is_over and acknowledged <= _COMMITS_MAX:
            kill += 1
            heard = self._live_and_die("stream", path, seed, durability, follow=kill % 4 == 2)
            begun = acknowledged
            for words in heard:
                if words[0] == "begun":
                    begun = max(begun, int(words[1]))
                elif words[0] == "done":
                    acknowledged = int(words[1])
                elif words[0] == "failed":
                    verdict.violations.append(f"{path.name}, seed {seed}: the writer {' '.join(words)}")

            def judge(store: Store, least: int = acknowledged, most: int = begun) -> None:
                lsn = store.lsn
                assert least <= lsn <= most, f"{lsn} commits, not {least} to {most}; {store.recovery}"
                wrong = difference(store, stream.state_at(lsn))
                assert not wrong, f"at LSN {lsn}: {wrong}; {store.recovery}"

            if not self._judge(path, f"seed {seed}, kill {kill}", judge):
                return kill
            verdict.extra += stream.commits - acknowledged
            acknowledged = stream.commits
        verdict.acknowledged += acknowledged
        return kill

    def _threads(self, path: Path, kills: int, durability: str) -> int:
        verdict = self.verdict
        begun: set[str] = set()
        done: dict[int, str] = {}
        kept = [0]
        kill = 0
        while kill < kills and not self._is_over and len(done) <= 3 * _COMMITS_MAX:
            kill += 1
            for words in self._live_and_die("threads", path, kill, durability, follow=kill % 4 == 2):
                if words[0] == "begun":
                    begun.add(thread_text(*map(int, words[1:4])))
                elif words[0] == "done":
                    done[int(words[4])] = thread_text(*map(int, words[1:4]))
                elif words[0] == "failed":
                    verdict.violations.append(f"{path.name}: the writer {' '.join(words)}")

            def judge(store: Store) -> None:
                kept[0] = len(store)
                _judge_threads(store, begun, done)

            if not self._judge(path, f"kill {kill}", judge):
                return kill
        verdict.acknowledged += len(done)
        verdict.extra += kept[0] - len(done)
        return kill


def _judge_threads(store: Store, begun: set[str], done: dict[int, str]) -> None:
    """Everything acknowledged is there under its id, everything else there was begun, once, and in each thread's order."""
    texts: dict[int, str] = {}
    last: dict[tuple[int, int], int] = {}
    for session in SESSIONS:
        for memory in store.history(session, None):
            texts[memory.id] = memory.text
    for id_ in sorted(texts):
        words = texts[id_].split()
        who, turn = (int(words[1]), int(words[3])), int(words[5])
        assert turn == last.get(who, -1) + 1, f"memory {id_} is turn {turn} of {who}, after {last.get(who, -1)}"
        last[who] = turn
    for id_, text in done.items():
        assert texts.get(id_) == text, f"memory {id_} is {texts.get(id_)!r}, acknowledged as {text!r}"
    strangers = [text for text in texts.values() if text not in begun]
    assert not strangers, f"nobody remembered {strangers[:3]}"
    if texts:
        found = {int(id_) for id_ in store.atlas.search([1.0] * DIM, len(texts) + 3, exact=True)[0][0] if id_}
        assert found == set(texts), f"vector search reaches {len(found)} of {len(texts)}"
