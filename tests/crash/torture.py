"""kill -9 of a real writer on a real disk, again and again.

    python -m tests.crash.torture --kills 1000 --path /some/disk

A writer process carries out an endless seeded stream of steps and says through a pipe when each commit is begun and when it is
acknowledged. It is killed at a random moment; the store is opened, and must hold every acknowledged commit and at most the one
that was under way: ids, texts, vectors, events, keys, order, and nothing else. In every other round four threads commit at once
while a fifth recalls. A read-only process-mate follows the log meanwhile.

The writers are forked from one helper that has imported everything, so a life begins within a millisecond.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aeon
from aeon.errors import NotAStoreError
from tests.crash.workloads import DIM, SESSIONS, Model, State, Step, _Maker, carry_out, difference, short_texts_inline

_SETTINGS = {"segment_bytes_max": 1 << 14, "segment_growth_bytes": 1 << 12}
_COMMITS_MAX = 1500  # then a new store is begun: reading everything after each kill costs in proportion
_KINDS = (
    "remember", "upsert", "many", "forget", "forget_topic", "transaction", "abort", "checkpoint", "flush", "link", "unlink",
    "archive", "restore",
)  # fmt: skip
_WEIGHTS = (30, 12, 8, 8, 2, 6, 2, 1, 2, 6, 2, 2, 1)
_WRITERS = 4


class Stream:
    """An endless list of steps made from a seed; the model is at `commits`."""

    def __init__(self, seed: int) -> None:
        self._maker = _Maker(seed, "int8")
        self.commits = 0

    def steps(self) -> Iterator[tuple[Step, bool]]:
        """Yield each step and whether it is a commit; the model moves on when the next one is asked for."""
        pick = self._maker.random
        while True:
            step = self._maker.step(pick.choices(_KINDS, _WEIGHTS)[0])
            model = self._maker.model
            is_commit = model.apply(step)
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


# -- the writer ---------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Tell the parent, in one write: what was written before a kill arrives."""
    os.write(1, f"{os.getpid()} {line}\n".encode())


def write_stream(path: str, seed: int, durability: str) -> None:
    """Go on with the stream where the store stands, for ever."""
    store = aeon.open(path, DIM, durability=durability, **_SETTINGS)  # type: ignore[arg-type]
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


def write_in_threads(path: str, life: int, durability: str) -> None:
    """Four threads remember, one recalls and checkpoints, for ever."""
    store = aeon.open(path, DIM, durability=durability, **_SETTINGS)  # type: ignore[arg-type]
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
            store.checkpoint()


def serve() -> None:
    """The helper: fork a writer for each line of orders, and say when it is dead."""
    for line in sys.stdin:
        mode, path, number, durability = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            try:
                with short_texts_inline():
                    (write_stream if mode == "stream" else write_in_threads)(path, int(number), durability)
            except BaseException as error:  # noqa: BLE001 - a writer that dies by itself is a finding
                say(f"failed {type(error).__name__}: {error}")
            finally:
                os._exit(1)
        os.write(1, f"{pid} born\n".encode())
        os.waitpid(pid, 0)
        os.write(1, f"{pid} dead\n".encode())


# -- the parent ---------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What a torture found; `violations` must be empty."""

    kills: int = 0
    kills_before_open: int = 0
    stores: int = 0
    acknowledged: int = 0
    extra: int = 0  # commits that were under way when the kill came, and are there
    torn_tails: int = 0
    followed: int = 0  # times that a reader looked at the store while it was written
    violations: list[str] = field(default_factory=list)


class Torturer:
    """Kills writers of stores in `folder`. A context manager: the helper ends with it."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self.verdict = Verdict()
        root = Path(__file__).resolve().parents[2]
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.torture", "--serve"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))},
        )

    def __enter__(self) -> Torturer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._helper.stdin is not None and self._helper.stdout is not None
        self._helper.stdin.close()
        self._helper.wait()
        self._helper.stdout.close()

    def _live_and_die(
        self, mode: str, path: Path, number: int, durability: str, seconds: float, follow: bool
    ) -> list[list[str]]:
        """One life of a writer: what it said, word by word, until it was killed."""
        assert self._helper.stdin is not None and self._helper.stdout is not None
        self._helper.stdin.write(f"{mode}\t{path}\t{number}\t{durability}\n")
        self._helper.stdin.flush()
        heard: list[list[str]] = []
        pid = int(self._helper.stdout.readline().split()[0])  # "born": the child's own words may come first
        alarm = threading.Timer(seconds, lambda: os.kill(pid, signal.SIGKILL))
        follower = threading.Thread(target=self._follow, args=(path, seconds)) if follow else None
        alarm.start()
        if follower is not None:
            follower.start()
        while True:
            words = self._helper.stdout.readline().split()
            if not words:
                raise RuntimeError("the helper died")
            if words[1] == "dead":
                break
            heard.append(words[1:])
        alarm.join()
        if follower is not None:
            follower.join()
        return heard

    def _follow(self, path: Path, seconds: float) -> None:
        """Read along: whatever is shown was written, and everything shown can be read."""
        end = time.monotonic() + seconds
        try:
            with aeon.open(path, read_only=True) as reader:
                before = -1
                while time.monotonic() < end:
                    lsn = reader.refresh()
                    assert lsn >= before, f"a reader went back from LSN {before} to {lsn}"
                    before = lsn
                    for session in SESSIONS:
                        for memory in reader.history(session, 50):
                            assert memory.text is not None and memory.session == session
                    self.verdict.followed += 1
        except NotAStoreError:
            pass  # not made yet
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.verdict.violations.append(f"a reader that followed {path.name}: {type(error).__name__}: {error}")

    def run(self, kills: int, durability: str, mode: str, seconds_max: float = 0.25, progress: bool = False) -> None:
        """Kill so many writers, beginning a new store whenever the old one has grown long."""
        done = 0
        while done < kills and not self.verdict.violations:
            self.verdict.stores += 1
            path = self._folder / f"{durability}-{mode}-{self.verdict.stores}.aeon"
            done += (self._stream if mode == "stream" else self._threads)(path, kills - done, durability, seconds_max)
            if not self.verdict.violations:
                shutil.rmtree(path, ignore_errors=True)
            if progress:
                print(f"{durability} {mode}: {done} of {kills} kills; {self.verdict}", file=sys.stderr, flush=True)

    def _seconds(self, most: float) -> float:
        """How long a writer lives: often only for moments, so that opening is hit too."""
        return self._random.uniform(0, 0.02 if self._random.random() < 0.25 else most)

    def _stream(self, path: Path, kills: int, durability: str, seconds_max: float) -> int:
        verdict, seed = self.verdict, self._random.randrange(1 << 30)
        stream, acknowledged = Stream(seed), 0
        for kill in range(1, kills + 1):
            heard = self._live_and_die(
                "stream", path, seed, durability, self._seconds(seconds_max), follow=kill % 4 == 2
            )
            verdict.kills += 1
            begun = acknowledged
            for words in heard:
                if words[0] == "begun":
                    begun = max(begun, int(words[1]))
                elif words[0] == "done":
                    acknowledged = int(words[1])
                elif words[0] == "failed":
                    verdict.violations.append(f"{path.name}, seed {seed}: the writer {' '.join(words)}")
            verdict.kills_before_open += not any(words[0] == "opened" for words in heard)
            try:
                with aeon.open(path, DIM, durability="normal", **_SETTINGS) as store:  # type: ignore[arg-type]
                    lsn = store.lsn
                    assert acknowledged <= lsn <= begun, (
                        f"{lsn} commits, not {acknowledged} to {begun}; {store.recovery}"
                    )
                    wrong = difference(store, stream.state_at(lsn))
                    assert not wrong, f"at LSN {lsn}: {wrong}; {store.recovery}"
                    report = store.check()
                    assert report.ok, f"check found {report.problems}"
                    verdict.torn_tails += bool(store.recovery.bytes_dropped)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                verdict.violations.append(f"{path.name}, seed {seed}, kill {kill}: {type(error).__name__}: {error}")
                return kill
            verdict.extra += lsn - acknowledged
            acknowledged = lsn
            if lsn > _COMMITS_MAX:
                break
        verdict.acknowledged += acknowledged
        return kill

    def _threads(self, path: Path, kills: int, durability: str, seconds_max: float) -> int:
        verdict = self.verdict
        begun: set[str] = set()
        done: dict[int, str] = {}
        kept = 0
        for kill in range(1, kills + 1):
            heard = self._live_and_die(
                "threads", path, kill, durability, self._seconds(seconds_max), follow=kill % 4 == 2
            )
            verdict.kills += 1
            for words in heard:
                if words[0] == "begun":
                    begun.add(thread_text(*map(int, words[1:4])))
                elif words[0] == "done":
                    done[int(words[4])] = thread_text(*map(int, words[1:4]))
                elif words[0] == "failed":
                    verdict.violations.append(f"{path.name}: the writer {' '.join(words)}")
            verdict.kills_before_open += not any(words[0] == "opened" for words in heard)
            try:
                with aeon.open(path, DIM, durability="normal", **_SETTINGS) as store:  # type: ignore[arg-type]
                    kept = len(store)
                    self._judge_threads(store, begun, done)
                    report = store.check()
                    assert report.ok, f"check found {report.problems}"
                    verdict.torn_tails += bool(store.recovery.bytes_dropped)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                verdict.violations.append(f"{path.name}, kill {kill}: {type(error).__name__}: {error}")
                return kill
            if len(done) > 3 * _COMMITS_MAX:
                break
        verdict.acknowledged += len(done)
        verdict.extra += kept - len(done)
        return kill

    @staticmethod
    def _judge_threads(store: aeon.Store, begun: set[str], done: dict[int, str]) -> None:
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
        found = {int(id_) for id_ in store.atlas.search([1.0] * DIM, len(texts) + 3, exact=True)[0][0] if id_}
        assert found == set(texts), f"vector search reaches {len(found)} of {len(texts)}"


def main(arguments: list[str] | None = None) -> int:
    """Run a torture; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.torture", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--path", default="", help="folder on the disk to test; default: the system's temporary folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.serve:
        serve()
        return 0
    with tempfile.TemporaryDirectory(dir=chosen.path or None) as folder, short_texts_inline():
        with Torturer(Path(folder), chosen.seed) as torturer:
            share = -(-chosen.kills // 4)
            for durability, mode in itertools.product(("full", "normal"), ("stream", "threads")):
                torturer.run(share, durability, mode, seconds_max=0.5, progress=True)
        verdict = torturer.verdict
    print(verdict)
    print("NOTHING WAS LOST" if not verdict.violations else "FAILED")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
