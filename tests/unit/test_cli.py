"""The command line, called in process: every command, --json, exit codes, and every mistake told in one line."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.cli import main

ROOT = Path(aeon.__file__).resolve().parents[1]


class Result:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in err and "a defect in aeon" not in err, err

    @property
    def json(self) -> Any:
        """The one document printed."""
        (line,) = self.lines
        return line

    @property
    def lines(self) -> list[Any]:
        """All documents printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def refused(self, *words: str, code: int = 1) -> None:
        """Assert a refusal: the exit code, nothing on stdout, and one line on stderr with these words."""
        assert (self.code, self.out) == (code, "")
        last = self.err.strip().splitlines()[-1]
        assert last.startswith("aeon: " if code == 1 else "aeon"), self.err
        if code == 1:
            assert len([line for line in self.err.splitlines() if "made the store" not in line]) == 1, self.err
        for word in words:
            assert word in last, last


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with three sessions, an upsert and a forgotten memory."""
    path = tmp_path / "agent.aeon"
    with aeon.open(path) as made:
        made.remember(
            "Gravy is a bloodhound.", session="pets", metadata={"topic": "dog"}, timestamp=1_772_434_081_000_000
        )
        made.remember("The sofa is called Gerald.", session="flat", role="assistant", namespace=("home", "things"))
        made.remember("We meet at nine.", session="work", key="stand-up")
        made.remember("We meet at ten past ten.", session="work", key="stand-up")
        made.forget(made.remember("A secret.", session="pets"))
    return path


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def texts(path: Path, session: str) -> list[str]:
    with aeon.open(path, read_only=True) as opened:
        return [memory.text for memory in opened.history(session, limit=None)]


# -- the outside --------------------------------------------------------------------------------------------------

READING = "recall history get sessions stats export check inspect".split()
COMMANDS = [*READING, *"demo remember forget ingest import checkpoint compact warmup".split()]


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help")
    assert shown.code == 0
    for command in COMMANDS:
        assert f"\n    {command} " in shown.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(run: Run, command: str) -> None:
    shown = run(command, "--help")
    assert shown.code == 0
    assert "--json" in shown.out and f"example:\n  aeon {command}" in shown.out


def test_version(run: Run) -> None:
    assert run("--version").out == f"aeon {aeon.__version__}\n"


def test_no_command_is_wrong_usage(run: Run) -> None:
    shown = run()
    assert shown.code == 2 and "usage: aeon" in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["recall", "agent.aeon"],
        ["recall", "agent.aeon", "dog", "-k", "0"],
        ["recall", "agent.aeon", "dog", "-k", "many"],
        ["recall", "agent.aeon", "dog", "--where", "topic=dog"],
        ["recall", "agent.aeon", "dog", "--where", "[1]"],
        ["recall", "agent.aeon", "dog", "--where", "[" * 100_000],
        ["recall", "agent.aeon", "dog", "--since", "yesterday"],
        ["recall", "agent.aeon", "dog", "--role", "nobody"],
        ["remember", "agent.aeon", "x", "--metadata", "{"],
        ["remember", "agent.aeon", "x", "--vector", '["a"]'],
        ["get", "agent.aeon", "first"],
        ["forget", "agent.aeon", "-1"],
        ["inspect", "MANIFEST", "--offset", "-5"],
    ],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    run(*arguments).refused(code=2)


def test_options_may_stand_between_arguments(run: Run, store: Path) -> None:
    assert run("recall", store, "-k", 1, "dog", "--json").json["id"] == 1
    assert run("forget", store, "--dry-run", 1, 2).out == "would forget 2 memories\n"


@pytest.mark.parametrize(
    "command", ["recall", "history", "get", "export", "sessions", "stats", "check", "checkpoint", "compact", "forget"]
)
def test_a_store_that_is_not_there(run: Run, tmp_path: Path, command: str) -> None:
    rest = {"recall": ["dog"], "history": ["pets"], "get": [1], "forget": [1]}.get(command, [])
    run(command, tmp_path / "none.aeon", *rest).refused("no aeon store here")
    assert list(tmp_path.iterdir()) == []
    run(command, tmp_path, *rest).refused("no aeon store here")
    file = write(tmp_path / "file", "text")
    run(command, file, *rest).refused(str(file))


def test_it_does_not_import_numba() -> None:
    code = "import sys; from aeon.cli import main; main(['--help']); assert not {'numba', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_python_dash_m() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "aeon", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"aeon {aeon.__version__}\n"


def test_a_reader_that_stops_reading(store: Path) -> None:
    with aeon.open(store) as opened:
        opened.remember_many([f"line {n} {'x' * 1000}" for n in range(500)])
    command = [sys.executable, "-m", "aeon", "export", str(store)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_defect_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops\nmore")

    monkeypatch.setattr("aeon.cli.reading.open_to_read", broken)
    assert main(["stats", str(store)]) == 1
    assert capsys.readouterr().err.startswith("aeon: a defect in aeon: ZeroDivisionError: oops more (")


def test_ctrl_c_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aeon.cli.reading.open_to_read", interrupted)
    shown = run("stats", store)
    assert (shown.code, shown.out, shown.err) == (130, "", "")


def test_out_of_disk_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("aeon.cli.reading.open_to_read", full)
    run("stats", store).refused("somewhere: No space left on device")


# -- remember, recall, history, get -------------------------------------------------------------------------------


def test_remember_makes_the_store_and_recall_finds_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.aeon"
    first = run("remember", path, "Tess moved to Trieste.", "--session", "monday", "--metadata", '{"n": 1}')
    assert (first.code, first.out) == (0, "remembered as #1\n")
    assert "made the store" in first.err
    assert (
        run(
            "remember",
            path,
            "-",
            stdin="Gravy schläft.\n".encode(),
        ).out
        == "remembered as #2\n"
    )
    hit = run("recall", path, "where is Trieste?", "-k", 1, "--json").json
    assert (hit["id"], hit["session"], hit["metadata"]) == (1, "monday", {"n": 1})
    assert run("recall", path, "-", "-k", 1, "--json", stdin="schläft".encode()).json["text"] == "Gravy schläft."


def test_remember_takes_every_field(run: Run, store: Path) -> None:
    id_ = run(
        "remember",
        store,
        "All of it.",
        "--session",
        "s",
        "--role",
        "tool",
        "--namespace",
        "a/b",
        "--key",
        "k",
        "--json",
        "--metadata",
        '{"deep": {"er": [1, null]}}',
        "--timestamp",
        "2026-03-02T08:15:00+01:00",
    ).json["id"]
    found = run("get", store, id_, "--json").json
    assert found["namespace"] == ["a", "b"] and found["key"] == "k" and found["role"] == "tool"
    assert found["metadata"] == {"deep": {"er": [1, None]}} and found["timestamp"] == 1_772_435_700_000_000


@pytest.mark.parametrize("text", ["", "  ", "a\udcff"])
def test_remember_refuses_what_is_no_text(run: Run, tmp_path: Path, text: str) -> None:
    run("remember", tmp_path / "new.aeon", text).refused()
    assert not (tmp_path / "new.aeon").exists()


def test_stdin_that_is_not_utf8(run: Run, store: Path) -> None:
    run("remember", store, "-", stdin=b"caf\xe9").refused("not UTF-8", "byte 3 is 0xe9")


def test_recall_filters(run: Run, store: Path) -> None:
    def ids(*options: object) -> list[int]:
        return sorted(hit["id"] for hit in run("recall", store, "what", "--json", *options).lines)

    assert ids() == [1, 2, 4]
    assert ids("--session", "pets") == [1]
    assert ids("--session", "pets", "--session", "work") == [1, 4]
    assert ids("--role", "assistant") == ids("--namespace", "home") == [2]
    assert ids("--where", '{"topic": "dog"}') == ids("--until", "2026-03-03") == [1]
    assert ids("--since", "2026-03-03") == [2, 4]
    run("recall", store, "what", "--where", '{"colour": 1}').refused("'colour'")
    run("recall", store, "what", "--where", '{"topic": {"$near": 1}}').refused("$near")


def test_recall_for_people(run: Run, store: Path) -> None:
    shown = run("recall", store, "bloodhound", "-k", 1)
    assert shown.out.splitlines()[0].split()[2:] == ["2026-03-02", "06:48", "pets", "user", "#1"]
    assert shown.out.splitlines()[1] == "    Gravy is a bloodhound."
    assert run("recall", store, "dog", "--session", "nobody").err == "aeon: nothing found\n"


def test_escape_sequences_do_not_reach_the_terminal(run: Run, store: Path) -> None:
    run("remember", store, "red \x1b[31m alert \u202e\x07", "--session", "bad\x1b[2J")
    for command in (
        ["recall", store, "alert"],
        ["history", store, "bad\x1b[2J"],
        ["sessions", store],
        ["get", store, 6],
    ):
        shown = run(*command).out
        assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown and "\\x1b[" in shown


def test_history(run: Run, store: Path) -> None:
    assert [turn["id"] for turn in run("history", store, "work", "--json").lines] == [4]
    assert "We meet at ten past ten." in run("history", store, "work").out
    with aeon.open(store) as opened:
        opened.remember_many([f"turn {n}" for n in range(60)], session="long")
    assert len(run("history", store, "long", "--json").lines) == 50
    assert len(run("history", store, "long", "--json", "--limit", 0).lines) == 60
    before = run("history", store, "long", "--json", "--limit", 2, "--before", 10).lines
    assert [turn["id"] for turn in before] == [8, 9]
    run("history", store, "wrok").refused("no session 'wrok'", "did you mean 'work'")


def test_get_reads_versions_that_were_replaced(run: Run, store: Path) -> None:
    assert "We meet at nine." in run("get", store, 3).out
    run("get", store, 5).refused("5")
    run("get", store, 500).refused("500")


def test_sessions_and_stats(run: Run, store: Path, tmp_path: Path) -> None:
    assert {line["name"]: line["count"] for line in run("sessions", store, "--json").lines} == {
        "pets": 1,
        "flat": 1,
        "work": 1,
    }
    assert run("sessions", store).out.startswith("memories  newest (UTC)")
    figures = run("stats", store, "--json").json
    assert (figures["memories"], figures["events"], figures["keys"]) == (3, 5, 1)
    assert "2 more replaced or forgotten" in run("stats", store).out
    aeon.open(tmp_path / "empty.aeon").close()
    assert "the store is empty" in run("sessions", tmp_path / "empty.aeon").err


def test_reading_beside_a_writer(run: Run, store: Path) -> None:
    with aeon.open(store) as writer:
        writer.remember("Just now.", session="work")
        assert run("stats", store, "--json").json["memories"] == 4
        assert run("check", store).code == 0
        run("remember", store, "Me too.").refused("already open for writing by pid", str(os.getpid()))
        run("checkpoint", store).refused("already open for writing")


# -- forget, checkpoint, check, warmup ----------------------------------------------------------------------------


def test_forget(run: Run, store: Path) -> None:
    assert run("forget", store, 1, 2, "--json").json == {"forgotten": 2, "matching": 2}
    run("forget", store, 1).refused("1")
    run("forget", store).refused("forget what?")
    run("forget", store, 4, "--session", "work").refused("forget what?")
    run("forget", store, "--session", "work").refused("1 memory", "--yes")
    assert run("forget", store, "--session", "work", "--dry-run").out == "would forget 1 memory\n"
    assert texts(store, "work") == ["We meet at ten past ten."]
    assert run("forget", store, "--session", "work", "--yes").out == "forgot 1 memory\n"
    assert texts(store, "work") == []
    run("forget", store, "--where", '{"colour": 1}').refused("'colour'")


def test_checkpoint(run: Run, store: Path) -> None:
    assert run("checkpoint", store, "--json").json["generation"] == 1
    assert run("checkpoint", store).out == "nothing to do: generation 1 holds everything\n"


def test_compact(run: Run, store: Path) -> None:
    run("forget", store, "--session", "work", "--yes")
    before = run("compact", store, "--json").json
    assert (before["generation"], before["dropped"], before["purged"]) == (1, 3, False)
    assert "0 forgotten ones left out" in run("compact", store, "--purge").out
    assert not any(b"ten past ten" in path.read_bytes() for path in store.rglob("*") if path.is_file())


def test_check_finds_damage(run: Run, store: Path) -> None:
    whole = run("check", store, "--json").json
    assert whole["ok"] and whole["problems"] == []
    run("checkpoint", store)
    damaged = store / "gen-000001" / "blobs.arena"
    data = bytearray(damaged.read_bytes())
    data[100] ^= 1
    damaged.write_bytes(data)
    found = run("check", store, "--json")
    assert found.code == 1 and not found.json["ok"] and "blobs.arena" in found.json["problems"][0]["path"]
    shown = run("check", store)
    assert shown.code == 1 and "blobs.arena, offset" in shown.out and "found\n" in shown.err


def test_a_torn_tail_is_told(run: Run, store: Path) -> None:
    log = store / "wal" / "00000001.wal"
    data = log.read_bytes().rstrip(b"\0")
    log.write_bytes(data[:-3])
    shown = run("check", store)
    assert shown.code == 1 and "torn tail" in shown.out
    assert "recovered from a crash" in run("remember", store, "Go on.").err
    assert run("check", store).code == 0


def test_warmup(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr("aeon_native.warm_up.warm_up", lambda progress: [("dot_int8", 0.25)])
    assert run("warmup", "--json").json["kernels"] == [{"kernel": "dot_int8", "seconds": 0.25}]
    assert "dot_int8" in run("warmup").out

    def missing(progress: object) -> None:
        raise ImportError("no module named numba")

    monkeypatch.setattr("aeon_native.warm_up.warm_up", missing)
    run("warmup").refused("kernels cannot be compiled here")


def test_a_read_only_directory(run: Run, store: Path) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("permissions do not hold for this user")
    store.chmod(0o500)
    try:
        run("remember", store, "x").refused()
        assert run("stats", store).code == 0
    finally:
        store.chmod(0o700)


# -- ingest -------------------------------------------------------------------------------------------------------


def test_ingest_understands_common_shapes(run: Run, tmp_path: Path) -> None:
    path, source = tmp_path / "new.aeon", tmp_path / "chat.jsonl"
    write(
        source,
        {"text": "one", "role": "user", "session": "s", "timestamp": 1_772_434_081_023_957, "metadata": {"a": 1}},
        {"content": "two", "speaker": "SYSTEM", "dialogue": "s", "timestamp": "2026-03-02T06:48:01Z"},
        {"content": [{"type": "text", "text": "three"}, {"type": "image"}], "role": "human", "session_id": "s"},
        "",
        {"text": "four", "speaker": "Caroline", "session": 4, "dialogue": "s", "created_at": 1_772_434_081, "turn": 7},
        {"content": None, "role": "assistant", "session": "s", "tool_calls": []},
        {"text": "five", "role": "model", "session": 5, "timestamp": 1_772_434_081_023.5},
    )
    told = run("ingest", path, source, "--json").json
    assert (told["memories"], told["commits"], told["sessions"], told["empty"], told["last_line"]) == (5, 1, 2, 1, 7)
    found = run("history", path, "s", "--json").lines
    assert [(turn["text"].strip(), turn["role"]) for turn in found] == [
        ("one", "user"),
        ("two", "assistant"),
        ("three", "user"),
        ("four", "user"),
    ]
    assert [turn["metadata"] for turn in found] == [
        {"a": 1},
        {"speaker": "SYSTEM"},
        {"role": "human"},
        {"speaker": "Caroline", "session": 4, "turn": 7},
    ]
    assert found[0]["timestamp"] == 1_772_434_081_023_957 and found[1]["timestamp"] == 1_772_434_081_000_000
    assert found[3]["timestamp"] == 1_772_434_081_000_000
    five = run("history", path, "5", "--json").json
    assert five["role"] == "assistant" and five["timestamp"] == 1_772_434_081_023_500


def test_ingest_says_what_it_did(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "notes.jsonl", *({"text": f"note {n}"} for n in range(25)))
    shown = run("ingest", tmp_path / "new.aeon", source, "--batch", 10)
    assert shown.out.startswith("remembered 25 memories in 3 commits (") and shown.out.endswith(
        "the store has 1 session\n"
    )
    assert len(texts(tmp_path / "new.aeon", "notes")) == 25


def test_ingest_options(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.aeon"
    source = write(tmp_path / "a.jsonl", {"text": "x", "room": "kitchen", "session": "s"})
    run("ingest", path, source, "--session-field", "room")
    run("ingest", path, source, "--session", "mine", "--role", "tool", "--namespace", "a/b")
    run("ingest", path, source, "--session-field", "house").refused("line 1", "'house'", "nothing was kept")
    assert texts(path, "kitchen") == ["x"]
    mine = run("history", path, "mine", "--json").json
    assert (mine["role"], mine["namespace"], mine["metadata"]) == ("tool", ["a", "b"], {"room": "kitchen"})


def test_a_broken_line_stops_and_tells_where_to_go_on(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.aeon"
    source = write(tmp_path / "a.jsonl", {"text": "1"}, {"text": "2"}, {"text": "3"}, '{"text": ', {"text": "5"})
    run("ingest", path, source, "--batch", 2).refused("a.jsonl, line 4: not JSON", "3 memories", "--from-line 4")
    assert texts(path, "a") == ["1", "2", "3"]
    write(source, "", "", "", {"text": "4"}, {"text": "5"})
    assert run("ingest", path, source, "--from-line", 4).code == 0
    assert texts(path, "a") == ["1", "2", "3", "4", "5"]


BROKEN = [
    ('["list"]', "a JSON object is needed, not a list"),
    ("12", "not a number"),
    ('{"x": 1}', 'neither "text" nor "content" (it has x)'),
    ('{"text": 5}', '"text" is a number'),
    ('{"text": "a", "metadata": 3}', '"metadata" is a number'),
    ('{"text": "a", "timestamp": "soon"}', "not a time: 'soon'"),
    ('{"text": "a", "role": 3}', '"role" is a number'),
    ('{"text": "a", "vector": "###"}', '"vector"'),
    ('{"text": "a", "vector": [[1]]}', '"vector"'),
    ('{"text": "a \\ud800"}', "lone surrogate"),
    ('{"text": "a", "big": 123456789012345678901234567890}', "metadata.big"),
    ('{"text": "a", "session": "' + "s" * 2000 + '"}', "session has more than 1024 bytes"),
    ('{"text": "a", "x": ' + "[" * 50 + "]" * 50 + "}", "nested deeper"),
    ('{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
    ('{"text": "a", "n": ' + "9" * 5000 + "}", "line 2"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_every_kind_of_broken_line(run: Run, tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "new.aeon"
    source = write(tmp_path / "a.jsonl", {"text": "before"}, line, {"text": "behind"})
    run("ingest", path, source).refused("line 2: ", message, "1 memory, up to line 1, kept")
    assert texts(path, "a") == ["before"]
    skipped = run("ingest", path, source, "--skip-broken", "--json").json
    assert skipped["memories"] == 2 and [broken["line"] for broken in skipped["broken"]] == [2]
    assert texts(path, "a") == ["before", "before", "behind"]


def test_a_broken_first_line_makes_no_store(run: Run, tmp_path: Path) -> None:
    for line, message in BROKEN:
        run("ingest", tmp_path / "new.aeon", write(tmp_path / "a.jsonl", line)).refused(
            message.replace("line 2", "line 1")
        )
    assert not (tmp_path / "new.aeon").exists()


def test_bytes_that_are_not_utf8(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "ok"}\r\n{"text": "caf\xe9"}\n{"text": "ok"}')
    run("ingest", tmp_path / "new.aeon", source).refused(
        "line 2: not UTF-8: byte 14 of the line is 0xe9", "--from-line 2"
    )
    assert run("ingest", tmp_path / "b.aeon", source, "--skip-broken", "--json").json["memories"] == 2
    source.write_bytes(b"\x00\xff\x00\xff")
    run("ingest", tmp_path / "new.aeon", source).refused("binary data")


def test_ingest_text(run: Run, tmp_path: Path) -> None:
    path, source = tmp_path / "new.aeon", tmp_path / "diary.txt"
    source.write_text("\n\nDear diary,\ntoday it rained.\n\n\n  \nThe end.", "utf-8")
    assert run("ingest", path, source, "--json").json["memories"] == 2
    assert texts(path, "diary") == ["Dear diary,\ntoday it rained.", "The end."]
    run("ingest", path, source, "--session", "lines", "--split", "line")
    assert texts(path, "lines") == ["Dear diary,", "today it rained.", "The end."]
    source.write_bytes(b"first\nparagraph\n\nsecond \xff\n")
    run("ingest", path, source, "--session", "x").refused("line 4: not UTF-8", "1 memory", "--from-line 4")


def test_ingest_gzip_and_stdin(run: Run, tmp_path: Path) -> None:
    path, source = tmp_path / "new.aeon", tmp_path / "zipped.jsonl.gz"
    source.write_bytes(gzip.compress(b'{"text": "small"}\n'))
    assert run("ingest", path, source).code == 0
    assert texts(path, "zipped") == ["small"]
    assert run("ingest", path, "-", stdin=b' {"text": "a"}\n{"text": "b"}\n').code == 0
    assert run("ingest", path, "-", stdin=b"plain\n\ntext").code == 0
    assert run("ingest", path, "-", stdin=gzip.compress(b"packed")).code == 0
    assert texts(path, "stdin") == ["a", "b", "plain", "text", "packed"]
    source.write_bytes(gzip.compress(b'{"text": "small"}\n' * 100)[:-20])
    run("ingest", path, source).refused("gzipped file is damaged")


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.csv", "--format"), ("a.json", "jq -c"), ("none.jsonl", "No such file"), (".", "is a directory")],
)
def test_ingest_refuses_other_files(run: Run, tmp_path: Path, name: str, message: str) -> None:
    if name.startswith("a."):
        write(tmp_path / name, "[]")
    run("ingest", tmp_path / "new.aeon", tmp_path / name).refused(message)
    run("ingest", tmp_path / "new.aeon", write(tmp_path / "empty.jsonl")).refused("nothing to remember")
    assert not (tmp_path / "new.aeon").exists()


def test_ingest_of_callers_vectors(run: Run, tmp_path: Path, store: Path) -> None:
    path, source = tmp_path / "new.aeon", tmp_path / "v.jsonl"
    write(source, {"text": "x", "vector": [1, 0, 0]}, {"text": "y", "vector": [0, 1, 0]}, {"text": "z"})
    assert run("ingest", path, source).code == 0
    figures = run("stats", path, "--json").json
    assert (figures["dim"], figures["vectors"], figures["memories"], figures["embedder"]) == (3, 2, 3, "")
    assert run("recall", path, "[0, 2, 0]", "--vector", "-k", 1, "--json").json["text"] == "y"
    run("recall", path, "words").refused("pass a vector")
    run("recall", path, "words", "--vector").refused("JSON list of numbers")
    run("recall", path, "[1, 2]", "--vector").refused("3 dims")
    for wrong, message in (([1, 2], "3 dims"), ([0, 0, 0], "all zeros"), ([1e39, 0, 0], "NaN or infinity")):
        write(source, {"text": "a", "vector": [1, 1, 1]}, {"text": "b", "vector": wrong})
        run("ingest", path, source).refused("line 2", message, "1 memory")
    assert "without a vector" in run("remember", path, "text only").err
    assert run("remember", path, "with", "--vector", "[1, 1, 1]", "--json").json["vector"] is True
    run("remember", path, "with", "--vector", "[1, 1]").refused("3 dims")
    ignored = run("ingest", store, source)
    assert ignored.code == 0 and "vectors of the file are left out" in ignored.err
    run("remember", store, "with", "--vector", json.dumps([1] * 384)).refused("makes its vectors itself")


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "new.aeon"
    command = [sys.executable, "-m", "aeon", "ingest", str(path), "-", "--batch", "1"]
    pipe = subprocess.PIPE
    # A shell starts what runs in its background with SIGINT ignored, and whatever that starts inherits it.
    with subprocess.Popen(
        command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stderr is not None
        for n in range(20):
            process.stdin.write(b'{"text": "line %d"}\n' % n)
            process.stdin.flush()
        deadline = time.monotonic() + 30
        while not (path / "MANIFEST").exists() or len(texts(path, "stdin")) < 20:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        # Python loses a KeyboardInterrupt that strikes inside a finalizer (such as an import lock's): then press again.
        for _ in range(10):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break
        told = process.stderr.read().decode()
        assert process.wait(0) == 130
    assert told.splitlines()[1:] == ["aeon: interrupted; 20 memories, up to line 20, kept: go on with --from-line 21"]
    assert len(texts(path, "stdin")) == 20


# -- embedders ----------------------------------------------------------------------------------------------------

EMBEDDER = """
import numpy as np
class Embedder:
    name = "counting-letters"
    def __call__(self, texts):
        if any("explode" in text for text in texts):
            raise RuntimeError("boom")
        return np.array([[1.0 + text.count(letter) for letter in "aeiou"] for text in texts])
made = Embedder()
not_callable = 5
"""


@pytest.fixture
def embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "letters_for_test.py").write_text(EMBEDDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "letters_for_test", raising=False)
    return "letters_for_test:Embedder"


def test_an_embedder_of_ones_own(run: Run, tmp_path: Path, embedder: str, store: Path) -> None:
    path = tmp_path / "own.aeon"
    assert run("remember", path, "aaa", "--embed", embedder).code == 0
    assert run("ingest", path, write(tmp_path / "x.txt", "eee"), "--embed", "letters_for_test:made").code == 0
    assert run("stats", path, "--json").json["embedder"] == "counting-letters"
    assert run("recall", path, "eeee", "-k", 1, "--json", "--embed", embedder).json["text"] == "eee"
    run("remember", path, "aaa").refused("'counting-letters'", "--embed")
    run("ingest", path, tmp_path / "x.txt").refused("'counting-letters'", "--embed")
    run("recall", path, "aaa").refused("counting-letters")
    run("remember", path, "explode", "--embed", embedder).refused("the embedder", "RuntimeError: boom")
    run("remember", store, "aaa", "--embed", embedder).refused("aeon-hash-1")
    run("remember", path, "aaa", "--embed", "builtin").refused("counting-letters")


@pytest.mark.parametrize(
    "spec", ["letters", "nowhere_to_be_found:x", "letters_for_test:x", "letters_for_test:not_callable"]
)
def test_an_embedder_that_is_not_there(run: Run, store: Path, embedder: str, spec: str) -> None:
    run("recall", store, "x", "--embed", spec).refused("--embed")


# -- export and import --------------------------------------------------------------------------------------------


class Direction:
    """A vector that equals another one if both point the same way: INT8 codes are not quite of length 1."""

    def __init__(self, vector: Any) -> None:
        self._vector = np.asarray(vector) / np.linalg.norm(vector)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and float(self._vector @ other._vector) > 0.99999


def everything(path: Path) -> list[tuple[Any, ...]]:
    """All that an export keeps, in order, without ids."""
    with aeon.open(path, read_only=True) as opened:
        names = [session.name for session in opened.sessions()]
        memories = sorted(
            (memory for name in names for memory in opened.history(name, None)), key=lambda memory: memory.id
        )
        places = {memory.id: n for n, memory in enumerate(memories)}
        return [
            (
                memory.text,
                memory.session,
                memory.role,
                memory.timestamp,
                memory.namespace,
                memory.key,
                memory.metadata,
                places.get(memory.parent or 0),
                [places.get(ref) for ref in memory.refs],
                None if memory.vector is None else Direction(memory.vector),
            )
            for memory in memories
        ]


@pytest.mark.parametrize("vectors", [[], ["--vectors"], ["--vectors", "list"]])
def test_a_round_trip_keeps_everything(run: Run, store: Path, tmp_path: Path, vectors: Sequence[str]) -> None:
    with aeon.open(store) as opened:
        opened.forget(2)
        odd = {"raw": b"\x00\xff", "nan": float("inf"), "$base64": "plain", "deep": [{"$ext": None}], "ünï": "🦴"}
        first = opened.remember("Wind.\n\nAnd rain.", metadata=odd, session="ünï \x00", namespace=("a", "b"))
        reply = opened.remember("Yes.", parent=first, refs=[first, 1], role="assistant")
        opened.remember("No.", parent=reply, key="answer", timestamp=-5)
    file, copy = tmp_path / "out.jsonl", tmp_path / "copy.aeon"
    assert run("export", store, file, *vectors).out.startswith("wrote 5 memories to")
    if os.name != "nt":
        assert file.stat().st_mode & 0o777 == 0o600
    told = run("import", copy, file, "--json").json
    assert (told["memories"], told["first_id"], told["last_id"], told["links_dropped"]) == (5, 1, 5, 0)
    assert everything(copy) == everything(store)
    assert run("check", copy).code == 0
    again = run("import", copy, file)
    assert "their ids are new, #6 to #10" in again.out


def test_export_to_stdout(run: Run, store: Path, tmp_path: Path) -> None:
    header, *lines = run("export", store).lines
    assert header == {"aeon_export": 1, "memories": 3, "embedder": "aeon-hash-1", "dim": 384, "vectors": "none"}
    assert [line["id"] for line in lines] == [1, 2, 4]
    piped = run("export", store, "--vectors").out.encode()
    assert run("import", tmp_path / "copy.aeon", "-", stdin=piped).code == 0
    assert everything(tmp_path / "copy.aeon") == everything(store)


def test_export_does_not_replace_a_file(run: Run, store: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "out.jsonl", "precious")
    run("export", store, file).refused("--force")
    assert file.read_text() == "precious\n"
    assert run("export", store, file, "--force", "--json").json["memories"] == 3
    run("export", store, tmp_path / "no" / "out.jsonl").refused("No such file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.aeon", "out.jsonl"]


def test_links_to_what_was_forgotten(run: Run, store: Path, tmp_path: Path) -> None:
    with aeon.open(store) as opened:
        gone = opened.remember("gone")
        opened.remember("left", parent=gone, refs=[gone, 1])
        opened.forget(gone)
    run("export", store, tmp_path / "out.jsonl")
    shown = run("import", tmp_path / "copy.aeon", tmp_path / "out.jsonl")
    assert "2 links to memories that are not in the file left out" in shown.err


def test_an_export_moves_a_store_to_another_embedder(run: Run, store: Path, tmp_path: Path, embedder: str) -> None:
    run("export", store, tmp_path / "out.jsonl", "--vectors")
    assert run("import", tmp_path / "own.aeon", tmp_path / "out.jsonl", "--embed", embedder).code == 0
    assert run("stats", tmp_path / "own.aeon", "--json").json["dim"] == 5
    assert run("export", tmp_path / "own.aeon", tmp_path / "own.jsonl").code == 0
    run("import", tmp_path / "b.aeon", tmp_path / "own.jsonl").refused("counting-letters", "--vectors")
    assert not (tmp_path / "b.aeon").exists()
    assert run("import", tmp_path / "b.aeon", tmp_path / "own.jsonl", "--embed", "builtin").code == 0
    run("export", tmp_path / "own.aeon", tmp_path / "own.jsonl", "--force", "--vectors")
    assert run("import", tmp_path / "c.aeon", tmp_path / "own.jsonl").code == 0
    assert everything(tmp_path / "c.aeon") == everything(tmp_path / "own.aeon")
    run("import", tmp_path / "own.aeon", write(tmp_path / "x.jsonl", *run("export", store).lines)).refused("--embed")


def test_import_of_callers_vectors(run: Run, tmp_path: Path) -> None:
    with aeon.open(tmp_path / "a.aeon", dim=3) as opened:
        opened.remember("x", [1, 2, 2])
        opened.remember("no vector")
    run("export", tmp_path / "a.aeon", tmp_path / "with.jsonl", "--vectors")
    run("export", tmp_path / "a.aeon", tmp_path / "without.jsonl")
    assert run("import", tmp_path / "b.aeon", tmp_path / "with.jsonl").code == 0
    assert everything(tmp_path / "b.aeon") == everything(tmp_path / "a.aeon")
    run("import", tmp_path / "c.aeon", tmp_path / "without.jsonl").refused("--vectors")
    noted = run("import", tmp_path / "b.aeon", tmp_path / "without.jsonl")
    assert noted.code == 0 and "recall will not find these" in noted.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ({"aeon_export": 2}, "version 2"),
        ({"aeon_export": 1}, '"dim" or "embedder"'),
        ({"text": "a"}, "not a line of an export"),
        ({"text": "a", "session": "s", "role": "user", "timestamp": "now"}, "microseconds"),
        ({"text": "a", "session": "s", "role": "user", "timestamp": 1, "refs": ["x"]}, "not an id"),
        ({"text": "a", "session": "s", "role": "user", "timestamp": 1, "namespace": "x"}, '"namespace"'),
        ({"text": "a", "session": "s", "role": "user", "timestamp": 1, "metadata": {"$base64": "!"}}, '"metadata"'),
        ({"text": "a", "session": "s", "role": "user", "timestamp": 1, "metadata": {"$map": 5}}, '"metadata"'),
        ({"text": "a", "session": "s", "role": "user", "timestamp": 1 << 70}, "out of range"),
    ],
)
def test_import_of_other_files(run: Run, tmp_path: Path, line: object, message: str) -> None:
    run("import", tmp_path / "new.aeon", write(tmp_path / "x.jsonl", line)).refused("x.jsonl, line 1", message)


def test_import_of_a_file_that_is_cut_off(run: Run, store: Path, tmp_path: Path) -> None:
    run("export", store, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    write(tmp_path / "out.jsonl", *lines[:-1])
    run("import", tmp_path / "a.aeon", tmp_path / "out.jsonl").refused(
        "not whole", "3 memories", "2 of its memories are in"
    )
    write(tmp_path / "out.jsonl", *lines[:-1], lines[-1][:20])
    run("import", tmp_path / "b.aeon", tmp_path / "out.jsonl").refused("line 4", "2 of its memories are in")
    run("import", tmp_path / "c.aeon", write(tmp_path / "empty.jsonl")).refused("empty")
    run("ingest", tmp_path / "c.aeon", write(tmp_path / "out.jsonl", *lines)).refused("aeon import reads it")
    assert not (tmp_path / "c.aeon").exists()


# -- examples -----------------------------------------------------------------------------------------------------


def load_example(name: str) -> SimpleNamespace:
    path = ROOT / "examples" / f"{name}.py"
    names: dict[str, Any] = {"__name__": name, "__file__": str(path)}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    return SimpleNamespace(**names)


class FakeEncoder:
    def encode(self, texts: list[str], show_progress_bar: bool) -> np.ndarray:
        return np.array([[len(text), 1.0] for text in texts])

    def embed(self, texts: list[str]) -> Any:
        yield from self.encode(texts, False)


@pytest.mark.parametrize("name", ["sentence_transformers_embedder", "fastembed_embedder"])
def test_examples_of_local_models(name: str, tmp_path: Path) -> None:
    example = load_example(name)
    embed = example.Embedder(encoder=FakeEncoder())
    with aeon.open(tmp_path / "a.aeon", embed=embed) as opened:
        opened.remember_many(["a", "a longer text"])
        assert opened.recall("b", k=1)[0].text == "a"
        assert opened.stats().embedder == embed.name and example.MODEL in embed.name


def test_example_of_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load_example("openai_compatible")
    asked: list[Any] = []

    def answer(request: Any, timeout: float) -> io.BytesIO:
        body = json.loads(request.data)
        asked.append((request.full_url, request.headers.get("Authorization"), body["model"], len(body["input"])))
        rows = [{"index": n, "embedding": [len(text), 1.0]} for n, text in enumerate(body["input"])]
        return io.BytesIO(json.dumps({"data": rows[::-1]}).encode())

    monkeypatch.setattr("urllib.request.urlopen", answer)
    embed = example.Embedder("http://example.invalid/v1/", "small", "secret")
    with aeon.open(tmp_path / "a.aeon", embed=embed) as opened:
        opened.remember_many([f"{'x' * n}" for n in range(1, 201)])
        assert opened.recall("x" * 50, k=1)[0].text == "x" * 50
    assert asked[-3:-1] == [("http://example.invalid/v1/embeddings", "Bearer secret", "small", n) for n in (128, 72)]
