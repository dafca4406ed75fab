"""`aeon demo`: seven weeks of somebody's life, remembered, asked about, and carried through a crash.

Act one and two use the public API as anybody would. Act three starts a second process that writes to the store, kills
it in the middle of its work, and writes half a record behind its last one, as a power cut would leave it. Act four
opens the store again and compares every acknowledged turn with what was said.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from aeon.cli.arguments import Arguments
from aeon.cli.terminal import Terminal, printable, shorten, wrap
from aeon.cli.values import CommandError, show_count
from aeon.files import OsFileSystem, read_whole
from aeon.format import FRAME, SEGMENT_HEADER, segment_name
from aeon.manifest import load
from aeon.opening import open_store
from aeon.recovery import Recovery, read_engine
from aeon.results import Hit, Memory
from aeon.store import Store
from aeon.wal import SegmentReader, decode_segment_header

Turn = dict[str, Any]

K = 5  # hits a question; the evidence of every question is among them
KILL_AFTER = 120  # acknowledged turns, and some more at random
_PATIENCE_S = 30.0
_SECOND_SESSION = "told again by a second process"


def demo(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon demo`."""
    begin = time.perf_counter()
    with _place(arguments.keep) as path:
        show = _Show(terminal, path, kept=arguments.keep is not None)
        turns, questions = read_lines("conversation.jsonl"), read_lines("questions.jsonl")
        show.prologue()
        with open_store(path) as store:
            told = _remember(store, turns)
            show.remembered(turns, told, store.stats().disk_bytes)
            answers = [_ask(store, question) for question in questions]
            show.answers(answers, turns)
        crash = _crash(path)
        show.crashed(crash)
        recovered = _recover(path, turns, crash)
        show.recovered(recovered, crash, len(turns))
        show.epilogue(time.perf_counter() - begin)
    unanswered = [answer for answer in answers if answer.rank is None]
    return 0 if recovered.is_whole and not unanswered else 1


@contextmanager
def _place(keep: str | None) -> Iterator[str]:
    """Where the demo's store stands: in a directory that is removed afterwards, or where the caller wants it."""
    if keep is not None:
        if os.path.lexists(keep):
            raise CommandError(f"{keep} is there already: the demo makes a store of its own")
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="aeon-demo-") as directory:
        yield str(Path(directory) / "demo.aeon")


def read_lines(name: str) -> list[dict[str, Any]]:
    """The objects of one of the demo's files."""
    text = resources.files("aeon.demo_data").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


# -- act one and two: remember and recall -------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """How the conversation was written."""

    sessions: int
    commits: int
    seconds: float


@dataclass(frozen=True)
class Answer:
    """A question and what recall found: `rank` (from 1) of the first hit that holds the answer."""

    question: str
    expected: str
    note: str
    hits: Sequence[Hit]
    evidence: Sequence[int]
    rank: int | None
    milliseconds: float

    @property
    def has_changed(self) -> bool:
        """Whether the fact had other values before."""
        return "newest" in self.note

    def holds(self, memory: Memory) -> bool:
        """Whether a memory of the demo holds the answer; ids follow the lines of the conversation."""
        return memory.id - 1 in self.evidence


def _remember(store: Store, turns: Sequence[Turn]) -> Told:
    """Write the conversation, a session a commit."""
    begin = time.perf_counter()
    commits = 0
    for session, group in groupby(turns, key=lambda turn: str(turn["session"])):
        said = list(group)
        store.remember_many(
            [turn["text"] for turn in said],
            session=session,
            role=[turn["role"] for turn in said],
            timestamps=[turn["timestamp"] for turn in said],
            metadata=[turn.get("metadata") for turn in said],
        )
        commits += 1
    return Told(len(store.sessions()), commits, time.perf_counter() - begin)


def _ask(store: Store, question: dict[str, Any]) -> Answer:
    begin = time.perf_counter()
    hits = store.recall(question["question"], K)
    milliseconds = (time.perf_counter() - begin) * 1e3
    ranks = [rank for rank, hit in enumerate(hits, 1) if hit.id - 1 in question["evidence"]]
    return Answer(
        question["question"],
        question["answer"],
        question["note"],
        hits,
        question["evidence"],
        ranks[0] if ranks else None,
        milliseconds,
    )


# -- act three: a crash -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crash:
    """What was known of the second process when it died.

    acknowledged : (id, line of the conversation) of every turn it had reported. torn_bytes : length of the half record.
    """

    pid: int
    acknowledged: Sequence[tuple[int, int]]
    seconds: float
    torn_bytes: int


def write_until_killed(path: str) -> None:
    """The second process: remember turn after turn, and report each once it is on disk. Never returns."""
    turns = read_lines("conversation.jsonl")
    with open_store(path, create=False) as store:
        while True:
            for line, turn in enumerate(turns):
                id_ = store.remember(
                    turn["text"], session=_SECOND_SESSION, role=turn["role"], timestamp=turn["timestamp"]
                )
                sys.stdout.write(f"{id_} {line}\n")
                sys.stdout.flush()


def _crash(path: str) -> Crash:
    """Start the second process, kill it in the middle of its work, and leave half a record behind."""
    begin = time.perf_counter()
    wanted = KILL_AFTER + random.randrange(KILL_AFTER)
    here = str(Path(__file__).resolve().parents[2])  # so that the child finds this very package
    inherited = os.environ.get("PYTHONPATH")
    writer = subprocess.Popen(
        [sys.executable, "-c", "import sys; from aeon.cli import demo; demo.write_until_killed(sys.argv[1])", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (here, inherited)))},
    )
    assert writer.stdout is not None and writer.stderr is not None
    reported: list[bytes] = []
    try:
        for line in writer.stdout:
            reported.append(line)
            if len(reported) >= wanted or time.perf_counter() - begin > _PATIENCE_S:
                break
        else:
            last = writer.stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise CommandError(f"the demo's second process ended by itself: {last or 'it said nothing'}")
        time.sleep(random.random() * 0.004)  # about one commit: anywhere within the next one
    finally:
        writer.kill()  # SIGKILL, or TerminateProcess: it gets no chance to say goodbye
        rest = writer.stdout.read()
        writer.wait()
        writer.stdout.close()
        writer.stderr.close()
    # Whole lines only: an acknowledgement that was cut off was not received.
    reported += [line for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    acknowledged = []
    for line in reported:
        id_, number = line.split()
        acknowledged.append((int(id_), int(number)))
    return Crash(writer.pid, acknowledged, time.perf_counter() - begin, _tear(path))


def _tear(path: str) -> int:
    """Write half a record behind the last one of the log; return its length."""
    files = OsFileSystem()
    _, replayed = read_engine(files, path)
    position = replayed.position
    if replayed.torn is not None and replayed.torn.bytes_dropped:
        return replayed.torn.bytes_dropped  # the kill has torn one itself
    segment = f"{path}/wal/{segment_name(position.segment)}"
    data = memoryview(read_whole(files, segment))
    header = decode_segment_header(
        bytes(data[: SEGMENT_HEADER.size]), segment, load(files, path).uuid, position.segment
    )
    reader = SegmentReader(data, segment, header, lsn=header.first_lsn, offset=SEGMENT_HEADER.size, is_last=True)
    last = list(reader)[-1]
    # Behind the log are zeros, and a short text's vector may end in zeros: to leave those out would tear nothing.
    payload = bytes(last.payload).rstrip(b"\0")
    half = bytes(data[last.offset : last.offset + FRAME.size + len(payload) // 2])
    file = files.open(segment, writable=True)
    try:
        file.pwrite(half, position.offset)
        file.fsync()
    finally:
        file.close()
    return len(half)


# -- act four: recovery -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recovered:
    """What was found after the crash. `unreported` turns were on disk, though nobody had been told."""

    recovery: Recovery
    open_milliseconds: float
    found: int
    acknowledged: int
    from_before: int
    unreported: int
    expected_from_before: int
    is_in_order: bool
    problems: Sequence[str]
    verified: int
    stray: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is lost, changed, out of order or invented."""
        return (
            self.found == self.acknowledged
            and self.from_before == self.expected_from_before
            and self.is_in_order
            and not self.problems
            and not self.stray
        )


def _recover(path: str, turns: Sequence[Turn], crash: Crash) -> Recovered:
    begin = time.perf_counter()
    with open_store(path, create=False) as store:
        milliseconds = (time.perf_counter() - begin) * 1e3
        before = sum(_is_turn(store.get(line + 1), turn, turn["session"]) for line, turn in enumerate(turns))
        found = sum(_is_turn(store.get(id_), turns[line], _SECOND_SESSION) for id_, line in crash.acknowledged)
        again = store.history(_SECOND_SESSION, limit=None)
        is_in_order = [memory.id for memory in again][: len(crash.acknowledged)] == [
            id_ for id_, _ in crash.acknowledged
        ]
        surplus = again[len(crash.acknowledged) :]
        whole = sum(
            _is_turn(memory, turns[(len(crash.acknowledged) + n) % len(turns)], _SECOND_SESSION)
            for n, memory in enumerate(surplus)
        )
        stray = len(store) - len(turns) - len(again) + len(surplus) - whole
        store.checkpoint()  # so that check has a generation to verify, and not the log alone
        report = store.check()
        return Recovered(
            store.recovery,
            milliseconds,
            found,
            len(crash.acknowledged),
            before,
            whole,
            len(turns),
            is_in_order,
            [f"{problem.path}, offset {problem.offset}: {problem.message}" for problem in report.problems],
            report.counts.get("events", 0),
            stray,
        )


def _is_turn(memory: Memory, turn: Turn, session: str) -> bool:
    """Whether a memory is what was said, with its vector."""
    said = (turn["text"], turn["role"], turn["timestamp"], session)
    return (memory.text, memory.role, memory.timestamp, memory.session) == said and memory.vector is not None


# -- telling it ---------------------------------------------------------------------------------------------------


class _Show:
    """Tells the story while it happens; with --json, the facts at its end."""

    def __init__(self, terminal: Terminal, path: str, *, kept: bool) -> None:
        self._terminal = terminal
        self._path = path
        self._kept = kept
        self._facts: dict[str, Any] = {"store": path if kept else None}

    def _say(self, text: str, *, style: str = "", indent: int = 0) -> None:
        if not self._terminal.as_json:
            self._terminal.text(text, style=style, indent=indent, fill=True)
            self._terminal.flush()

    def _rule(self, title: str) -> None:
        if not self._terminal.as_json:
            self._terminal.rule(title)

    def _mark(self, good: bool, text: str) -> None:
        if not self._terminal.as_json:
            mark = self._terminal.styled("✓", "good") if good else self._terminal.styled("✗", "bad")
            self._terminal.line(f"  {mark} {text}")

    def prologue(self) -> None:
        self._say("")
        self._say(
            "Tess is moving from Leipzig to Trieste, with a dog, a sofa, a bug and a secret. For seven weeks she has "
            "talked to an assistant that keeps every turn in aeon. Here it remembers them, answers questions about "
            "them, is killed while it writes, and shows that it has lost nothing."
        )

    def remembered(self, turns: Sequence[Turn], told: Told, disk_bytes: int) -> None:
        self._facts["remembered"] = {"turns": len(turns), **asdict(told), "disk_bytes": disk_bytes}
        first, last = (datetime.fromtimestamp(turns[n]["timestamp"] / 1e6, timezone.utc) for n in (0, -1))
        self._rule("Remember")
        self._say(
            f"{len(turns)} turns of {told.sessions} conversations, {first.day} {first:%B} to {last.day} {last:%B %Y}: "
            f"remembered in {told.seconds * 1e3:.0f} ms, in {told.commits} commits. Each was on the disk when its "
            "call returned. The vectors are made by the built-in embedder: no model, no download, no network."
        )

    def answers(self, answers: Sequence[Answer], turns: Sequence[Turn]) -> None:
        median = statistics.median(answer.milliseconds for answer in answers)
        self._facts["questions"] = [
            {
                "question": answer.question,
                "expected": answer.expected,
                "rank": answer.rank,
                "milliseconds": round(answer.milliseconds, 3),
                "hits": [{"holds_answer": answer.holds(hit), **hit.to_dict()} for hit in answer.hits],
            }
            for answer in answers
        ]
        if self._terminal.as_json:
            return
        self._rule("Recall: things that changed")
        self._say(
            "Facts do not hold still. Of the best hits the newest stands first; what was true before is kept, too. "
            "A tick marks a turn that holds the answer."
        )
        for answer in answers:
            if answer.has_changed:
                self._changed(answer)
        self._rule("Recall: things said once")
        for answer in answers:
            if not answer.has_changed:
                self._said_once(answer)
        found = sum(answer.rank is not None for answer in answers)
        first = sum(answer.rank == 1 for answer in answers)
        self._say("")
        self._say(
            f"{found} of {len(answers)} answers found among the {K} best of {len(turns)} turns, {first} of them "
            f"on top; {median:.1f} ms a question."
        )

    def _question(self, answer: Answer) -> None:
        self._say("")
        self._say(answer.question, style="bold")

    def _changed(self, answer: Answer) -> None:
        """The first turn that answers and the two best besides it, newest first."""
        self._question(answer)
        best = [hit for hit in answer.hits if answer.holds(hit)][:1]
        others = [hit for hit in answer.hits if not answer.holds(hit)][: 3 - len(best)]
        for hit in sorted([*best, *others], key=lambda hit: -hit.timestamp):
            self._hit(hit, answer.holds(hit))
        self._answer(answer)

    def _said_once(self, answer: Answer) -> None:
        """The hits down to the first that answers."""
        self._question(answer)
        for hit in answer.hits[: answer.rank or 1]:
            self._hit(hit, answer.holds(hit))
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._say(f"→ {answer.expected}", indent=4, style="good")

    def _hit(self, hit: Hit, holds: bool) -> None:
        """One hit: what answers is shown whole, the others on one line."""
        terminal = self._terminal
        head = f"{hit.score:.2f}  {hit.session:<20} {hit.time:%H:%M}"
        speaker = "Tess" if hit.role == "user" else hit.role
        text, room = printable(f"{speaker}: {hit.text}"), terminal.width - len(head) - 6
        lines = wrap(text, room) if holds else [shorten(text, room)]
        mark = terminal.styled("✓", "good") if holds else " "
        terminal.line(f"  {mark} {terminal.styled(head, 'dim')}  {terminal.styled(lines[0], '' if holds else 'dim')}")
        for line in lines[1:]:
            terminal.line(" " * (len(head) + 6) + line)

    def crashed(self, crash: Crash) -> None:
        self._facts["crash"] = {
            "pid": crash.pid,
            "acknowledged": len(crash.acknowledged),
            "seconds": round(crash.seconds, 3),
            "torn_bytes": crash.torn_bytes,
        }
        self._rule("Crash")
        self._say(
            f"A second process opened the store and told the story again, a commit a turn. Process {crash.pid} was "
            f"killed at its work, without a warning, {crash.seconds:.1f} s after its start. It had acknowledged "
            f"{len(crash.acknowledged)} turns."
        )
        self._say(
            "A kill rarely tears a write in two. A power cut does; so half a record "
            "was put behind the last one by hand."
        )

    def recovered(self, recovered: Recovered, crash: Crash, turns: int) -> None:
        recovery = recovered.recovery
        self._facts["recovered"] = {
            **asdict(recovery),
            "open_milliseconds": round(recovered.open_milliseconds, 3),
            "found": recovered.found,
            "acknowledged": recovered.acknowledged,
            "unreported": recovered.unreported,
            "from_before": recovered.from_before,
            "in_order": recovered.is_in_order,
            "stray": recovered.stray,
            "problems": list(recovered.problems),
        }
        self._facts["whole"] = recovered.is_whole
        self._rule("Recover")
        self._say(
            f"Opened again in {recovered.open_milliseconds:.0f} ms: {recovery.commits_replayed} commits replayed, "
            f"{recovery.memories_replayed} memories in them; {recovery.bytes_dropped} bytes dropped, "
            f"because {recovery.reason or 'nothing was torn'}."
        )
        found, wanted = recovered.found, recovered.acknowledged
        self._mark(
            found == wanted and recovered.is_in_order,
            f"{found} of {wanted} acknowledged turns are there: text, vector, time and order",
        )
        self._mark(
            recovered.from_before == turns, f"{recovered.from_before} of {turns} turns from before the crash are there"
        )
        if recovered.unreported:
            self._mark(True, f"{recovered.unreported} more was on the disk, killed before it could say so")
        self._mark(recovered.stray == 0, f"{recovered.stray or 'nothing'} is there that nobody had said")
        self._mark(
            not recovered.problems,
            f"check: {show_count(len(recovered.problems), 'problem')} in {recovered.verified} events",
        )
        for problem in recovered.problems:
            self._say(problem, indent=4)

    def epilogue(self, seconds: float) -> None:
        self._facts["seconds"] = round(seconds, 3)
        if self._terminal.as_json:
            self._terminal.emit(self._facts)
            return
        self._rule("Your turn")
        if self._kept:
            self._say(f"The store is yours: {self._path}", indent=2)
            self._say("")
            commands = [
                f'aeon recall {self._path} "what is the dog called?"',
                f"aeon history {self._path} 2026-04-19-morning",
                f"aeon inspect {self._path}",
            ]
        else:
            commands = [
                'aeon remember agent.aeon "I keep my keys in the blue bowl."',
                'aeon recall agent.aeon "where are my keys?"',
                "aeon demo --keep demo.aeon    (this store, to look around in)",
            ]
        for command in commands:
            self._say(command, indent=2)
        self._say("")
        self._say(f"All of it took {seconds:.1f} s.", style="dim")
