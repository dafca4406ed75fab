"""Taking a file of a store apart for `aeon inspect`: every structure with its offset, its fields, and what is wrong.

Unlike the store, which stops at the first damage, this goes on: a bad checksum is a remark, and behind a damaged frame
the next one is looked for. Nothing here trusts a length it has read. Large files are read piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from aeon import manifest as manifests
from aeon.cli.values import CommandError, show_time
from aeon.errors import AeonError
from aeon.files import File, FileSystem, parent
from aeon.format import (
    BLOB,
    BLOB_ALIGNMENT,
    FILE_HEADER,
    FILE_MAGIC,
    FORMAT_VERSION,
    FRAME,
    FRAME_ALIGNMENT,
    FRAME_MAGIC,
    LAYOUTS,
    MANIFEST_HEADER,
    MANIFEST_MAGIC,
    OP,
    RECORDS,
    ROLES,
    ROW_ALIGNMENT,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    SUPERSEDED,
    TIME_BLOCKS_HEADER,
    EdgeKind,
    FileKind,
    FrameType,
    Layout,
    OpFlag,
    OpKind,
    data_offset,
    padded,
    row_stride,
)
from aeon.manifest import MANIFEST_NAME, FileEntry, Manifest
from aeon.opening import LOCK_NAME
from aeon.operations import decode_blob_ref, decode_extra
from aeon.trace import event_crc
from aeon_native import dispatch

_CHUNK = 1 << 20
_TEXT_SHOWN = 200  # bytes of a text
_EXTRA_BYTES_MAX = 4 << 20  # longer than any that can be written
_NUMBERS_SHOWN = 8  # of a vector
_FILE_NAMES = {kind.name.lower().replace("_", "-"): kind for kind in FileKind}
_FRAME_MAGIC_BYTES = FRAME_MAGIC.to_bytes(2, "little")


@dataclass(frozen=True)
class Value:
    """One field: what it holds (for programs), how it is shown, where it stands in the file, what it means."""

    name: str
    value: Any
    shown: str
    offset: int
    meaning: str


@dataclass
class Part:
    """A structure in a file.

    Attributes
    ----------
    layout : its name in format.py, or a word for what is none. label : which one of them.
    values : the fields as they stand. told : what they mean, decoded further. problem : what is wrong, "" if nothing.
    depth : 0 for what counts as a record, 1 for what is inside one. is_record : False for headers.
    """

    offset: int
    size: int
    layout: str
    label: str = ""
    values: list[Value] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    depth: int = 0
    is_record: bool = True

    def value(self, name: str) -> Any:
        """What the field `name` holds."""
        return next(value.value for value in self.values if value.name == name)


class StoreFile:
    """A file, and what the MANIFEST of its store says of it, if there is one that can be read."""

    def __init__(self, files: FileSystem, path: str) -> None:
        self.path = path
        self.name = path.replace("\\", "/").rsplit("/", 1)[-1]
        self.manifest: Manifest | None = None
        for root in (parent(path), parent(parent(path))):
            if self.manifest is None and files.exists(f"{root}/{MANIFEST_NAME}"):
                try:
                    self.manifest = manifests.load(files, root)
                except (AeonError, OSError):
                    continue
                self.place = path[len(root) + 1 :].replace("\\", "/")
        self.file: File = files.open(path)
        self.size = self.file.size()

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of the file."""
        return self.file.pread(max(0, min(count, self.size - offset)), offset)

    def crc(self, offset: int, count: int, crc: int = 0) -> int:
        """CRC-32C of a stretch of the file."""
        end = offset + count
        while offset < end:
            part = self.read(offset, min(_CHUNK, end - offset))
            if not part:
                break
            crc = dispatch.kernels.crc32c(part, crc)
            offset += len(part)
        return crc

    def entry(self) -> FileEntry | None:
        """The MANIFEST's entry for this file."""
        entries = self.manifest.files.values() if self.manifest else ()
        return next((entry for entry in entries if entry.path == self.place), None)

    def next_written(self, offset: int) -> int:
        """Offset of the first byte from `offset` on that is not zero; the file's length if there is none."""
        while offset < self.size:
            part = self.read(offset, _CHUNK)
            rest = part.lstrip(b"\0")
            if rest:
                return offset + len(part) - len(rest)
            offset += len(part)
        return self.size


def parts_of(file: StoreFile, start: int) -> Iterator[Part]:
    """Headers, then the records from offset `start` on. CommandError if the file is none of aeon's."""
    magic = file.read(0, 8)
    if file.name == LOCK_NAME:
        return _lock(file)
    if magic == MANIFEST_MAGIC or file.name in (MANIFEST_NAME, f"{MANIFEST_NAME}.new"):
        return _manifest(file)
    if magic == SEGMENT_MAGIC or file.name.endswith(".wal"):
        return _segment(file, start)
    if magic == FILE_MAGIC or file.name.partition(".")[0] in _FILE_NAMES:
        return _generation_file(file, start)
    begins = f"it begins with {magic!r}" if magic else "it is empty"
    raise CommandError(f"{file.path} is no file of aeon's: {begins}")


# -- fields -------------------------------------------------------------------------------------------------------


def _unpack(layout: Layout, data: bytes, at: int, offset: int) -> list[Value]:
    """The fields of the record at `data[at:]`, which stands at `offset` in the file."""
    found = layout.unpack_from(data, at)
    return [
        Value(spec.name, *_show(spec.name, value), offset + spec.offset, spec.meaning)
        for spec, value in zip(layout.fields, found, strict=True)
    ]


def _show(name: str, value: Any) -> tuple[Any, str]:
    """(the value as JSON can hold it, the value for people)."""
    if isinstance(value, bytes):
        if name == "magic":
            return value.decode("latin-1"), value.decode("latin-1")
        if name == "preview":
            text = value.rstrip(b"\0").decode("utf-8", "replace")
            return text, repr(text)
        return value.hex(), value.hex()
    if name.endswith("crc") or name == "magic":
        return value, f"{value:#06x}" if name == "magic" else f"{value:#010x}"
    if name in ("timestamp", "created"):
        return value, f"{value} ({show_time(value)} UTC)"
    if name == "hash":
        return value, f"{value:#018x}"
    if name == "role":
        return value, f"{value} ({ROLES[value - 1]})" if 1 <= value <= len(ROLES) else str(value)
    if isinstance(value, float):
        return value, f"{value:.6g}"
    return value, str(value)


def _flags(value: int) -> list[str]:
    names = {OpFlag.VECTOR: "vector", OpFlag.TEXT_REF: "text_ref", OpFlag.KEY: "key", OpFlag.METADATA: "metadata"}
    return [name for flag, name in names.items() if value & flag]


def _short(file: StoreFile, offset: int, size: int, what: str, *, record: bool = True) -> Part:
    """What is left of a structure that the file ends in."""
    left = max(0, file.size - offset)
    return Part(offset, left, what, problem=f"the file ends {size - left} bytes too early", is_record=record)


def _header(file: StoreFile, layout: Layout, magic: bytes) -> Part:
    """A header with its own checksum in its last field."""
    data = file.read(0, layout.size)
    if len(data) < layout.size:
        return _short(file, 0, layout.size, layout.name, record=False)
    part = Part(0, layout.size, layout.name, values=_unpack(layout, data, 0, 0), is_record=False)
    problems = []
    if data[:8] != magic:
        problems.append(f"the magic is not {magic.decode()}")
    if int.from_bytes(data[-4:], "little") != dispatch.kernels.crc32c(data[:-4]):
        problems.append("the header's checksum is wrong")
    if part.value("version") > FORMAT_VERSION:
        problems.append(f"a newer format than {FORMAT_VERSION}, which this aeon reads")
    if file.manifest and layout is not MANIFEST_HEADER and part.value("uuid") != file.manifest.uuid.hex():
        problems.append(f"it belongs to another store; this one is {file.manifest.uuid.hex()}")
    part.problem = "; ".join(problems)
    return part


# -- LOCK and MANIFEST --------------------------------------------------------------------------------------------


def _lock(file: StoreFile) -> Iterator[Part]:
    text = file.read(0, 4096).decode("utf-8", "replace").strip()
    told = {"holder": text, "note": "the last writer; the lock itself goes with the process, the line stays"}
    yield Part(0, file.size, "LOCK", told=told if text else {"note": "nobody has written yet"}, is_record=False)


def _manifest(file: StoreFile) -> Iterator[Part]:
    header = _header(file, MANIFEST_HEADER, MANIFEST_MAGIC)
    yield header
    if not header.values:
        return
    size, data = MANIFEST_HEADER.size, file.read(MANIFEST_HEADER.size, _EXTRA_BYTES_MAX)
    part = Part(size, len(data), "map", is_record=False)
    if len(data) != header.value("length"):
        part.problem = f"{len(data)} bytes, the header says {header.value('length')}"
    elif dispatch.kernels.crc32c(data) != header.value("payload_crc"):
        part.problem = "the map's checksum is wrong"
    try:
        fields = msgpack.unpackb(data, strict_map_key=False)
        part.told = {str(name): value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}
        listed = part.told.pop("files", {})
        if isinstance(part.told.get("created"), int):
            part.told["created_time"] = show_time(part.told["created"]) + " UTC"
        yield part
        for number, entry in listed.items():
            path, counted, count = entry
            kind = FileKind(number).name if number in set(FileKind) else "unknown"
            yield Part(
                size, 0, "file", kind, told={"path": path, "bytes": counted, "count": count}, depth=1, is_record=False
            )
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        part.problem = part.problem or f"not a map of a manifest ({error})"
        yield part


# -- the log ------------------------------------------------------------------------------------------------------


def _segment(file: StoreFile, start: int) -> Iterator[Part]:
    header = _header(file, SEGMENT_HEADER, SEGMENT_MAGIC)
    if header.values:
        if header.value("flags") & 1:
            header.told["flags"] = "the segment before was synced whole"
        if file.manifest and header.value("segment") < file.manifest.segment:
            header.told["note"] = "the generation holds all of it; the next open removes the file"
    yield header
    if not header.values:
        return
    seed, lsn = header.value("crc"), header.value("first_lsn")
    at = SEGMENT_HEADER.size
    while at < file.size:
        written = file.next_written(at)
        if written - at >= FRAME.size or written == file.size:
            end = written // FRAME_ALIGNMENT * FRAME_ALIGNMENT if written < file.size else file.size
            last = end == file.size
            yield Part(
                at,
                end - at,
                "space",
                told={"note": "reserved, never written" if last else ""},
                is_record=False,
                problem="" if last else "zeros between frames",
            )
            at = end
            continue
        data = file.read(at, FRAME.size)
        if len(data) < FRAME.size:
            yield _short(file, at, FRAME.size, "FRAME")
            return
        reason = _frame_problem(data, seed)
        if reason:
            end = _next_frame(file, at + FRAME_ALIGNMENT, seed)
            yield Part(
                at,
                end - at,
                "garbage",
                problem=f"no frame: {reason}" + ("" if end < file.size else "; nothing valid follows"),
            )
            at = end
            continue
        frame = Part(at, 0, "FRAME", values=_unpack(FRAME, data, 0, at))
        length = frame.value("length")
        body = at + FRAME.size
        end = min(padded(body + length, FRAME_ALIGNMENT), file.size)
        frame.size, frame.label = end - at, f"LSN {frame.value('lsn')}"
        if end > start:
            yield from _frame(file, frame, body, length, lsn)
        lsn = frame.value("lsn") + 1
        at = end


def _frame_problem(data: bytes, seed: int) -> str:
    magic, kind, *_, crc = FRAME.unpack_from(data)
    if magic != FRAME_MAGIC:
        return f"the magic is {magic:#06x}"
    if dispatch.kernels.crc32c(data[:-4], seed) != crc:
        return "the header's checksum is wrong"
    return "" if kind in set(FrameType) else f"type {kind} is unknown"


def _next_frame(file: StoreFile, at: int, seed: int) -> int:
    """Offset of the next valid frame header, or the file's length."""
    while at < file.size:
        part = file.read(at, _CHUNK + FRAME.size)
        found = part.find(_FRAME_MAGIC_BYTES)
        while 0 <= found < _CHUNK:
            data = part[found : found + FRAME.size]
            if (at + found) % FRAME_ALIGNMENT == 0 and len(data) == FRAME.size and not _frame_problem(data, seed):
                return at + found
            found = part.find(_FRAME_MAGIC_BYTES, found + 1)
        at += _CHUNK
    return file.size


def _frame(file: StoreFile, frame: Part, body: int, length: int, lsn: int) -> Iterator[Part]:
    """A frame and the operations in it."""
    if body + length > file.size:
        frame.problem = f"the file ends {body + length - file.size} bytes before the commit does"
    elif file.crc(body, length) != frame.value("payload_crc"):
        frame.problem = "the commit's checksum is wrong: torn, or damaged"
    elif frame.value("lsn") != lsn:
        frame.problem = f"LSN {lsn} was to follow"
    yield frame
    at, id_ = body, frame.value("first_id")
    while at < body + length and not (frame.problem and at + OP.size > file.size):
        operation = _operation(file, at, body + length, id_, with_vector=True)
        yield operation
        if operation.problem:
            return
        id_ += operation.value("kind") == OpKind.REMEMBER
        at += operation.size


def _operation(file: StoreFile, at: int, end: int, id_: int, *, with_vector: bool) -> Part:
    """An OP with what stands behind it, decoded as far as its own lengths allow."""
    data = file.read(at, OP.size)
    if len(data) < OP.size or at + OP.size > end:
        return Part(at, end - at, "OP", problem="an operation that is cut off", depth=1)
    part = Part(at, OP.size, "OP", values=_unpack(OP, data, 0, at), depth=1)
    kind, flags = part.value("kind"), part.value("flags")
    sizes = [part.value(f"{name}_bytes") for name in ("extra", "text", "vector")]
    total = OP.size + sizes[0] + sizes[1] + (sizes[2] if with_vector else 0)
    if kind not in set(OpKind):
        part.problem = f"kind {kind} is unknown"
        return part
    part.label = f"remember {id_}" if kind == OpKind.REMEMBER else OpKind(kind).name.lower()
    if at + total > min(end, file.size):
        part.problem = f"{total} bytes, beyond the end of what holds it"
        return part
    part.size = total
    text_at = at + OP.size + sizes[0]
    if kind != OpKind.REMEMBER:
        ids = np.frombuffer(file.read(text_at, min(sizes[1], 8 * _NUMBERS_SHOWN) // 8 * 8), "<u8").tolist()
        part.told = {"count": sizes[1] // 8, "ids": ids}
        if sizes[0]:
            part.told["name"] = _name(file.read(at + OP.size, min(sizes[0], _EXTRA_BYTES_MAX)))
        return part
    part.told["flags"] = _flags(flags)
    try:
        extra = decode_extra(file.read(at + OP.size, min(sizes[0], _EXTRA_BYTES_MAX)))
        part.told |= {"session": extra.session, "namespace": list(extra.namespace), "key": extra.key}
        part.told |= {"metadata": extra.metadata, "refs": list(extra.refs)}
    except ValueError as error:
        part.problem = str(error)
    if flags & OpFlag.TEXT_REF:
        try:
            offset, count, crc = decode_blob_ref(memoryview(file.read(text_at, sizes[1])))
            part.told["text_at"] = f"offset {offset} of blobs.arena, {count} bytes, crc {crc:#010x}"
        except ValueError as error:
            part.problem = part.problem or str(error)
    else:
        part.told["text"] = _text(file, text_at, sizes[1])
    if with_vector and flags & OpFlag.VECTOR:
        part.told["vector"] = _vector(file, text_at + sizes[1], sizes[2])
    part.told = {name: value for name, value in part.told.items() if value not in (None, [], {})}
    return part


def _name(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        return f"not a name ({error})"


def _text(file: StoreFile, at: int, size: int) -> str:
    data = file.read(at, min(size, _TEXT_SHOWN))
    return data.decode("utf-8", "ignore") + (f"... ({size:,} bytes)" if size > _TEXT_SHOWN else "")


def _vector(file: StoreFile, at: int, size: int) -> str:
    rows = file.manifest.rows if file.manifest else None
    if rows == "int8":
        scale = np.frombuffer(file.read(at, 4), "<f4")
        codes = np.frombuffer(file.read(at + 4, min(_NUMBERS_SHOWN, size - 4)), np.int8).tolist()
        return f"int8[{size - 4}] = {scale[0]:.6g} * [{_some(codes, size - 4)}]"
    if rows == "float32":
        count = min(_NUMBERS_SHOWN, size // 4)
        return f"float32[{size // 4}] = [{_some(np.frombuffer(file.read(at, 4 * count), '<f4').tolist(), size // 4)}]"
    return f"{size} bytes"


def _some(numbers: list[Any], total: int) -> str:
    shown = ", ".join(f"{number:.4g}" for number in numbers)
    return shown + (", ..." if total > len(numbers) else "")


# -- generation files ---------------------------------------------------------------------------------------------


def _generation_file(file: StoreFile, start: int) -> Iterator[Part]:
    header = _header(file, FILE_HEADER, FILE_MAGIC)
    kind = _kind(file, header)
    counted = file.size
    entry = file.entry()
    if header.values:
        header.label = kind.name if kind else "unknown kind"
        if kind is None:
            header.problem = header.problem or f"kind {header.value('kind')} is unknown"
        if entry is not None:
            counted = min(entry.bytes, file.size)
            header.told = {"counted_bytes": entry.bytes, "counted_records": entry.count}
            if entry.bytes > file.size:
                header.problem = header.problem or f"the MANIFEST counts {entry.bytes} bytes, the file has {file.size}"
        elif file.manifest is not None and kind != FileKind.SALIENCE:
            header.told["note"] = (
                "the MANIFEST does not name it: work of a checkpoint that was not finished, or texts written ahead"
            )
        if (
            kind is not None
            and kind >= FileKind.EVENT_DEATHS
            and file.crc(FILE_HEADER.size, counted - FILE_HEADER.size) != header.value("content_crc")
        ):
            header.problem = header.problem or "the content's checksum is wrong"
    yield header
    if kind is None or not header.values:
        return
    if kind == FileKind.BLOBS:
        yield from _blobs(file, start, counted)
    elif kind == FileKind.NAMES:
        yield _names(file, counted)
    elif kind == FileKind.CODES or kind in RECORDS:
        yield from _records(file, kind, header, start, counted)
    elif kind.name == "PAGES":
        yield from _pages(file, start, counted)
    elif kind == FileKind.TIME_BLOCKS:
        yield from _time_blocks(file, counted)
    else:
        yield Part(data_offset(kind), counted - data_offset(kind), "content", is_record=False)
    if counted < file.size:
        yield Part(counted, file.size - counted, "space", told={"note": "not counted by the MANIFEST"}, is_record=False)


def _kind(file: StoreFile, header: Part) -> FileKind | None:
    """As the header says; as the name says where the header is damaged."""
    number = header.value("kind") if header.values else 0
    if number in set(FileKind):
        return FileKind(number)
    return _FILE_NAMES.get(file.name.partition(".")[0])


def _records(file: StoreFile, kind: FileKind, header: Part, start: int, end: int) -> Iterator[Part]:
    layout = RECORDS.get(kind)
    if layout is not None:
        size = layout.size
    elif file.manifest is not None:
        size = row_stride(file.manifest.dim, file.manifest.rows)
    else:
        size = header.value("record_bytes")
    if size <= 0:
        yield Part(data_offset(kind), end - data_offset(kind), "records", problem="their length is not known")
        return
    begin = data_offset(kind)
    index = max(0, -(-(start - begin) // size))
    at = begin + index * size
    while at < end:
        data = file.read(at, min(size, end - at))
        if len(data) < size:
            yield _short(file, at, size, layout.name if layout else "codes")
            return
        if layout is None:
            yield Part(at, size, "codes", f"row {index}", told={"codes": _codes(file, data)})
        else:
            yield _record(layout, kind, data, at, index)
        index, at = index + 1, at + size


def _pages(file: StoreFile, start: int, end: int) -> Iterator[Part]:
    """The header of the pages, the curve, one PAGE a page; centroids and blocks as the stretch that they are."""
    layouts = {layout.name: layout for layout in LAYOUTS}
    head = layouts["PAGES_HEADER"]
    at = FILE_HEADER.size
    data = file.read(at, head.size)
    if len(data) < head.size:
        yield _short(file, at, head.size, head.name, record=False)
        return
    header = Part(at, head.size, head.name, values=_unpack(head, data, 0, at), is_record=False)
    yield header
    at += head.size
    runs = [("CURVE_POINT", "curve_count", "point"), ("PAGE", "groups", "group"), ("PAGE", "pages", "page")]
    for name, counted_by, what in runs:
        layout = layouts[name]
        stop = at + layout.size * header.value(counted_by)
        index = max(0, -(-(start - at) // layout.size))
        for offset in range(at + index * layout.size, min(stop, end), layout.size):
            data = file.read(offset, layout.size)
            if len(data) < layout.size:
                yield _short(file, offset, layout.size, name)
                return
            yield Part(offset, layout.size, name, f"{what} {index}", _unpack(layout, data, 0, offset))
            index += 1
        at = padded(stop, ROW_ALIGNMENT) if name == "CURVE_POINT" else stop
    problem = f"the file ends {at - end} bytes before the last page" if at > end else ""
    yield Part(min(at, end), max(0, end - at), "centroids and blocks", problem=problem, is_record=False)


def _time_blocks(file: StoreFile, end: int) -> Iterator[Part]:
    """The header of the time blocks; their columns as the stretch that they are."""
    at = FILE_HEADER.size
    data = file.read(at, TIME_BLOCKS_HEADER.size)
    if len(data) < TIME_BLOCKS_HEADER.size:
        yield _short(file, at, TIME_BLOCKS_HEADER.size, TIME_BLOCKS_HEADER.name, record=False)
        return
    values = _unpack(TIME_BLOCKS_HEADER, data, 0, at)
    yield Part(at, TIME_BLOCKS_HEADER.size, TIME_BLOCKS_HEADER.name, values=values, is_record=False)
    at += TIME_BLOCKS_HEADER.size
    yield Part(at, max(0, end - at), "blocks", is_record=False)


def _codes(file: StoreFile, data: bytes) -> str:
    rows, dim = (file.manifest.rows, file.manifest.dim) if file.manifest else ("int8", len(data))
    if rows == "int8":
        return f"int8[{dim}] = [{_some(np.frombuffer(data, np.int8)[:_NUMBERS_SHOWN].tolist(), dim)}]"
    return f"float32[{dim}] = [{_some(np.frombuffer(data, '<f4')[:_NUMBERS_SHOWN].tolist(), dim)}]"


def _record(layout: Layout, kind: FileKind, data: bytes, at: int, index: int) -> Part:
    part = Part(at, layout.size, layout.name, str(index), _unpack(layout, data, 0, at))
    if kind == FileKind.EVENTS:
        part.told = {"flags": _flags(part.value("flags"))} if part.value("flags") else {}
        if event_crc(memoryview(data)) != part.value("crc"):
            part.problem = "the event's checksum is wrong"
    elif layout.name == "DEATH":
        lsn = part.value("lsn")
        ended = f"{'replaced' if lsn & SUPERSEDED else 'forgotten'} by LSN {lsn & ~SUPERSEDED}"
        part.told = {"state": ended if lsn else "alive"}
    elif kind in (FileKind.EDGES, FileKind.LINKS, FileKind.REVERSE):
        number = part.value("kind")
        part.told = {"kind": EdgeKind(number).name.lower()} if number in set(EdgeKind) else {}
    return part


def _blobs(file: StoreFile, start: int, end: int) -> Iterator[Part]:
    at = data_offset(FileKind.BLOBS)
    while at < end:
        data = file.read(at, BLOB.size)
        if len(data) < BLOB.size:
            yield _short(file, at, BLOB.size, "BLOB")
            return
        size = int.from_bytes(data[4:8], "little")
        id_ = int.from_bytes(data[8:16], "little")
        total = padded(BLOB.size + size, BLOB_ALIGNMENT)
        if total + at > start:
            blob = Part(at, total, "BLOB", f"memory {id_}" if id_ else "", _unpack(BLOB, data, 0, at))
            body = at + BLOB.size
            if body + size > file.size:
                blob.problem = f"it ends {body + size - file.size} bytes behind the file"
            elif file.crc(body, size, dispatch.kernels.crc32c(data[4:])) != int.from_bytes(data[:4], "little"):
                blob.problem = "the checksum is wrong"
            is_text = not id_ and not int.from_bytes(data[16:24], "little")
            if is_text:
                blob.label = "text"
                blob.told["text"] = _text(file, body, min(size, max(0, file.size - body)))
            yield blob
            if not is_text and body + size <= file.size:
                yield _operation(file, body, body + size, id_, with_vector=False)
        at += total


def _names(file: StoreFile, end: int) -> Part:
    at = FILE_HEADER.size
    part = Part(at, end - at, "names", is_record=False)
    try:
        part.told = {str(name): values for name, values in msgpack.unpackb(file.read(at, end - at)).items()}
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        part.problem = f"not a map of names ({error})"
    return part
