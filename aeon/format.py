"""Every offset, size and number of aeon's files. No I/O here; docs/FORMAT.md tells the same and a test compares them.

A store is a directory. Integers are little-endian; text is UTF-8; checksums are CRC-32C.

    MANIFEST              MANIFEST_HEADER, then a msgpack map: which files count, and how many bytes of each
    LOCK                  one line of text: pid, host and start time of the writer
    wal/NNNNNNNN.wal      SEGMENT_HEADER, then frames: FRAME, operations, zeros up to a multiple of 8
    gen-NNNNNN/*.arena    FILE_HEADER, then records that are only ever appended (primary data)
    gen-NNNNNN/*.tbl      FILE_HEADER, then a table written once (derived: check proves it, repair rebuilds it)

An operation is OP, then `extra` (msgpack), then text, then the vector. In the log a vector follows its operation; in the
arena the operation stands in the blob file behind a BLOB header and the vector in the code file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

FORMAT_VERSION = 1

_STRUCT_CODES = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i8": "q", "f4": "f"}


@dataclass(frozen=True)
class Field:
    """One field of a record: `type` is a NumPy code ("u4", "S8"); `offset` is counted from the record's start."""

    name: str
    type: str
    offset: int
    meaning: str


class Layout:
    """A record of fixed size: the table is the truth, `dtype` and `pack` / `unpack_from` derive from it."""

    def __init__(self, name: str, size: int, fields: list[tuple[str, str, int, str]]) -> None:
        self.name = name
        self.size = size
        self.fields = tuple(Field(*field) for field in fields)
        codes, end = "<", 0
        for field in self.fields:
            assert field.offset == end, f"{name}.{field.name} begins at {end}, not {field.offset}"
            width = np.dtype(field.type).itemsize
            codes += f"{width}s" if field.type[0] == "S" else _STRUCT_CODES[field.type]
            end += width
        assert end == size, f"{name} has {end} bytes, not {size}"
        self.struct = struct.Struct(codes)
        self.pack = self.struct.pack
        self.pack_into: Callable[..., None] = self.struct.pack_into  # into any writable buffer, ndarrays among them
        self.unpack_from = self.struct.unpack_from
        self.dtype = np.dtype(
            {
                "names": [field.name for field in self.fields],
                "formats": [field.type if field.type[0] == "S" else f"<{field.type}" for field in self.fields],
                "offsets": [field.offset for field in self.fields],
                "itemsize": size,
            }
        )


# -- the manifest -------------------------------------------------------------------------------------------------

MANIFEST_MAGIC = b"AEONMANI"
MANIFEST_HEADER = Layout("MANIFEST_HEADER", 24, [
    ("magic", "S8", 0, "`AEONMANI`"),
    ("version", "u4", 8, "format version; a reader refuses a newer one"),
    ("length", "u4", 12, "bytes of the msgpack map that follows; the file ends there"),
    ("payload_crc", "u4", 16, "CRC-32C of the map"),
    ("header_crc", "u4", 20, "CRC-32C of the 20 bytes before"),
])  # fmt: skip

# -- the log ------------------------------------------------------------------------------------------------------

SEGMENT_MAGIC = b"AEON-LOG"
SEGMENT_HEADER = Layout("SEGMENT_HEADER", 64, [
    ("magic", "S8", 0, "`AEON-LOG`"),
    ("version", "u4", 8, "format version"),
    ("flags", "u4", 12, "bit 0: the segment before this one was synced whole when this one was made"),
    ("uuid", "S16", 16, "the store's uuid"),
    ("segment", "u8", 32, "this segment's number, as in its name"),
    ("first_lsn", "u8", 40, "LSN of the first frame"),
    ("first_id", "u8", 48, "the next id to be given out when the segment was made"),
    ("reserved", "u4", 56, "zero"),
    ("crc", "u4", 60, "CRC-32C of the 60 bytes before"),
])  # fmt: skip
SEGMENT_PREVIOUS_SYNCED = 1

FRAME_MAGIC = 0xA3E0
FRAME_ALIGNMENT = 8
FRAME = Layout("FRAME", 40, [
    ("magic", "u2", 0, "0xA3E0"),
    ("type", "u1", 2, "1 = commit; 0 is never valid"),
    ("flags", "u1", 3, "zero"),
    ("length", "u4", 4, "bytes of operations that follow; then zeros up to a multiple of 8"),
    ("lsn", "u8", 8, "log sequence number: 1 for the store's first commit, then one more each"),
    ("durable_lsn", "u8", 16, "every frame up to this LSN was on disk when this one was written"),
    ("first_id", "u8", 24, "id of the first `remember` in this frame; the others follow"),
    ("payload_crc", "u4", 32, "CRC-32C of the operations"),
    ("header_crc", "u4", 36, "CRC-32C of the 36 bytes before, begun with the segment header's crc"),
])  # fmt: skip
FRAME_BYTES_MAX = 1 << 30  # of one commit; keeps `length` far from 2^32 and a replay's buffer within memory


class FrameType(IntEnum):
    """What a frame holds."""

    COMMIT = 1


# -- operations ---------------------------------------------------------------------------------------------------

OP = Layout("OP", 32, [
    ("kind", "u1", 0, "1 remember, 2 forget, 32 link, 33 unlink, 34 archive, 35 restore, 36 branch"),
    ("role", "u1", 1, "1 user, 2 assistant, 3 system, 4 tool, 5 concept, 6 summary"),
    ("flags", "u1", 2, "bit 0: a vector belongs to it; bit 1: text by reference (BLOB_REF); bit 2: it has a key; bit 3: it has metadata; bit 6: it expires"),
    ("reserved", "u1", 3, "zero"),
    ("extra_bytes", "u4", 4, "bytes of `extra`: of `remember` msgpack [session, [namespace...], key, metadata, [refs...], expires], trailing nils cut; of `link` and `unlink` [kind]; of `branch` [session, session of `parent`]"),
    ("text_bytes", "u4", 8, "bytes of text; of `forget`, `archive`, `restore`: the ids, u64 each; of `link` and `unlink`: src and dst, u64 each, in pairs"),
    ("vector_bytes", "u4", 12, "bytes of the vector: f4 scale, then dim int8 codes; or dim float32"),
    ("parent", "u8", 16, "id of the event this one follows from; 0 = none; of `archive`: the summary that stands for them; of `branch`: the event it continues from"),
    ("timestamp", "i8", 24, "microseconds since 1970-01-01 UTC"),
])  # fmt: skip


class OpKind(IntEnum):
    """What an operation does."""

    REMEMBER = 1
    FORGET = 2
    LINK = 32
    UNLINK = 33
    ARCHIVE = 34
    RESTORE = 35
    BRANCH = 36


class OpFlag:
    """Bits of an operation's and of an event's flags; plain ints, since every commit and every hit tests them."""

    VECTOR = 1
    TEXT_REF = 2
    KEY = 4
    METADATA = 8
    EXPIRES = 64


BLOB_REF = Layout("BLOB_REF", 16, [
    ("offset", "u8", 0, "where the BLOB begins in the blob file"),
    ("bytes", "u4", 8, "bytes of the operation behind the BLOB header"),
    ("crc", "u4", 12, "the BLOB's own crc"),
])  # fmt: skip

ROLES = ("user", "assistant", "system", "tool", "concept", "summary")
ROLE_NUMBERS = {name: number for number, name in enumerate(ROLES, 1)}

# -- generation files ---------------------------------------------------------------------------------------------

FILE_MAGIC = b"AEONFILE"
FILE_HEADER = Layout("FILE_HEADER", 64, [
    ("magic", "S8", 0, "`AEONFILE`"),
    ("version", "u4", 8, "format version"),
    ("kind", "u4", 12, "1 blobs, 2 codes, 3 rows, 4 events, 16 event deaths, 17 row deaths, 18 keys, 19 names, 20 sessions, 21 postings, 22 edges, 23 pages, 32 links, 33 reverse, 34 archived, 35 time blocks, 36 salience"),
    ("uuid", "S16", 16, "the store's uuid"),
    ("count", "u8", 32, "records in a table; 0 in an arena file, whose length the manifest tells"),
    ("generation", "u8", 40, "the generation that made the file"),
    ("record_bytes", "u4", 48, "bytes of one record; 0 where records differ in length"),
    ("content_crc", "u4", 52, "CRC-32C of all bytes behind the header, of a table; 0 in an arena file"),
    ("reserved", "u4", 56, "zero"),
    ("crc", "u4", 60, "CRC-32C of the 60 bytes before"),
])  # fmt: skip


class FileKind(IntEnum):
    """What a generation file holds; below 16 arena files, from 16 on tables."""

    BLOBS = 1
    CODES = 2
    ROWS = 3
    EVENTS = 4
    EVENT_DEATHS = 16
    ROW_DEATHS = 17
    KEYS = 18
    NAMES = 19
    SESSIONS = 20
    POSTINGS = 21
    EDGES = 22
    PAGES = 23
    LINKS = 32
    REVERSE = 33
    ARCHIVED = 34
    TIME_BLOCKS = 35
    SALIENCE = 36  # a file of its own beside the MANIFEST, of no generation


# A generation may lack these. Pages and blocks are made anew; the others are not written where they would be empty, and
# stores made before there were any have none.
OPTIONAL_FILES = frozenset(
    {FileKind.PAGES, FileKind.LINKS, FileKind.REVERSE, FileKind.ARCHIVED, FileKind.TIME_BLOCKS, FileKind.SALIENCE}
)


CODE_DATA_OFFSET = 4096  # codes begin on a page of memory, so that every row is 64-byte aligned in a mapping
ROW_ALIGNMENT = 64  # bytes; a row's stride is a multiple, so kernels need no tail loop

BLOB = Layout("BLOB", 24, [
    ("crc", "u4", 0, "CRC-32C of the rest of this header and of the operation"),
    ("bytes", "u4", 4, "bytes of the operation behind this header; then zeros up to a multiple of 8"),
    ("id", "u8", 8, "the memory's id; 0 for any other operation"),
    ("lsn", "u8", 16, "LSN of its commit; 0 if the text was written ahead of its commit"),
])  # fmt: skip
BLOB_ALIGNMENT = 8

ROW = Layout("ROW", 16, [
    ("id", "u8", 0, "the memory whose vector this is; increasing"),
    ("scale", "f4", 8, "vector = scale * codes; 1.0 in a float32 store"),
    ("crc", "u4", 12, "CRC-32C of id, scale and the row's codes with their padding"),
])  # fmt: skip

EVENT = Layout("EVENT", 128, [
    ("id", "u8", 0, "increasing over the file; gaps where memories were forgotten"),
    ("previous", "u8", 8, "id of the event before this one in its session; 0 = none"),
    ("parent", "u8", 16, "id of the event this one follows from; 0 = none"),
    ("timestamp", "i8", 24, "microseconds since 1970-01-01 UTC"),
    ("session", "u4", 32, "session number"),
    ("namespace", "u4", 36, "namespace number"),
    ("role", "u1", 40, "as in OP"),
    ("flags", "u1", 41, "as in OP"),
    ("preview_bytes", "u1", 42, "bytes of preview in use"),
    ("reserved", "u1", 43, "zero"),
    ("row", "u4", 44, "1 + index of the vector's row; 0 = no vector"),
    ("blob_offset", "u8", 48, "where the BLOB begins in the blob file"),
    ("blob_bytes", "u4", 56, "bytes of the operation behind the BLOB header"),
    ("crc", "u4", 60, "CRC-32C of the other 124 bytes"),
    ("preview", "S64", 64, "the text's first bytes, cut at a character boundary, then zeros"),
])  # fmt: skip
PREVIEW_BYTES_MAX = 64

DEATH = Layout("DEATH", 8, [
    ("lsn", "u8", 0, "0 = alive; else the LSN that ended it, with bit 63 set if an upsert did (still readable by id)"),
])  # fmt: skip
SUPERSEDED = 1 << 63

KEY = Layout("KEY", 24, [
    ("hash", "u8", 0, "BLAKE2b-64 of msgpack [[namespace...], key]; the file is sorted by hash, then id"),
    ("id", "u8", 8, "the newest version"),
    ("created", "i8", 16, "timestamp of the first version"),
])  # fmt: skip

SESSION = Layout("SESSION", 32, [
    ("postings_start", "u8", 0, "index of its first posting"),
    ("postings_count", "u8", 8, "its events, dead ones included"),
    ("live", "u8", 16, "its events that are alive"),
    ("last_id", "u8", 24, "id of its newest event"),
])  # fmt: skip

POSTING = Layout("POSTING", 4, [
    ("event", "u4", 0, "index into the event file; increasing within a session"),
])  # fmt: skip

EDGE = Layout("EDGE", 24, [
    ("src", "u8", 0, "id the edge leaves; the file is sorted by src, then in order of creation"),
    ("dst", "u8", 8, "id the edge reaches"),
    ("kind", "u4", 16, "1 = ref (event to concept or source), 2 = replaces (new version to old)"),
    ("reserved", "u4", 20, "zero"),
])  # fmt: skip

LINK = Layout("LINK", 40, [
    ("src", "u8", 0, "id the edge leaves; `links` is sorted by src, lsn, kind and dst"),
    ("dst", "u8", 8, "id the edge reaches; `reverse`, which holds the edges and parents too, by dst, src, lsn and kind"),
    ("kind", "u4", 16, "1 ref, 2 replaces, 3 parent, 4 causes, 5 derived_from, 6 summarises, 7 contradicts, 8 contains, 9 repeats; 256 + n = the n-th of `kinds` in the names file"),
    ("reserved", "u4", 20, "zero"),
    ("lsn", "u8", 24, "LSN of its commit; 0 = that of src (an edge of `edges`, or a parent)"),
    ("ended", "u8", 32, "LSN of the `unlink` that ended it; 0 = none"),
])  # fmt: skip

ARCHIVED = Layout("ARCHIVED", 32, [
    ("id", "u8", 0, "a memory out of recall; the file is sorted by id, then lsn"),
    ("by", "u8", 8, "the summary that stands for it; 0 = none"),
    ("lsn", "u8", 16, "LSN of the `archive`"),
    ("restored", "u8", 24, "LSN of the `restore` that ended it; 0 = none"),
])  # fmt: skip


# A pages file: PAGES_HEADER, then CURVE_POINT[curve_count], then zeros up to a multiple of 64; PAGE[groups], PAGE[pages];
# their centroids int8[groups + pages, dim]; then the blocks, those of the groups first, in the same order. A block holds 32
# sketches: uint8[dim / 8, 32] sign bits (as `aeon_native.page_layout` says), then f4 factors[32], f4 errors[32],
# f4 scales[32], u4 numbers[32]: of rows, in a group of pages, 0xFFFFFFFF in an empty lane.
PAGES_HEADER = Layout("PAGES_HEADER", 64, [
    ("rows", "u8", 0, "rows below it are in pages, but for some that have ended; the others are scanned"),
    ("dim", "u4", 8, "of the sketches: the store's dim up to a multiple of 64"),
    ("groups", "u4", 12, "groups of pages"),
    ("pages", "u4", 16, "pages"),
    ("curve_count", "u4", 20, "points of the curve that turns a recall target into probes; 0 = not measured"),
    ("blocks", "u8", 24, "blocks of groups and pages together"),
    ("curve_rows", "u8", 32, "living rows when the curve was measured"),
    ("curve_queries", "u4", 40, "queries it was measured with"),
    ("curve_real", "u4", 44, "1 = they were queries that had been asked, 0 = rows of the store"),
    ("reserved", "S16", 48, "zero"),
])  # fmt: skip

CURVE_POINT = Layout("CURVE_POINT", 16, [
    ("probes", "f4", 0, "pages looked at, on average"),
    ("recall_10", "f4", 4, "share of the best 10 that were found"),
    ("recall_100", "f4", 8, "share of the best 100 that were found"),
    ("spread", "f4", 12, "by how much less their centroids may score than the nearest one; 0 in all points = not measured"),
])  # fmt: skip

PAGE = Layout("PAGE", 16, [
    ("scale", "f4", 0, "unit centroid = scale * its int8 codes"),
    ("length", "f4", 4, "sketches are of row - length * unit centroid"),
    ("count", "u4", 8, "sketches"),
    ("blocks", "u4", 12, "blocks they lie in"),
])  # fmt: skip


# A time blocks file: TIME_BLOCKS_HEADER, then columns over blocks, each from a multiple of 64 on: i8 since[blocks], i8
# until[blocks], f4 scales[blocks, 16], u2 starts[blocks, 17], u2 order[blocks, 1024], i1 codes[blocks, 16, stride].
TIME_BLOCKS_HEADER = Layout("TIME_BLOCKS_HEADER", 64, [
    ("blocks", "u8", 0, "blocks; block n is of the rows 1024 n to 1024 n + 1023"),
    ("last_id", "u8", 8, "id of the last block's last row"),
    ("rows", "u4", 16, "rows of a block: 1024"),
    ("centroids", "u4", 20, "centroids of a block: 16"),
    ("stride", "u4", 24, "bytes of a centroid's codes: dim up to a multiple of 64"),
    ("reserved", "S36", 28, "zero"),
])  # fmt: skip


ACCESS = Layout("ACCESS", 24, [
    ("id", "u8", 0, "a memory that was recalled; the file is sorted by id"),
    ("last", "i8", 8, "when last, in microseconds since 1970-01-01 UTC"),
    ("count", "u4", 16, "how often"),
    ("reserved", "u4", 20, "zero"),
])  # fmt: skip


class EdgeKind(IntEnum):
    """What an edge means."""

    REF = 1
    REPLACES = 2
    PARENT = 3
    CAUSES = 4
    DERIVED_FROM = 5
    SUMMARISES = 6
    CONTRADICTS = 7
    CONTAINS = 8
    REPEATS = 9
    NEXT = 10  # of one event of a session to the following one: implied, in no file


USER_KINDS_FROM = 256
USER_KINDS_MAX = 1 << 16


LAYOUTS = (
    MANIFEST_HEADER, SEGMENT_HEADER, FRAME, OP, BLOB_REF, FILE_HEADER, BLOB, ROW, EVENT, DEATH, KEY, SESSION, POSTING, EDGE,
    LINK, ARCHIVED, PAGES_HEADER, CURVE_POINT, PAGE, TIME_BLOCKS_HEADER, ACCESS,
)  # fmt: skip

RECORDS = {
    FileKind.ROWS: ROW,
    FileKind.EVENTS: EVENT,
    FileKind.EVENT_DEATHS: DEATH,
    FileKind.ROW_DEATHS: DEATH,
    FileKind.KEYS: KEY,
    FileKind.SESSIONS: SESSION,
    FileKind.POSTINGS: POSTING,
    FileKind.EDGES: EDGE,
    FileKind.LINKS: LINK,
    FileKind.REVERSE: LINK,
    FileKind.ARCHIVED: ARCHIVED,
    FileKind.SALIENCE: ACCESS,
}

# -- limits -------------------------------------------------------------------------------------------------------

DIM_MAX = 8192  # pairs of int16 products summed in one int32 lane stay below 2^31
TEXT_BYTES_MAX = 256 << 20
TEXT_BYTES_INLINE = 1 << 20  # longer texts go to the arena first and the log carries a reference
METADATA_BYTES_MAX = 1 << 20
NAME_BYTES_MAX = 1024  # of a session, of a key, and of a whole namespace
REFS_MAX = 4096
ROWS_MAX = (1 << 32) - 2  # EVENT.row holds index + 1 in 32 bits

assert FRAME.size % FRAME_ALIGNMENT == 0 and SEGMENT_HEADER.size % FRAME_ALIGNMENT == 0  # frames stay aligned
assert EVENT.size == 2 * ROW_ALIGNMENT  # two cache lines
assert CODE_DATA_OFFSET % ROW_ALIGNMENT == 0 and FILE_HEADER.size <= CODE_DATA_OFFSET
assert TEXT_BYTES_MAX + METADATA_BYTES_MAX < FRAME_BYTES_MAX  # whatever passes the single limits fits a frame


def padded(count: int, alignment: int) -> int:
    """Round `count` up to a multiple of `alignment`."""
    return -(-count // alignment) * alignment


def row_stride(dim: int, rows: str) -> int:
    """Bytes from one row of codes to the next, for `rows` = "int8" or "float32"."""
    return padded(dim * (1 if rows == "int8" else 4), ROW_ALIGNMENT)


def data_offset(kind: FileKind) -> int:
    """Where records begin in a generation file."""
    return CODE_DATA_OFFSET if kind == FileKind.CODES else FILE_HEADER.size


def segment_name(number: int) -> str:
    """Name of a log segment inside `wal/`."""
    return f"{number:08d}.wal"


def generation_name(number: int) -> str:
    """Name of a generation's directory."""
    return f"gen-{number:06d}"


def cut_preview(text: bytes) -> bytes:
    """Return the longest prefix of UTF-8 `text` that fits a preview and ends between characters."""
    if len(text) <= PREVIEW_BYTES_MAX:
        return text
    end = PREVIEW_BYTES_MAX
    while text[end] & 0xC0 == 0x80:  # a continuation byte: the character began before
        end -= 1
    return text[:end]
