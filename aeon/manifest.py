"""The MANIFEST: what a store is, and which bytes of which files count. Replaced in one step, never changed in place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgpack

from aeon.errors import CorruptionError, NotAStoreError, VersionError
from aeon.files import FileSystem, read_whole, write_fully
from aeon.format import DIM_MAX, FORMAT_VERSION, MANIFEST_HEADER, MANIFEST_MAGIC, SEGMENT_HEADER, FileKind
from aeon_native import dispatch

MANIFEST_NAME = "MANIFEST"
_PATH = re.compile(r"gen-\d{6}/[a-z-]+\.(arena|tbl)")
_ROWS = ("int8", "float32")


@dataclass(frozen=True)
class FileEntry:
    """A generation file: its path in the store, how many bytes of it count, and how many records those are."""

    path: str
    bytes: int
    count: int


@dataclass(frozen=True)
class Manifest:
    """The map in the MANIFEST.

    Parameters
    ----------
    uuid : 16 bytes, made when the store was.
    dim, rows : length of the vectors, and "int8" or "float32".
    embedder : name of the embedder whose vectors these are; "" if they are the caller's.
    created : microseconds since 1970-01-01 UTC.
    generation : number of the current generation; 0 = none yet.
    lsn : the last commit that the generation holds.
    next_id : the next id to be given out after that commit.
    segment, offset : the log segment to begin a replay with, and where in it the frame of `lsn` + 1 stands or will.
    history_from : the oldest LSN that `as_of` can show: what had ended before may have left the files.
    files : what the generation consists of.
    """

    uuid: bytes
    dim: int
    rows: str
    embedder: str
    created: int
    generation: int = 0
    lsn: int = 0
    next_id: int = 1
    segment: int = 1
    files: dict[FileKind, FileEntry] = field(default_factory=dict)
    offset: int = SEGMENT_HEADER.size
    history_from: int = 0


def encode(manifest: Manifest) -> bytes:
    """Return the bytes of a MANIFEST file (FORMAT: MANIFEST_HEADER)."""
    payload = msgpack.packb(
        {
            "uuid": manifest.uuid,
            "dim": manifest.dim,
            "rows": manifest.rows,
            "metric": "cosine",
            "embedder": manifest.embedder,
            "created": manifest.created,
            "generation": manifest.generation,
            "lsn": manifest.lsn,
            "next_id": manifest.next_id,
            "segment": manifest.segment,
            "offset": manifest.offset,
            "history_from": manifest.history_from,
            "files": {int(kind): [entry.path, entry.bytes, entry.count] for kind, entry in manifest.files.items()},
        }
    )
    crc32c = dispatch.kernels.crc32c
    header = bytearray(MANIFEST_HEADER.pack(MANIFEST_MAGIC, FORMAT_VERSION, len(payload), crc32c(payload), 0))
    header[-4:] = crc32c(bytes(header[:-4])).to_bytes(4, "little")
    return bytes(header) + payload


def decode(data: bytes, path: str) -> Manifest:
    """Read a MANIFEST; CorruptionError where it is damaged, VersionError if it is of a newer format."""
    size = MANIFEST_HEADER.size
    if len(data) < size:
        raise CorruptionError(path, 0, expected=f"at least {size} bytes", found=f"{len(data)} bytes")
    magic, version, length, payload_crc, header_crc = MANIFEST_HEADER.unpack_from(data)
    crc32c = dispatch.kernels.crc32c
    if magic != MANIFEST_MAGIC:
        raise CorruptionError(path, 0, expected=MANIFEST_MAGIC, found=magic)
    if crc32c(data[: size - 4]) != header_crc:
        raise CorruptionError(path, 0, expected="a valid header checksum", found=f"{header_crc:#010x}")
    if version > FORMAT_VERSION:
        raise VersionError(f"{path}: format {version}; this aeon reads up to {FORMAT_VERSION}: update aeon-memory")
    if len(data) != size + length:
        raise CorruptionError(path, size, expected=f"{length} bytes of map", found=f"{len(data) - size} bytes")
    if crc32c(data[size:]) != payload_crc:
        raise CorruptionError(path, size, expected="a valid map checksum", found=f"{payload_crc:#010x}")
    try:
        return _from_map(msgpack.unpackb(data[size:], strict_map_key=False))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptionError(path, size, expected="a manifest map", found=repr(error)) from error


def _from_map(fields: dict[str, object]) -> Manifest:
    """Check every value: what passes here is trusted by everything else."""
    numbers = {name: fields[name] for name in ("dim", "created", "generation", "lsn", "next_id", "segment")}
    numbers["offset"] = fields.get("offset", SEGMENT_HEADER.size)  # these two came later
    numbers["history_from"] = fields.get("history_from", numbers["lsn"])
    for name, number in numbers.items():
        if type(number) is not int or (number < 0 and name != "created"):
            raise ValueError(f"{name} = {number!r}")
    uuid, rows, embedder, listed = fields["uuid"], fields["rows"], fields["embedder"], fields["files"]
    if not 1 <= numbers["dim"] <= DIM_MAX:  # type: ignore[operator]
        raise ValueError(f"dim = {numbers['dim']!r}")
    if type(uuid) is not bytes or len(uuid) != 16:
        raise ValueError(f"uuid = {uuid!r}")
    if numbers["offset"] < SEGMENT_HEADER.size or numbers["history_from"] > numbers["lsn"]:  # type: ignore[operator]
        raise ValueError(f"offset = {numbers['offset']!r}, history_from = {numbers['history_from']!r}")
    if rows not in _ROWS or type(embedder) is not str or fields["metric"] != "cosine" or type(listed) is not dict:
        raise ValueError(f"rows = {rows!r}, embedder = {embedder!r}, metric = {fields['metric']!r}")
    files = {}
    for number, (path, size, count) in listed.items():
        if not _PATH.fullmatch(path) or type(size) is not int or type(count) is not int or size < 0 or count < 0:
            raise ValueError(f"file {number} = {(path, size, count)!r}")
        files[FileKind(number)] = FileEntry(path, size, count)
    return Manifest(uuid=uuid, rows=str(rows), embedder=embedder, files=files, **numbers)  # type: ignore[arg-type]


def load(files: FileSystem, root: str) -> Manifest:
    """Read the MANIFEST of the store at `root`; NotAStoreError if there is none."""
    path = f"{root}/{MANIFEST_NAME}"
    try:
        data = read_whole(files, path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotAStoreError(f"{root}: no aeon store here (no {MANIFEST_NAME})") from error
    return decode(data, path)


def store(files: FileSystem, root: str, manifest: Manifest) -> None:
    """Replace the MANIFEST; when this returns, the new one is what a power cut leaves.

    Order: the whole new file reaches the disk under another name, then the name is swapped, then the swap reaches the
    disk. A cut in between leaves the old MANIFEST or the new one, each whole.
    """
    temporary = f"{root}/{MANIFEST_NAME}.new"
    if files.exists(temporary):
        files.unlink(temporary)
    file = files.open(temporary, create=True)
    try:
        write_fully(file, encode(manifest), 0)
        file.fsync()
    finally:
        file.close()
    files.rename(temporary, f"{root}/{MANIFEST_NAME}")
    files.fsync_dir(root)
