"""Reading what is to be ingested: lines, and from lines records. Nothing is held longer than a line or paragraph."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aeon.cli.values import CommandError, as_microseconds, from_json
from aeon.format import ROLES, TEXT_BYTES_MAX

LINE_BYTES_MAX = 2 * TEXT_BYTES_MAX  # a line is a text and what is around it; JSON may take two bytes for one
JSONL, TEXT = "jsonl", "text"
_SUFFIXES = {".jsonl": JSONL, ".ndjson": JSONL, ".txt": TEXT, ".text": TEXT, ".md": TEXT}

# How data sets and logs call the same roles. A *speaker* called system is the one a user talks to.
_ROLE_ALIASES = {
    "human": "user",
    "customer": "user",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "agent": "assistant",
    "chatbot": "assistant",
    "developer": "system",
    "function": "tool",
}
_SPEAKER_ALIASES = {**_ROLE_ALIASES, "system": "assistant"}
_SESSION_FIELDS = ("session", "session_id", "dialogue", "dialogue_id", "conversation", "conversation_id")
_TIME_FIELDS = ("timestamp", "created_at")


class BadLine(CommandError):
    """A line that cannot be read as a record."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line:,}: {message}")
        self.line = line


@dataclass
class Record:
    """One memory to be; `line` to `end` are its lines in the file, from 1 on (end 0: one line)."""

    line: int
    text: str
    session: str | None = None
    role: str = "user"
    timestamp: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    vector: Any = None
    namespace: tuple[str, ...] = ()
    key: str | None = None
    id: int | None = None
    parent: int | None = None
    refs: tuple[int, ...] = ()
    end: int = 0


class Source:
    """A file that is read line by line, gzipped or not; a context manager.

    Attributes
    ----------
    name : the file's name without directory and suffix; a session is called so. size : bytes, None if nobody knows.
    """

    def __init__(self, path: str) -> None:
        self.path = "stdin" if path == "-" else path
        self._is_stdin = path == "-"
        if os.path.isdir(path):
            raise CommandError(f"{path} is a directory; a file is needed")
        opened: Any = sys.stdin.buffer if self._is_stdin else open(path, "rb")  # noqa: SIM115 - closed by __exit__
        self._raw: io.BufferedReader = opened if hasattr(opened, "peek") else io.BufferedReader(opened)
        self.size = None if self._is_stdin else os.stat(path).st_size or None  # a pipe says 0
        stem = Path(self.path)
        if stem.suffix == ".gz":
            stem = stem.with_suffix("")
        self.name = stem.stem
        self._suffix = stem.suffix.lower()
        self._lines: io.BufferedReader | gzip.GzipFile = self._raw
        if self._raw.peek(2)[:2] == b"\x1f\x8b":
            self._lines = gzip.GzipFile(fileobj=self._raw)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_stdin:
            self._raw.close()

    def position(self) -> int:
        """Bytes of the file read so far."""
        return 0 if self.size is None else self._raw.tell()

    def guess_format(self) -> str:
        """The format: by the name, of stdin by the first byte that is no white space."""
        if self._is_stdin:
            head = self._lines.peek(512)
            return JSONL if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else TEXT
        if self._suffix in _SUFFIXES:
            return _SUFFIXES[self._suffix]
        if self._suffix == ".json":
            raise CommandError(
                f"{self.path} is one JSON document; an object a line is needed: jq -c '.[]' {self.path} makes them"
            )
        raise CommandError(f"{self.path}: not .jsonl, .ndjson, .txt or .md; say --format jsonl or --format text")

    def lines(self, first: int = 1) -> Iterator[tuple[int, str | BadLine]]:
        """Lines from number `first` on, without their ends, or what is wrong with them."""
        number = 0
        while True:
            try:
                data = self._lines.readline(LINE_BYTES_MAX + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise BadLine(number + 1, f"the gzipped file is damaged ({error})") from error
            if not data:
                return
            number += 1
            if len(data) > LINE_BYTES_MAX:
                raise BadLine(number, f"longer than {LINE_BYTES_MAX:,} bytes")
            if number < first:
                continue
            if number == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, data.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                reason = f"not UTF-8: byte {error.start + 1} of the line is {data[error.start]:#04x}"
                yield number, BadLine(number, "binary data, not text" if b"\0" in data else reason)


# -- texts --------------------------------------------------------------------------------------------------------


def text_records(source: Source, *, split: str, first: int) -> Iterator[Record | BadLine]:
    """A record a paragraph (text between empty lines) or a line; empty ones are left out."""
    paragraph: list[str] = []
    start = size = number = 0
    for number, line in source.lines(first):
        if isinstance(line, BadLine):
            yield line
        elif split == "line":
            if line.strip():
                yield Record(number, line.strip())
        elif line.strip():
            if not paragraph:
                start, size = number, 0
            paragraph.append(line.rstrip())
            size += len(line) + 1
            if size > TEXT_BYTES_MAX:
                raise BadLine(
                    start,
                    f"a paragraph of more than {TEXT_BYTES_MAX:,} bytes; --split line makes a memory of each line",
                )
        elif paragraph:
            yield Record(start, "\n".join(paragraph), end=number)
            paragraph = []
    if paragraph:
        yield Record(start, "\n".join(paragraph), end=number)


# -- JSON lines ---------------------------------------------------------------------------------------------------


def json_objects(source: Source, first: int = 1) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """Objects with their line numbers, or what is wrong with the line; empty lines are left out."""
    for number, line in source.lines(first):
        if isinstance(line, BadLine):
            yield number, line
        elif line.strip():
            yield number, _parse(number, line)


def _parse(number: int, line: str) -> dict[str, Any] | BadLine:
    try:
        value = json.loads(line)
    except RecursionError:
        return BadLine(number, "nested too deep")
    except json.JSONDecodeError as error:
        return BadLine(number, f"not JSON: {error.msg} at column {error.colno}")
    except ValueError as error:
        return BadLine(number, f"not JSON: {error}")
    return value if isinstance(value, dict) else BadLine(number, f"a JSON object is needed, not {_kind(value)}")


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def read_turn(number: int, fields: dict[str, Any], *, session_field: str | None) -> Record | None:
    """Make a record of one object in any of the common shapes; None if it has no text. Takes `fields` apart."""
    text = _take_text(number, fields)
    metadata = _take_metadata(number, fields)
    session, session_from = _take_session(number, fields, session_field)
    role = _take_role(number, fields, metadata)
    timestamp = _take_time(number, fields)
    vector = _vector(number, fields.pop("vector", None))
    for name, value in fields.items():
        if name != session_from:
            metadata.setdefault(name, value)
    if not text.strip():
        return None
    return Record(number, text, session, role, timestamp, metadata, vector)


def _take_text(number: int, fields: dict[str, Any]) -> str:
    name = "text" if "text" in fields else "content"
    if name not in fields:
        raise BadLine(number, f'neither "text" nor "content" (it has {", ".join(list(fields)[:6]) or "nothing"})')
    value = fields.pop(name)
    if isinstance(value, list):  # parts of a message; pictures and calls are not text
        value = "\n".join(
            part if isinstance(part, str) else str(part.get("text") or "")
            for part in value
            if isinstance(part, (str, dict))
        )
    if value is None:  # a turn that only calls a tool
        return ""
    if not isinstance(value, str):
        raise BadLine(number, f'"{name}" is {_kind(value)}, not a text')
    return value


def _take_metadata(number: int, fields: dict[str, Any]) -> dict[str, Any]:
    value = fields.pop("metadata", None)
    if value is not None and not isinstance(value, dict):
        raise BadLine(number, f'"metadata" is {_kind(value)}, not an object')
    return value or {}


def _unwrapped(number: int, metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as it was before export made JSON of it."""
    try:
        found = from_json(metadata)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadLine(number, f'"metadata": {error}') from None
    if not isinstance(found, dict):
        raise BadLine(number, '"metadata" is one wrapped value, not an object')
    return found


def _take_session(number: int, fields: dict[str, Any], wanted: str | None) -> tuple[str | None, str]:
    """The session and the field it came from. A number beside a text is a part of what the text names."""
    if wanted is not None:
        if fields.get(wanted) is None:
            raise BadLine(number, f"no field {wanted!r} to name the session")
        return str(fields[wanted]), wanted
    for kind in (str, int):
        for name in _SESSION_FIELDS:
            if type(fields.get(name)) is kind and fields[name] != "":
                return str(fields[name]), name
    return None, ""


def _take_role(number: int, fields: dict[str, Any], metadata: dict[str, Any]) -> str:
    """The role; what it was called goes to the metadata if that says more."""
    for name, aliases in (("role", _ROLE_ALIASES), ("speaker", _SPEAKER_ALIASES)):
        value = fields.get(name)
        if value is None:
            continue
        del fields[name]
        if not isinstance(value, str):
            raise BadLine(number, f'"{name}" is {_kind(value)}, not a text')
        called = value.strip().lower()
        role = aliases.get(called, called)
        if role not in ROLES:
            role = "user"
        if role != value:
            metadata.setdefault(name, value)
        return role
    return "user"


def _take_time(number: int, fields: dict[str, Any]) -> int | None:
    for name in _TIME_FIELDS:
        if fields.get(name) is not None:
            try:
                return as_microseconds(fields.pop(name))
            except ValueError as error:
                raise BadLine(number, f'"{name}": {error}') from None
    return None


def _vector(number: int, value: Any) -> Any:
    """A vector as float32[dim]; JSON has it as a list, or as base64 of little-endian float32."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        if isinstance(value, list):
            with np.errstate(over="ignore"):  # infinite, and refused as such
                vector = np.array(value, np.float32)
            if vector.ndim == 1 and len(vector):
                return vector
    except (ValueError, TypeError, OverflowError):
        pass
    raise BadLine(number, '"vector" is neither a list of numbers nor base64 of float32')


def read_exported(number: int, fields: dict[str, Any]) -> Record:
    """Make a record of one line that `aeon export` wrote."""
    text = fields.get("text")
    if not isinstance(text, str):
        raise BadLine(number, '"text" is missing: not a line of an export; `aeon ingest` reads other shapes')
    session, role, timestamp, key = (fields.get(name) for name in ("session", "role", "timestamp", "key"))
    if not isinstance(session, str) or role not in ROLES:
        raise BadLine(
            number, '"session" or "role" is missing: not a line of an export; `aeon ingest` reads other shapes'
        )
    if isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise BadLine(number, '"timestamp" is not a whole number of microseconds')
    if key is not None and not isinstance(key, str):
        raise BadLine(number, '"key" is not a text')
    namespace, refs = fields.get("namespace") or [], fields.get("refs") or []
    if not isinstance(namespace, list) or not all(isinstance(part, str) for part in namespace):
        raise BadLine(number, '"namespace" is not a list of texts')
    ids = [fields.get("id"), fields.get("parent"), *(refs if isinstance(refs, list) else [refs])]
    if any(id_ is not None and (isinstance(id_, bool) or not isinstance(id_, int)) for id_ in ids):
        raise BadLine(number, '"id", "parent" or "refs" is not an id')
    return Record(
        number,
        text,
        session,
        role,
        timestamp,
        _unwrapped(number, _take_metadata(number, dict(fields))),
        _vector(number, fields.get("vector")),
        tuple(namespace),
        key,
        ids[0],
        ids[1],
        tuple(refs),
    )
