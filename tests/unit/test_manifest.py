"""The MANIFEST: it comes back as it was, every damage is noticed, and it is replaced in one step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aeon
from aeon import manifest as manifests
from aeon.files import OsFileSystem
from aeon.format import MANIFEST_HEADER, FileKind
from aeon.manifest import FileEntry, Manifest

WHOLE = Manifest(
    uuid=bytes(range(16)), dim=384, rows="int8", embedder="é", created=-5, generation=3, lsn=7, next_id=9, segment=4,
    files={kind: FileEntry(f"gen-000003/{kind.name.lower().replace('_', '-')}.arena", kind * 100, kind) for kind in FileKind},
)  # fmt: skip


def test_a_manifest_comes_back() -> None:
    assert manifests.decode(manifests.encode(WHOLE), "MANIFEST") == WHOLE
    bare = Manifest(uuid=bytes(16), dim=1, rows="float32", embedder="", created=0)
    assert manifests.decode(manifests.encode(bare), "MANIFEST") == bare


@given(
    st.integers(0, 1 << 63),
    st.integers(0, 1 << 63),
    st.integers(0, 1 << 63),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_numbers_come_back(lsn: int, next_id: int, segment: int, embedder: str) -> None:
    manifest = replace(WHOLE, lsn=lsn, next_id=next_id, segment=segment, embedder=embedder)
    assert manifests.decode(manifests.encode(manifest), "MANIFEST") == manifest


def test_every_flipped_bit_is_noticed() -> None:
    data = manifests.encode(WHOLE)
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises(aeon.CorruptionError) as raised:
                manifests.decode(bytes(damaged), "MANIFEST")
            assert raised.value.path == "MANIFEST"
            assert raised.value.offset == (0 if at < MANIFEST_HEADER.size else MANIFEST_HEADER.size)


def test_every_other_length_is_noticed() -> None:
    data = manifests.encode(WHOLE)
    for length in range(len(data)):
        with pytest.raises(aeon.CorruptionError):
            manifests.decode(data[:length], "MANIFEST")
    with pytest.raises(aeon.CorruptionError):
        manifests.decode(data + b"\0", "MANIFEST")


def seal(payload: bytes, version: int = 1) -> bytes:
    """A MANIFEST with valid checksums around any payload."""
    crc = manifests.dispatch.kernels.crc32c
    header = MANIFEST_HEADER.pack(b"AEONMANI", version, len(payload), crc(payload), 0)[:-4]
    return header + crc(header).to_bytes(4, "little") + payload


FIELDS = msgpack.unpackb(manifests.encode(WHOLE)[MANIFEST_HEADER.size :], strict_map_key=False)
ADDED = ("offset", "history_from")  # a store made before there were these has neither
WRONG: dict[str, Any] = {
    "no map": [1, 2],
    "empty map": {},
    "uuid too short": {**FIELDS, "uuid": bytes(15)},
    "uuid is text": {**FIELDS, "uuid": "x" * 16},
    "dim negative": {**FIELDS, "dim": -1},
    "dim is a float": {**FIELDS, "dim": 8.0},
    "dim is a bool": {**FIELDS, "dim": True},
    "lsn negative": {**FIELDS, "lsn": -1},
    "next_id is nil": {**FIELDS, "next_id": None},
    "unknown rows": {**FIELDS, "rows": "int4"},
    "another metric": {**FIELDS, "metric": "l2"},
    "embedder is bytes": {**FIELDS, "embedder": b"x"},
    "files is a list": {**FIELDS, "files": []},
    "unknown kind of file": {**FIELDS, "files": {99: ["gen-000001/keys.tbl", 1, 1]}},
    "a path that leaves the store": {**FIELDS, "files": {1: ["../../etc/passwd", 1, 1]}},
    "an absolute path": {**FIELDS, "files": {1: ["/gen-000001/keys.tbl", 1, 1]}},
    "a path with a newline": {**FIELDS, "files": {1: ["gen-000001/keys.tbl\n", 1, 1]}},
    "a negative length": {**FIELDS, "files": {1: ["gen-000001/keys.tbl", -1, 1]}},
    "a count of text": {**FIELDS, "files": {1: ["gen-000001/keys.tbl", 1, "1"]}},
    "an entry of two": {**FIELDS, "files": {1: ["gen-000001/keys.tbl", 1]}},
    "a path that is a number": {**FIELDS, "files": {1: [1, 1, 1]}},
    "an offset within the header": {**FIELDS, "offset": 63},
    "history_from beyond the end": {**FIELDS, "history_from": FIELDS["lsn"] + 1},
    **{
        f"no {name}": {key: value for key, value in FIELDS.items() if key != name}
        for name in FIELDS
        if name not in ADDED
    },
}


def test_a_manifest_made_before_there_were_these_fields() -> None:
    fields = {name: value for name, value in FIELDS.items() if name not in ADDED}
    found = manifests.decode(seal(msgpack.packb(fields)), "MANIFEST")
    assert (found.offset, found.history_from) == (64, FIELDS["lsn"])


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_a_sealed_map_of_wrong_values(fields: Any) -> None:
    with pytest.raises(aeon.CorruptionError, match="a manifest map"):
        manifests.decode(seal(msgpack.packb(fields)), "MANIFEST")


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x81", b"\xdf\xff\xff\xff\xff", b"\xc7\xff\x05" + bytes(255)])
def test_a_sealed_payload_that_is_no_msgpack(payload: bytes) -> None:
    with pytest.raises(aeon.CorruptionError, match="a manifest map"):
        manifests.decode(seal(payload), "MANIFEST")


def test_fields_of_a_later_minor_version_are_let_pass() -> None:
    assert manifests.decode(seal(msgpack.packb({**FIELDS, "later": 1})), "MANIFEST") == WHOLE


def test_a_newer_version_is_told_from_damage() -> None:
    with pytest.raises(aeon.VersionError, match="format 2; this aeon reads up to 1"):
        manifests.decode(seal(b"anything", version=2), "MANIFEST")


def test_the_manifest_is_swapped_only_when_it_is_whole_on_disk(tmp_path: Path, hooked_files: Any) -> None:
    manifests.store(OsFileSystem(), str(tmp_path), WHOLE)
    calls: list[tuple[str, str]] = []
    files = hooked_files(lambda operation, path: calls.append((operation, Path(path).name)))
    newer = replace(WHOLE, lsn=8)
    manifests.store(files, str(tmp_path), newer)
    assert calls == [
        ("create", "MANIFEST.new"), ("pwrite", "MANIFEST.new"), ("fsync", "MANIFEST.new"), ("close", "MANIFEST.new"),
        ("rename", "MANIFEST"), ("fsync_dir", tmp_path.name),
    ]  # fmt: skip
    assert manifests.load(OsFileSystem(), str(tmp_path)) == newer


@pytest.mark.parametrize("operation", ["create", "pwrite", "fsync", "rename"])
def test_a_failure_before_the_swap_leaves_the_old_manifest(tmp_path: Path, hooked_files: Any, operation: str) -> None:
    manifests.store(OsFileSystem(), str(tmp_path), WHOLE)

    def hook(called: str, path: str) -> None:
        if called == operation:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        manifests.store(hooked_files(hook), str(tmp_path), replace(WHOLE, lsn=8))
    assert manifests.load(OsFileSystem(), str(tmp_path)) == WHOLE
    manifests.store(OsFileSystem(), str(tmp_path), replace(WHOLE, lsn=9))
    assert manifests.load(OsFileSystem(), str(tmp_path)).lsn == 9
