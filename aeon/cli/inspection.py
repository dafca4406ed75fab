"""`aeon inspect FILE`: what is in a file of a store, byte by byte; or in a store, file by file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from aeon import manifest as manifests
from aeon.check import walk
from aeon.cli.arguments import Arguments
from aeon.cli.parts import Part, StoreFile, parts_of
from aeon.cli.terminal import Terminal, printable, wrap
from aeon.cli.values import show_bytes, show_count, show_time
from aeon.errors import AeonError, NotAStoreError
from aeon.files import OsFileSystem, absolute
from aeon.manifest import MANIFEST_NAME

_MEANING_COLUMNS_MIN = 16  # in less, a column of text is harder to read than a line that the terminal breaks
_HIDDEN = ("reserved", "magic")  # on the one line of a record; --fields shows them


def inspect(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon inspect FILE`."""
    files, path = OsFileSystem(), absolute(arguments.file)
    if files.is_dir(path):
        return _inspect_store(files, path, terminal)
    file = StoreFile(files, path)
    try:
        return _show(arguments, terminal, file, parts_of(file, arguments.offset))
    finally:
        file.file.close()


def _show(arguments: Arguments, terminal: Terminal, file: StoreFile, parts: Iterator[Part]) -> int:
    problems = shown = inside = 0
    if not terminal.as_json:
        terminal.line(
            f"{terminal.styled(printable(file.path), 'title')}  {file.size:,} bytes ({show_bytes(file.size)})"
        )
    for part in parts:
        if not part.depth:
            _tell_hidden(terminal, inside - arguments.limit if arguments.limit else 0)
            inside = 0
            if part.is_record and arguments.limit and shown == arguments.limit:
                terminal.note(f"more follows: --offset {part.offset} goes on there, --limit 0 shows all")
                break
            shown += part.is_record
        problems += bool(part.problem)
        inside += part.is_record and part.depth > 0
        if arguments.limit and inside > arguments.limit:
            continue
        if terminal.as_json:
            terminal.emit(_as_json(part))
        else:
            _show_part(terminal, part, arguments.fields or (not part.is_record and bool(part.values)))
    else:
        _tell_hidden(terminal, inside - arguments.limit if arguments.limit else 0)
    if problems:
        terminal.note(f"{arguments.file}: {show_count(problems, 'problem')} found")
    return 1 if problems else 0


def _tell_hidden(terminal: Terminal, count: int) -> None:
    if count > 0 and not terminal.as_json:
        terminal.line(f"{'':>16}... {show_count(count, 'more operation')}; --limit 0 shows all")


def _as_json(part: Part) -> dict[str, Any]:
    return {
        "offset": part.offset,
        "bytes": part.size,
        "structure": part.layout,
        "label": part.label,
        "fields": {value.name: value.value for value in part.values},
        "decoded": part.told,
        "problem": part.problem,
    }


def _show_part(terminal: Terminal, part: Part, by_field: bool) -> None:
    indent = "  " * part.depth
    head = f"{part.layout} {part.label}".rstrip()
    place = f"{part.offset:>12,}  {indent}"
    problem = f"  ✗ {printable(part.problem)}" if part.problem else ""
    if by_field or not part.values:
        told = "" if part.told and by_field else _told(part)
        _hang(terminal, place, head, f"{told}", problem)
        if by_field:
            _show_fields(terminal, part, indent)
        return
    told_names = set(part.told)
    values = [
        f"{value.name}={value.shown}"
        for value in part.values
        if value.name not in _HIDDEN and value.name not in told_names and not value.name.endswith("crc")
    ]
    _hang(terminal, place, head, " ".join([*values, _told(part)]).strip(), problem)


def _hang(terminal: Terminal, place: str, head: str, rest: str, problem: str) -> None:
    """One structure: place and name in front, what it holds behind, wrapped under itself on a terminal."""
    indent = len(place) + 2
    text = printable(rest)
    lines = (
        wrap(f"{head}  {text}".rstrip(), terminal.width - indent)
        if terminal.interactive
        else [f"{head}  {text}".rstrip()]
    )
    first = lines[0]
    styled = terminal.styled(head, "name") + first[len(head) :] if first.startswith(head) else first
    if problem and len(lines) == 1:
        styled, problem = styled + terminal.styled(problem, "bad"), ""
    terminal.line(terminal.styled(place, "dim") + styled)
    for line in lines[1:]:
        terminal.line(" " * indent + line)
    if problem:
        terminal.line(" " * (indent - 2) + terminal.styled(problem, "bad"))


def _show_fields(terminal: Terminal, part: Part, indent: str) -> None:
    width = max((len(value.name) for value in part.values), default=0)
    shown = max((len(value.shown) for value in part.values if len(value.shown) <= 40), default=0)
    for value in part.values:
        head = f"{indent}{value.name.ljust(width)}  {printable(value.shown).ljust(shown)}  "
        room = terminal.width - 16 - len(head)
        meaning = printable(value.meaning)
        lines = wrap(meaning, room) if terminal.interactive and room > _MEANING_COLUMNS_MIN else [meaning]
        for n, line in enumerate(lines):
            front = f"{terminal.styled(f'{value.offset:>14,}', 'dim')}  {head}" if n == 0 else " " * (16 + len(head))
            terminal.line(front + terminal.styled(line, "dim"))
    if part.told:
        told = printable(_told(part))
        for line in wrap(told, terminal.width - 18) if terminal.interactive else [told]:
            terminal.line(f"{'':>14}  {indent}{line}")


def _told(part: Part) -> str:
    note = part.told.get("note", "")
    pairs = [f"{name}={_value(value)}" for name, value in part.told.items() if name != "note"]
    return " ".join([*pairs, f"({note})" if note else ""]).strip()


def _value(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "|".join(value) if len(value) < 5 else ", ".join(value)
    return repr(value) if isinstance(value, (str, dict, list)) else str(value)


# -- a store ------------------------------------------------------------------------------------------------------


def _inspect_store(files: OsFileSystem, root: str, terminal: Terminal) -> int:
    problem, counted = "", {}
    manifest = None
    try:
        manifest = manifests.load(files, root)
        counted = {entry.path: entry for entry in manifest.files.values()}
    except NotAStoreError:
        raise
    except AeonError as error:
        problem = str(error)
    rows = []
    for path in walk(files, root):
        name = os.path.relpath(path, root).replace(os.sep, "/")
        size = os.stat(path).st_size
        entry = counted.get(name)
        records = f"{entry.count:,}" if entry and entry.count else ""
        rows.append((name, size, records, _what(name, entry is not None)))
    if terminal.as_json:
        for name, size, _, what in rows:
            entry = counted.get(name)
            terminal.emit(
                {
                    "file": name,
                    "bytes": size,
                    "counted_bytes": entry.bytes if entry else None,
                    "count": entry.count if entry else None,
                    "what": what,
                }
            )
    else:
        terminal.line(terminal.styled(printable(root), "title"))
        if manifest is not None:
            terminal.line(
                f"made {show_time(manifest.created)} UTC; {manifest.dim} dims, {manifest.rows}, "
                f"{manifest.embedder or 'vectors of its caller'}; generation {manifest.generation} holds LSN "
                f"{manifest.lsn}; "
                f"the log goes on in segment {manifest.segment}"
            )
        terminal.line()
        terminal.table(
            ("bytes", "records", "file", "what it is"),
            [(f"{size:,}", records, name, what) for name, size, records, what in rows],
            right=(0, 1),
        )
    if problem:
        terminal.note(problem)
    return 1 if problem else 0


def _what(name: str, counts: bool) -> str:
    """One line about a file, by its name."""
    if name == MANIFEST_NAME:
        return "which files count, and how many bytes of each"
    if name == "SALIENCE":
        return "how often memories were recalled"
    if name == "LOCK":
        return "the writer's lock"
    if name.startswith("wal/"):
        return "log: commits since the generation" if name.endswith(".wal") else "not aeon's"
    known = {
        "blobs": "texts and metadata",
        "codes": "vectors",
        "rows": "ids and scales of the vectors",
        "events": "events, 128 bytes each",
        "event-deaths": "which events ended",
        "row-deaths": "which vectors ended",
        "keys": "keys to newest versions",
        "names": "sessions, namespaces, fields",
        "sessions": "where a session's events are",
        "postings": "events by session",
        "edges": "refs, and versions replaced",
        "links": "edges made later",
        "reverse": "all edges by what they reach",
        "archived": "memories out of recall",
        "time-blocks": "centroids of stretches of time",
        "pages": "the index: vectors by neighbourhood",
    }
    told = known.get(name.rpartition("/")[2].partition(".")[0], "not aeon's")
    return told if counts or told == "not aeon's" else f"{told}; not in the MANIFEST"
