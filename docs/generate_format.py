"""Write the generated parts of FORMAT.md: run `python docs/generate_format.py` after a change of aeon/format.py.

Between `<!-- begin:NAME -->` and `<!-- end:NAME -->` stands what `block(NAME)` returns; everything else is prose. The
tests fail when the two differ, and decode a real store with nothing but the tables.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from pathlib import Path
from unittest import mock

import numpy as np

import aeon
from aeon import format as fmt
from aeon import opening

DOCUMENT = Path(__file__).with_name("FORMAT.md")
_BLOCK = re.compile(r"(<!-- begin:([A-Z_]+) -->\n).*?(<!-- end:\2 -->)", re.DOTALL)
_CELL = 8  # characters a byte is wide in a diagram


def diagram(layout: fmt.Layout) -> str:
    """A record drawn in rows of eight bytes."""
    cells: list[tuple[int, int, str]] = []  # (first byte, bytes, label) within one row
    for field in layout.fields:
        at, end = field.offset, field.offset + np.dtype(field.type).itemsize
        label = field.name
        while at < end:
            stop = min(end, (at // 8 + 1) * 8)
            cells.append((at, stop - at, label))
            at, label = stop, "..."
    lines, rule = [], "       +" + "-" * (8 * _CELL - 1) + "+"
    lines.append("        " + "".join(f"{n}".ljust(_CELL) for n in range(8)).rstrip())
    for row in range(0, layout.size, 8):
        line = f"{row:5d}  |"
        for first, width, label in cells:
            if first // 8 == row // 8:
                room = width * _CELL - 1
                line += (label if len(label) <= room else label[: room - 1] + "~").center(room) + "|"
        if layout.size - row < 8:
            line = line.ljust(len(rule))
        lines += [rule, line.rstrip()]
    return "\n".join(["```", *lines, rule, "```"])


def table(layout: fmt.Layout) -> str:
    """A record's fields as a table."""
    lines = [f"`{layout.name}`, {layout.size} bytes", "", "| offset | type | field | meaning |", "|---:|---|---|---|"]
    lines += [
        f"| {field.offset} | {field.type} | `{field.name}` | {field.meaning.replace('|', chr(92) + '|')} |"
        for field in layout.fields
    ]
    return "\n".join(lines)


def kinds() -> str:
    """The generation files by kind."""
    lines = ["| kind | file | record | bytes each |", "|---:|---|---|---:|"]
    for kind in fmt.FileKind:
        record = fmt.RECORDS.get(kind)
        suffix = "arena" if kind < fmt.FileKind.EVENT_DEATHS else "tbl"
        name = f"{kind.name.lower().replace('_', '-')}.{suffix}"
        lines.append(
            f"| {int(kind)} | `{name}` | {f'`{record.name}`' if record else 'see below'} | {record.size if record else ''} |"
        )
    return "\n".join(lines)


def limits() -> str:
    """The constants that bound a store."""
    names = [
        "FORMAT_VERSION", "DIM_MAX", "TEXT_BYTES_MAX", "TEXT_BYTES_INLINE", "METADATA_BYTES_MAX", "NAME_BYTES_MAX", "REFS_MAX",
        "ROWS_MAX", "FRAME_BYTES_MAX", "PREVIEW_BYTES_MAX", "FRAME_ALIGNMENT", "BLOB_ALIGNMENT", "ROW_ALIGNMENT",
        "CODE_DATA_OFFSET",
    ]  # fmt: skip
    return "\n".join(
        ["| constant | value |", "|---|---:|", *(f"| `{name}` | {getattr(fmt, name):,} |" for name in names)]
    )


def example_segment() -> bytes:
    """The log of a store that was told two things; the same bytes every time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(opening.uuid, "uuid4", lambda: uuid.UUID(int=0xAE01)),
    ):
        with aeon.open(Path(folder) / "s", 4, durability="off") as store:
            store.remember(
                "Tess moved to Trieste.", [3, 0, 0, -4], session="monday", key="home", timestamp=1_700_000_000_000_000
            )
            store.remember("Ok.", session="monday", role="assistant", parent=1, timestamp=1_700_000_001_000_000)
        return (Path(folder) / "s" / "wal" / fmt.segment_name(1)).read_bytes().rstrip(b"\0") + bytes(8)


def _dump(data: bytes, at: int, layout: fmt.Layout) -> list[str]:
    lines = []
    for field in layout.fields:
        width = np.dtype(field.type).itemsize
        raw = data[at + field.offset : at + field.offset + width]
        value = layout.unpack_from(data, at)[layout.fields.index(field)]
        said = (
            raw.rstrip(b"\0").decode("ascii", "replace")
            if field.name == "magic" and isinstance(value, bytes)
            else value
        )
        lines.append(
            f"{at + field.offset:6d}  {raw.hex(' '):<50}{field.name} = {said.hex() if isinstance(said, bytes) else said}"
        )
    return lines


def _bytes(data: bytes, at: int, count: int, what: str) -> list[str]:
    lines = []
    for start in range(at, at + count, 16):
        raw = data[start : min(start + 16, at + count)]
        lines.append(f"{start:6d}  {raw.hex(' '):<50}{what if start == at else ''}".rstrip())
    return lines


def example() -> str:
    """The example's bytes, field by field."""
    data = example_segment()
    lines = ["SEGMENT_HEADER", *_dump(data, 0, fmt.SEGMENT_HEADER)]
    at = fmt.SEGMENT_HEADER.size
    while data[at : at + 2] == fmt.FRAME_MAGIC.to_bytes(2, "little"):
        lines += ["", "FRAME", *_dump(data, at, fmt.FRAME)]
        length = fmt.FRAME.unpack_from(data, at)[3]
        at += fmt.FRAME.size
        lines += ["OP", *_dump(data, at, fmt.OP)]
        _, _, _, _, extra, text, vector, *_ = fmt.OP.unpack_from(data, at)
        inside = at + fmt.OP.size
        for count, what in ((extra, "extra: msgpack"), (text, "text"), (vector, "vector: scale, codes")):
            lines += _bytes(data, inside, count, what)
            inside += count
        assert inside == at + length
        end = fmt.padded(inside, fmt.FRAME_ALIGNMENT)
        lines += _bytes(data, inside, end - inside, "zeros up to a multiple of 8")
        at = end
    return "\n".join(["```", *(line.rstrip() for line in lines), "```"])


def block(name: str, document: str) -> str:
    """The text of one generated part."""
    layouts = {layout.name: layout for layout in fmt.LAYOUTS}
    if name in layouts:
        return f"{diagram(layouts[name])}\n\n{table(layouts[name])}\n"
    if name == "OTHER_RECORDS":
        rest = [layout for layout in fmt.LAYOUTS if f"<!-- begin:{layout.name} -->" not in document]
        return "\n".join(f"{diagram(layout)}\n\n{table(layout)}\n" for layout in rest) or "None.\n"
    return {"KINDS": kinds, "LIMITS": limits, "EXAMPLE": example}[name]() + "\n"


def render(document: str) -> str:
    """The document with every generated part as it should be."""
    return _BLOCK.sub(lambda found: found[1] + block(found[2], document) + found[3], document)


if __name__ == "__main__":
    DOCUMENT.write_text(render(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
