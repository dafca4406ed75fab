"""`aeon inspect`: every file of a store is described to its last byte, and a damaged one as far as it goes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import aeon
from aeon.cli import main
from aeon.format import LAYOUTS, FileKind
from aeon.generation_files import encode_header
from aeon_native import reference


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a generation, a log behind it, every kind of operation and a text by reference."""
    path = tmp_path / "agent.aeon"
    with aeon.open(path, checkpoint_log_bytes=0) as made:
        made.remember(
            "Gravy is a bloodhound.", session="pets", metadata={"topic": "dog"}, refs=[made.remember("First.")]
        )
        made.remember("We meet at nine.", key="stand-up")
        with made.transaction():
            made.remember("We meet at ten.", key="stand-up")
            made.link(2, [1, 3], "my own")
            made.archive(1)
            made.branch(2, "branch")
        made.recall("a meeting")
        made.trace.search("a meeting")
        made.checkpoint()
        made.remember("long " * 300_000, session="long")
        made.remember_many([f"turn {n}" for n in range(30)])
        made.forget([1, 2])
    return path


class Shown:
    """What `aeon inspect` said."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        capsys.readouterr()
        self.code = main(["inspect", *map(str, arguments)])
        self.out, self.err = capsys.readouterr()
        assert "defect" not in self.err and "Traceback" not in self.err, self.err

    @property
    def parts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def files_of(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def test_every_file_is_described_whole(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    seen = set()
    for path in files_of(store):
        shown = Shown(capsys, path, "--json", "--limit", 0)
        assert (shown.code, shown.err) == (0, "")
        parts = shown.parts
        assert not any(part["problem"] for part in parts)
        top = [part for part in parts if part["structure"] not in ("OP", "file")]
        at = 0
        for part in top:
            if part["structure"] in ("FRAME", "BLOB", "codes") and part["offset"] == 4096:
                at = 4096  # codes begin on a page
            assert part["offset"] == at, (path, part)
            at += part["bytes"]
        assert at == path.stat().st_size
        seen |= {part["structure"] for part in parts}
    # A BLOB_REF stands inside an OP, where a text would; a small store has no pages and no blocks.
    large = {"PAGES_HEADER", "CURVE_POINT", "PAGE", "TIME_BLOCKS_HEADER"}
    assert {layout.name for layout in LAYOUTS} - seen <= {"BLOB_REF"} | large


def test_fields_are_those_of_the_format(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    layouts = {layout.name: [field.name for field in layout.fields] for layout in LAYOUTS}
    for path in files_of(store):
        for part in Shown(capsys, path, "--json").parts:
            if part["structure"] in layouts:
                assert list(part["fields"]) == layouts[part["structure"]]
        shown = Shown(capsys, path, "--fields")
        assert shown.code == 0 and shown.out.startswith(str(path))


def test_the_log_is_decoded(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    log = store / "wal" / "00000002.wal"
    parts = Shown(capsys, log, "--json", "--limit", 0).parts
    operations = [part for part in parts if part["structure"] == "OP"]
    assert len(operations) == 32
    assert "blobs.arena" in operations[0]["decoded"]["text_at"] and operations[0]["decoded"]["session"] == "long"
    assert operations[1]["decoded"]["text"] == "turn 0" and operations[1]["decoded"]["vector"].startswith("int8[384]")
    assert operations[-1]["decoded"] == {"count": 2, "ids": [1, 2]}
    shown = Shown(capsys, log, "--limit", 2)
    assert "28 more operations" in shown.out and "--offset" in shown.err
    offset = shown.err.split("--offset ")[1].split()[0]
    assert [part["label"] for part in Shown(capsys, log, "--json", "--offset", offset).parts[1:3]] == [
        "LSN 7",
        "forget",
    ]


def test_paging(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    events = store / "gen-000001" / "events.arena"
    assert [part["label"] for part in Shown(capsys, events, "--json", "--limit", 2).parts] == ["EVENTS", "0", "1"]
    assert [part["label"] for part in Shown(capsys, events, "--json", "--offset", "0xc0").parts][1] == "1"
    assert [part["label"] for part in Shown(capsys, events, "--json", "--offset", 65).parts][1] == "1"
    assert len(Shown(capsys, events, "--json", "--offset", 1 << 40).parts) == 1


def test_a_store_is_a_list_of_its_files(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    listed = {part["file"]: part for part in Shown(capsys, store, "--json").parts}
    assert set(listed) == {path.relative_to(store).as_posix() for path in files_of(store)}
    assert listed["gen-000001/events.arena"]["count"] == 4
    assert "gen-000001/events.arena" in Shown(capsys, store).out
    (store / "MANIFEST").write_bytes(b"AEONMANI")
    assert Shown(capsys, store).code == 1


def test_lock_and_manifest(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    assert Shown(capsys, store / "LOCK", "--json").parts[0]["decoded"]["holder"].startswith("pid ")
    decoded = Shown(capsys, store / "MANIFEST", "--json").parts[1]["decoded"]
    assert (decoded["dim"], decoded["embedder"], decoded["generation"]) == (384, "aeon-hash-1", 1)


def test_a_leftover_is_called_one(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    left = store / "gen-000002"
    left.mkdir()
    (left / "keys.tbl").write_bytes((store / "gen-000001" / "keys.tbl").read_bytes())
    assert "does not name it" in Shown(capsys, left / "keys.tbl").out
    assert "not in the MANIFEST" in Shown(capsys, store).out


def test_files_of_others_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    for name, message in (
        ("a.txt", "b'hello'"),
        ("empty", "it is empty"),
        ("none", "No such file"),
        (".", "no aeon store"),
    ):
        shown = Shown(capsys, tmp_path / name)
        assert shown.code == 1 and message in shown.err and len(shown.err.splitlines()) == 1


def test_a_torn_frame_and_what_follows_it(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    log = store / "wal" / "00000002.wal"
    frames = [part for part in Shown(capsys, log, "--json", "--limit", 0).parts if part["structure"] == "FRAME"]
    data = bytearray(log.read_bytes())
    data[frames[0]["offset"] + 5] ^= 1  # its length
    data[frames[1]["offset"] + 60] ^= 1  # an operation of the second one
    log.write_bytes(data)
    shown = Shown(capsys, log, "--json", "--limit", 0)
    assert shown.code == 1 and "2 problems found" in shown.err
    problems = [(part["offset"], part["structure"], part["problem"]) for part in shown.parts if part["problem"]]
    assert problems[0] == (frames[0]["offset"], "garbage", "no frame: the header's checksum is wrong")
    assert problems[1][:2] == (frames[1]["offset"], "FRAME") and "torn, or damaged" in problems[1][2]
    assert [part["label"] for part in shown.parts if part["structure"] == "FRAME"] == ["LSN 6", "LSN 7"]


@pytest.mark.parametrize("seed", range(8))
def test_damage_of_any_kind_is_no_traceback(capsys: pytest.CaptureFixture[str], store: Path, seed: int) -> None:
    choose = random.Random(seed)
    for path in files_of(store):
        whole = path.read_bytes()
        written = len(whole.rstrip(b"\0")) or 1
        for _ in range(6):
            data = bytearray(whole)
            kind = choose.randrange(4)
            at = choose.randrange(min(written, choose.choice([40, 100, 5000, 1 << 30])))
            if kind == 0:
                data[at] ^= 1 << choose.randrange(8)
            elif kind == 1:
                del data[at:]
            elif kind == 2:
                data[at : at + 64] = choose.randbytes(64)
            else:
                data[at : at + 16] = b"\xff" * 16
            path.write_bytes(data)
            for options in ([], ["--json", "--limit", "0"], ["--fields", "--offset", str(at)]):
                shown = Shown(capsys, path, *options)
                assert shown.code in (0, 1)
        path.write_bytes(whole)


def test_a_file_of_pages(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    layouts = {layout.name: layout for layout in LAYOUTS}
    kind = getattr(FileKind, "PAGES", None)
    if kind is None or "PAGES_HEADER" not in layouts:
        pytest.skip("this format has no pages")
    counts = {"groups": 1, "pages": 2, "curve_count": 1}
    values = [b"" if field.type[0] == "S" else counts.get(field.name, 0) for field in layouts["PAGES_HEADER"].fields]
    content = layouts["PAGES_HEADER"].pack(*values) + bytes(64) + bytes(3 * layouts["PAGE"].size) + bytes(100)
    uuid = bytes.fromhex(Shown(capsys, store / "MANIFEST", "--json").parts[1]["decoded"]["uuid"])
    path = store / "gen-000001" / "pages.tbl"
    path.write_bytes(encode_header(kind, uuid, 1, 1, 0, reference.crc32c(content)) + content)
    shown = Shown(capsys, path, "--json")
    assert shown.code == 0
    assert [part["label"] for part in shown.parts] == ["PAGES", "", "point 0", "group 0", "page 0", "page 1", ""]
    assert shown.parts[-1]["offset"] + shown.parts[-1]["bytes"] == path.stat().st_size
    path.write_bytes(encode_header(kind, uuid, 1, 1, 0, 0) + content[:150])
    assert Shown(capsys, path).code == 1
