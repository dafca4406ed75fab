"""docs/FORMAT.md is the code's own table, and enough to read a store with: every byte is accounted for."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest

import aeon
from aeon import format as fmt
from aeon import manifest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = (REPOSITORY / "docs" / "FORMAT.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_format", REPOSITORY / "docs" / "generate_format.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records_of_the_document() -> dict[str, tuple[int, list[tuple[int, str, str]]]]:
    """(size, [(offset, type, field)]) of every record, read from the tables."""
    records = {}
    for name, size, rows in re.findall(r"`([A-Z_]+)`, (\d+) bytes\n\n\|.*\n\|.*\n((?:\|.*\n)+)", DOCUMENT):
        fields = re.findall(r"^\| (\d+) \| (\w+) \| `(\w+)` \| .+ \|$", rows, re.MULTILINE)
        assert len(fields) == rows.count("\n"), name
        records[name] = int(size), [(int(offset), type_, field) for offset, type_, field in fields]
    return records


RECORDS = records_of_the_document()


# -- the document is what the code says -------------------------------------------------------------------------------


def test_the_generated_parts_are_up_to_date(generator: ModuleType) -> None:
    assert generator.render(DOCUMENT) == DOCUMENT, "run: python docs/generate_format.py"


def test_a_changed_field_makes_the_document_stale(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = fmt.Layout(
        "EDGE", 24, [("source", "u8", 0, "x"), ("dst", "u8", 8, "x"), ("kind", "u4", 16, "x"), ("r", "u4", 20, "x")]
    )
    monkeypatch.setattr(fmt, "LAYOUTS", tuple(changed if layout.name == "EDGE" else layout for layout in fmt.LAYOUTS))
    assert generator.render(DOCUMENT) != DOCUMENT


def test_every_layout_is_in_the_document() -> None:
    assert {
        layout.name: (layout.size, [(f.offset, f.type, f.name) for f in layout.fields]) for layout in fmt.LAYOUTS
    } == RECORDS
    defined = {value.name for value in vars(fmt).values() if isinstance(value, fmt.Layout)}
    assert defined == {layout.name for layout in fmt.LAYOUTS}, "a Layout that is not in LAYOUTS escapes the document"
    for layout in fmt.LAYOUTS:
        for field in layout.fields:
            assert field.meaning in DOCUMENT.replace("\\|", "|"), f"{layout.name}.{field.name}"


def test_every_field_of_the_manifest_is_in_the_document() -> None:
    whole = manifest.Manifest(uuid=bytes(16), dim=1, rows="int8", embedder="", created=0)
    fields = msgpack.unpackb(manifest.encode(whole)[fmt.MANIFEST_HEADER.size :])
    section = DOCUMENT.split("## MANIFEST")[1].split("## The log")[0]
    assert re.findall(r"^\| `(\w+)` \| ", section.split("msgpack map.")[1], re.MULTILINE) == list(fields)


def test_the_documents_numbers_are_the_codes_numbers() -> None:
    by_kind = {
        int(kind): name
        for kind, name in re.findall(r"^\| (\d+) \| `([\w-]+\.(?:arena|tbl))` \|", DOCUMENT, re.MULTILINE)
    }
    assert set(by_kind) == {int(kind) for kind in fmt.FileKind}
    meaning = next(field.meaning for field in fmt.FILE_HEADER.fields if field.name == "kind")
    for kind in fmt.FileKind:
        assert re.search(rf"\b{int(kind)} {kind.name.lower().replace('_', ' ')}\b", meaning), (
            f"FILE_HEADER.kind says nothing of {kind}"
        )
    assert f"# File format of an aeon store, version {fmt.FORMAT_VERSION}\n" in DOCUMENT
    assert re.search(rf"^\| {fmt.FORMAT_VERSION} \| ", DOCUMENT.split("## Versions")[1], re.MULTILINE)


def test_the_example_can_be_read(generator: ModuleType) -> None:
    data = generator.example_segment()
    shown = re.findall(r"^ *(\d+)  ((?:[0-9a-f]{2} ?)+?)(?:  |$)", DOCUMENT.split("## Worked example")[1], re.MULTILINE)
    covered = bytearray()
    for offset, hexes in shown:
        assert int(offset) == len(covered), "no byte is left out"
        covered += bytes.fromhex(hexes)
    assert covered == data[: len(covered)]
    assert len(covered) == len(data.rstrip(b"\0")) + -len(data.rstrip(b"\0")) % 8
    assert b"Tess moved to Trieste." in covered


def test_crash_cases_are_numbered_without_a_gap() -> None:
    section = DOCUMENT.split("## Order of writes")[1].split("## Invariants")[0]
    assert [int(number) for number in re.findall(r"^(\d+)\. ", section, re.MULTILINE)] == list(range(1, 13))


# -- and it is enough to read a store with ----------------------------------------------------------------------------


def crc32c(data: bytes, crc: int = 0) -> int:
    """As the document describes it, bit by bit."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # 0x1EDC6F41, reflected
    return crc ^ 0xFFFFFFFF


def read(name: str, data: bytes, at: int = 0) -> dict[str, Any]:
    """One record, by the document's table alone."""
    size, fields = RECORDS[name]
    assert len(data) >= at + size, f"{name} at {at} reaches beyond {len(data)} bytes"
    values: dict[str, Any] = {}
    for (offset, type_, field), (end, _, _) in zip(fields, [*fields[1:], (size, "", "")], strict=True):
        raw = data[at + offset : at + end]
        if type_[0] == "S":
            assert len(raw) == int(type_[1:])
            values[field] = raw
        elif type_[0] == "f":
            values[field] = float(np.frombuffer(raw, "<f4")[0])
        else:
            assert len(raw) == int(type_[1:])
            values[field] = int.from_bytes(raw, "little", signed=type_[0] == "i")
    return values


def zeros(data: bytes) -> None:
    assert data == bytes(len(data)), "padding is zero"


def padded(length: int, alignment: int = 8) -> int:
    return length + -length % alignment


class Decoder:
    """A whole store, byte by byte."""

    def __init__(self, root: Path) -> None:
        self.root = root
        data = (root / "MANIFEST").read_bytes()
        header = read("MANIFEST_HEADER", data)
        assert header["magic"] == b"AEONMANI" and header["version"] == 1
        assert len(data) == 24 + header["length"]
        assert header["payload_crc"] == crc32c(data[24:]) and header["header_crc"] == crc32c(data[:20])
        self.map = msgpack.unpackb(data[24:], strict_map_key=False)
        self.dim, self.rows = self.map["dim"], self.map["rows"]
        self.seen = {"MANIFEST", "LOCK"}

    def operation(self, data: bytes, at: int, with_vector: bool) -> tuple[dict[str, Any], int]:
        values = read("OP", data, at)
        assert values["reserved"] == 0
        at += 32
        values["extra"] = data[at : at + values["extra_bytes"]]
        at += values["extra_bytes"]
        values["text"] = data[at : at + values["text_bytes"]]
        at += values["text_bytes"]
        if with_vector:
            values["vector"] = data[at : at + values["vector_bytes"]]
            at += values["vector_bytes"]
        if values["kind"] == 1:
            parts = msgpack.unpackb(values["extra"])
            values["parts"] = parts + [None] * (5 - len(parts))
            assert bool(values["flags"] & 4) == (values["parts"][2] is not None)
            assert bool(values["flags"] & 8) == (values["parts"][3] is not None)
            expected = (4 + self.dim if self.rows == "int8" else 4 * self.dim) if values["flags"] & 1 else 0
            assert values["vector_bytes"] == expected
        else:
            assert values["kind"] in (2, 32, 33, 34, 35, 36) and values["text_bytes"] % 8 == 0
            assert len(msgpack.unpackb(values["extra"] or b"\x90")) == {32: 1, 33: 1, 36: 2}.get(values["kind"], 0)
        return values, at

    def log(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """(LSN, id or 0, operation) of every commit after the generation."""
        number, lsn, next_id = self.map["segment"], self.map["lsn"] + 1, self.map["next_id"]
        while (path := self.root / "wal" / f"{number:08d}.wal").exists():
            self.seen.add(f"wal/{path.name}")
            data = path.read_bytes()
            header = read("SEGMENT_HEADER", data)
            assert (header["magic"], header["version"], header["uuid"]) == (b"AEON-LOG", 1, self.map["uuid"])
            assert (header["segment"], header["first_lsn"], header["first_id"]) == (number, lsn, next_id)
            assert header["crc"] == crc32c(data[:60]) and header["reserved"] == 0 and header["flags"] in (0, 1)
            at = 64
            while at + 40 <= len(data) and any(data[at : at + 40]):
                frame = read("FRAME", data, at)
                assert (frame["magic"], frame["type"], frame["flags"], frame["lsn"]) == (0xA3E0, 1, 0, lsn)
                assert frame["header_crc"] == crc32c(data[at : at + 36], header["crc"])
                assert frame["durable_lsn"] < lsn and frame["first_id"] == next_id
                at, end = at + 40, at + 40 + frame["length"]
                assert frame["payload_crc"] == crc32c(data[at:end])
                while at < end:
                    operation, at = self.operation(data, at, with_vector=True)
                    yield lsn, next_id if operation["kind"] == 1 else 0, operation
                    next_id += operation["kind"] == 1
                assert at == end
                zeros(data[end : padded(end)])
                at = padded(end)
                lsn += 1
            zeros(data[at:])
            number += 1

    def file(self, kind: int) -> tuple[bytes, int]:
        """(the bytes that count, where records begin) of a generation file; its header is checked."""
        path, length, count = self.map["files"][kind]
        self.seen.add(path)
        data = (self.root / path).read_bytes()
        assert len(data) >= length
        data = data[:length]
        header = read("FILE_HEADER", data)
        assert (header["magic"], header["version"], header["kind"], header["uuid"]) == (
            b"AEONFILE",
            1,
            kind,
            self.map["uuid"],
        )
        assert header["crc"] == crc32c(data[:60]) and header["reserved"] == 0
        assert path.startswith(f"gen-{header['generation']:06d}/")
        if kind >= 16:
            assert header["content_crc"] == crc32c(data[64:]) and header["count"] == count
            assert header["generation"] == self.map["generation"]
        else:
            assert header["content_crc"] == header["count"] == 0
        start = 4096 if kind == 2 else 64
        zeros(data[64:start])
        if header["record_bytes"]:
            assert len(data) == start + count * header["record_bytes"]
        return data, start

    def table(self, kind: int, name: str) -> list[dict[str, Any]]:
        data, start = self.file(kind)
        size = RECORDS[name][0]
        assert (len(data) - start) % size == 0
        return [read(name, data, at) for at in range(start, len(data), size)]

    def blobs(self) -> dict[int, tuple[dict[str, Any], bytes]]:
        """Blob header and content by offset."""
        data, at = self.file(1)
        found = {}
        while at < len(data):
            header = read("BLOB", data, at)
            end = at + 24 + header["bytes"]
            assert header["crc"] == crc32c(data[at + 4 : end])
            found[at] = header, data[at + 24 : end]
            zeros(data[end : padded(end)])
            at = padded(end)
        assert at == len(data)
        return found

    def text(self, operation: dict[str, Any], blobs: dict[int, tuple[dict[str, Any], bytes]]) -> str:
        if not operation["flags"] & 2:
            return operation["text"].decode()
        reference = read("BLOB_REF", operation["text"])
        header, text = blobs[reference["offset"]]
        assert (header["id"], header["lsn"], header["crc"], len(text)) == (0, 0, reference["crc"], reference["bytes"])
        return text.decode()


@pytest.fixture(params=["int8", "float32"])
def written(request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with everything in it: two generations, texts by reference, upserts, forgotten ones, edges, a log."""
    monkeypatch.setattr(aeon.store, "TEXT_BYTES_INLINE", 100)
    options: dict[str, Any] = {"durability": "full", "segment_bytes_max": 1024, "segment_growth_bytes": 512}
    with aeon.open(path, 5, rows=request.param, **options) as store:
        eye = np.eye(5)
        store.remember_many(
            ["one", "two", "three"], eye[:3], keys=["k", None, "l"], session=["s", "t", "s"], metadata={"n": 1}
        )
        store.remember("long " * 30, eye[3], namespace=("a", "b"), refs=[1, 2], timestamp=-7)
        assert store.link(4, [1, 2], "causes") == 2
        assert store.unlink(4, 1, "causes") == 1
        store.link(4, 3, "my own")
        store.branch(4, "branch")
        store.archive([1, 4])
        store.restore(4)
        store.forget(2)
        store.checkpoint()
        store.remember("one again", -eye[0], key="k", role="assistant", parent=1, metadata={"deep": {"er": [1, None]}})
        store.link(5, 1, "my own")
        store.forget(3)
        store.remember("gone before it reached a generation")
        store.forget(6)
        store.checkpoint()
        for n in range(12):
            store.remember(f"in the log {n} é", eye[n % 5], session="u", key=f"u{n % 3}")
        store.remember("also long " * 20, refs=[5])
        store.link(5, 7, "causes")
        store.forget([4, 8])
    return path


def test_a_store_is_read_with_the_document_alone(written: Path) -> None:
    decoder = Decoder(written)
    dim, wide = decoder.dim, decoder.rows == "float32"
    assert (dim, decoder.map["metric"], decoder.map["embedder"]) == (5, "cosine", "")

    data, at = decoder.file(2)
    stride = padded(dim * (4 if wide else 1), 64)
    rows = decoder.table(3, "ROW")
    vectors = []
    for row, codes_at in zip(rows, range(at, len(data), stride), strict=True):
        raw = data[codes_at : codes_at + stride]
        assert row["crc"] == crc32c(np.uint64(row["id"]).tobytes() + np.float32(row["scale"]).tobytes() + raw)
        zeros(raw[dim * (4 if wide else 1) :])
        codes = np.frombuffer(raw[: dim * (4 if wide else 1)], "<f4" if wide else "i1").astype(np.float32)
        vectors.append(codes * np.float32(row["scale"]))

    blobs = decoder.blobs()
    names_data, names_at = decoder.file(19)
    names = msgpack.unpackb(names_data[names_at:])
    assert set(names) == {"sessions", "namespaces", "fields", "kinds", "branches"}
    assert names["kinds"] == ["my own"]
    assert set(names["fields"]) == {"n", "deep", "deep.er"}
    events_data, events_at = decoder.file(4)
    events = decoder.table(4, "EVENT")
    deaths = [record["lsn"] for record in decoder.table(16, "DEATH")]
    row_deaths = [record["lsn"] for record in decoder.table(17, "DEATH")]
    assert len(deaths) == len(events) and len(row_deaths) == len(rows)
    found: dict[int, dict[str, Any]] = {}
    owners = []
    for index, event in enumerate(events):
        raw = events_data[events_at + index * 128 :][:128]
        assert event["crc"] == crc32c(raw[:60] + raw[64:]) and event["reserved"] == 0
        header, content = blobs[event["blob_offset"]]
        assert (header["id"], header["bytes"]) == (event["id"], event["blob_bytes"])
        operation, end = decoder.operation(content, 0, with_vector=False)
        assert end == len(content)
        session, namespace, key, metadata, refs = operation["parts"]
        text = decoder.text(operation, blobs)
        assert (names["sessions"][event["session"]], names["namespaces"][event["namespace"]]) == (session, namespace)
        for field in ("role", "flags", "parent", "timestamp"):
            assert event[field] == operation[field]
        assert text.encode()[: event["preview_bytes"]] == event["preview"][: event["preview_bytes"]]
        zeros(event["preview"][event["preview_bytes"] :])
        if event["row"]:
            owners.append(event["id"])
            assert event["row"] == len(owners)
            assert bool(row_deaths[event["row"] - 1]) == bool(deaths[index])
        found[event["id"]] = {
            "text": text, "session": session, "namespace": namespace, "key": key, "metadata": metadata or {},
            "refs": refs or [], "role": event["role"], "timestamp": event["timestamp"],
            "parent": event["parent"] or None, "death": deaths[index],
            "vector": vectors[event["row"] - 1] if event["row"] else None,
        }  # fmt: skip
    assert owners == [row["id"] for row in rows]

    postings = [record["event"] for record in decoder.table(21, "POSTING")]
    for number, session in enumerate(decoder.table(20, "SESSION")):
        mine = postings[session["postings_start"] :][: session["postings_count"]]
        assert mine == [n for n, event in enumerate(events) if event["session"] == number]
        assert session["live"] == sum(not deaths[n] for n in mine)
        assert session["last_id"] == (events[mine[-1]]["id"] if mine else 0)
        chain = [0, *(events[n]["id"] for n in mine)]
        assert [events[n]["previous"] for n in mine] == chain[:-1]
    keys = {record["id"] for record in decoder.table(18, "KEY")}
    assert keys == {id_ for id_, memory in found.items() if memory["key"] and not memory["death"]}
    edges = [(record["src"], record["dst"], record["kind"]) for record in decoder.table(22, "EDGE")]
    assert edges == [(4, 1, 1), (5, 1, 2)], "the ref to the forgotten memory went with it"
    links = [tuple(record.values()) for record in decoder.table(32, "LINK")]
    assert [link[:4] for link in links] == [(4, 1, 4, 0), (5, 1, 256, 0)]
    made, (unlinked, *_) = [link[4] for link in links], [link[5] for link in links]
    assert made[0] < unlinked < made[1] and links[1][5] == 0
    whole = [*links, *((src, dst, kind, 0, 0, 0) for src, dst, kind in [*edges, (5, 1, 3)])]
    reverse = [tuple(record.values()) for record in decoder.table(33, "LINK")]
    assert reverse == sorted(whole, key=lambda link: (link[1], link[0], link[4], link[2]))
    archived = [tuple(record.values()) for record in decoder.table(34, "ARCHIVED")]
    assert [record[:2] for record in archived] == [(1, 0), (4, 0)]
    assert archived[0][2] == archived[1][2] < archived[1][3] and not archived[0][3]
    assert names["branches"] == [
        [names["sessions"].index("branch"), 4, archived[0][2] - 1, names["sessions"].index("default")]
    ]
    kept = [(header["lsn"], content[0]) for header, content in blobs.values() if not header["id"] and header["lsn"]]
    assert [kind for _, kind in kept] == [32, 33, 32, 36, 34, 35, 32, 2]

    for lsn, id_, operation in decoder.log():
        if id_:
            session, namespace, key, metadata, refs = operation["parts"]
            for other in found.values():
                if key and (other["key"], other["namespace"]) == (key, namespace) and not other["death"]:
                    other["death"] = lsn | 1 << 63
            vector = None
            if operation["flags"] & 1:
                raw = operation["vector"]
                scale = 1 if wide else np.frombuffer(raw[:4], "<f4")[0]
                vector = np.frombuffer(raw if wide else raw[4:], "<f4" if wide else "i1").astype(
                    np.float32
                ) * np.float32(scale)
            texts = blobs
            if operation["flags"] & 2:  # not counted by the manifest yet
                reference = read("BLOB_REF", operation["text"])
                whole = (written / decoder.map["files"][1][0]).read_bytes()[reference["offset"] :]
                header = read("BLOB", whole)
                assert header["crc"] == crc32c(whole[4 : 24 + header["bytes"]])
                texts = {reference["offset"]: (header, whole[24 : 24 + header["bytes"]])}
            found[id_] = {
                "text": decoder.text(operation, texts), "session": session, "namespace": namespace, "key": key,
                "metadata": metadata or {}, "refs": refs or [], "role": operation["role"], "timestamp": operation["timestamp"],
                "parent": operation["parent"] or None, "death": 0, "vector": vector,
            }  # fmt: skip
        elif operation["kind"] == 2:
            for gone in np.frombuffer(operation["text"], "<u8").tolist():
                found[gone]["death"] = lsn

    on_disk = {str(file.relative_to(written)) for file in written.rglob("*") if file.is_file()}
    assert decoder.seen == on_disk, "no file is unknown to the document"
    assert re.fullmatch(r"pid \d+ on \S+ since \S+", (written / "LOCK").read_text())

    with aeon.open(written, read_only=True) as store:
        readable = {id_ for id_, memory in found.items() if not memory["death"] or memory["death"] >> 63}
        for id_ in range(1, max(found) + 1):
            if id_ not in readable:
                with pytest.raises(aeon.NotFoundError):
                    store.get(id_)
                continue
            memory, expected = store.get(id_), found[id_]
            for field in ("text", "session", "key", "metadata", "timestamp", "parent"):
                assert getattr(memory, field) == expected[field], (id_, field)
            assert (list(memory.namespace), list(memory.refs)) == (expected["namespace"], expected["refs"])
            assert fmt.ROLES[expected["role"] - 1] == memory.role
            assert (memory.vector is None) == (expected["vector"] is None)
            if memory.vector is not None:
                assert (memory.vector == expected["vector"]).all()
        current = {id_ for id_, memory in found.items() if not memory["death"]}
        assert len(store) == len(current)
        assert {m.id for info in store.sessions() for m in store.history(info.name)} == current
