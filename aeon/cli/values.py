"""Values on their way between the command line, JSON and a store: times, filters, embedders, metadata."""

from __future__ import annotations

import base64
import importlib
import json
import math
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import msgpack

from aeon.embedder import HashEmbedder
from aeon.embedding import Embed, embedder_name
from aeon.errors import AeonError

BUILT_IN = "builtin"
_WRAPPINGS = {"$base64", "$float", "$ext", "$map"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

# A number is a time in seconds, milliseconds, microseconds or nanoseconds: told apart by its size, as each unit reaches
# these from the year 1973 on, before the next one below it passes the year 5138.
_UNITS = ((1e17, 1e-3), (1e14, 1), (1e11, 1_000))


class CommandError(AeonError):
    """A command cannot do what was asked; the message is one line for the person at the terminal."""


# -- times --------------------------------------------------------------------------------------------------------


def as_microseconds(value: Any) -> int:
    """Return microseconds since 1970 UTC of an ISO 8601 text or of a number; ValueError if it is neither.

    A text without an offset is UTC. A number may count seconds, milliseconds, microseconds or nanoseconds.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text) if "." in text else int(text)
        except ValueError:
            return _from_iso(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"not a time: {value!r}")
    for least, factor in _UNITS:
        if abs(value) >= least:
            return value * factor if isinstance(value, int) and isinstance(factor, int) else round(value * factor)
    return round(value * 1_000_000)


def _from_iso(text: str) -> int:
    try:
        when = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
    except ValueError:
        raise ValueError(
            f"not a time: {text!r}; write 2026-03-02, 2026-03-02T07:15 or 2026-03-02T08:15+01:00"
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return (when - _EPOCH) // _MICROSECOND


def show_time(microseconds: int) -> str:
    """Return a time for people, UTC, to the minute."""
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%d %H:%M")
    except OverflowError:
        return f"{microseconds} us"


def show_bytes(count: int) -> str:
    """Return a size for people."""
    value, unit = float(count), 0
    while value >= 1024 and unit < 4:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {'KMGT'[unit - 1]}iB"


def show_count(count: int, noun: str, plural: str = "") -> str:
    """Return "1 memory", "2 memories"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {plural or (noun[:-1] + 'ies' if noun.endswith('y') else noun + 's')}"


# -- types of arguments -------------------------------------------------------------------------------------------


def time_argument(text: str) -> int:
    """A time on the command line."""
    try:
        return as_microseconds(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def positive_argument(text: str) -> int:
    """A whole number from 1 on."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return value


def count_argument(text: str) -> int:
    """A whole number from 0 on; 0x.. is hexadecimal."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise ArgumentTypeError(f"a whole number from 0 on, not {text!r}")
    return value


def object_argument(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f"not JSON ({error}): {text!r}") from None
    if not isinstance(value, dict):
        raise ArgumentTypeError(f'a JSON object such as {{"topic": "move"}}, not {text!r}')
    return value


def vector_argument(text: str) -> list[float]:
    """A JSON list of numbers."""
    try:
        value = json.loads(text)
        return [float(number) for number in value]
    except (ValueError, TypeError, RecursionError):
        raise ArgumentTypeError("a vector is a JSON list of numbers") from None


def namespace_argument(text: str) -> tuple[str, ...]:
    """Segments with slashes between them."""
    return tuple(part for part in text.split("/") if part)


def load_embedder(spec: str) -> Embed:
    """Return the embedder `MODULE:NAME` (or "builtin"); a class is called without arguments. The module is imported."""
    if spec == BUILT_IN:
        return HashEmbedder()
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise CommandError(f"--embed takes MODULE:NAME or {BUILT_IN!r}, not {spec!r}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does: the module is often a file beside the store
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        embed: Any = found() if isinstance(found, type) else found
    except Exception as error:
        raise CommandError(f"--embed {spec}: {type(error).__name__}: {error}") from error
    if not callable(embed):
        raise CommandError(f"--embed {spec}: a callable from a list of texts to vectors is needed, not {embed!r}")
    return _Embedder(spec, embed)


class _Embedder:
    """The caller's embedder under its own name; what it raises becomes one line."""

    def __init__(self, spec: str, embed: Embed) -> None:
        self.name = embedder_name(embed)
        self._spec, self._embed = spec, embed

    def __call__(self, texts: list[str]) -> Any:
        try:
            return self._embed(texts)
        except Exception as error:
            raise CommandError(f"the embedder {self._spec} failed: {type(error).__name__}: {error}") from error


# -- JSON ---------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> Any:
    """Return `value` with what JSON cannot say wrapped: bytes, NaN and infinities, msgpack's extension types.

    A map that looks like such a wrapping is wrapped itself.
    """
    if isinstance(value, Mapping):
        fields = {str(name): to_json(inner) for name, inner in value.items()}
        return {"$map": fields} if len(fields) == 1 and not _WRAPPINGS.isdisjoint(fields) else fields
    if isinstance(value, msgpack.ExtType):  # a tuple, too
        return {"$ext": [value.code, base64.b64encode(value.data).decode("ascii")]}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, msgpack.Timestamp):
        return {"$ext": [-1, base64.b64encode(value.to_bytes()).decode("ascii")]}
    return value


def from_json(value: Any) -> Any:
    """Undo `to_json`; ValueError for a wrapping that holds something else."""
    if isinstance(value, list):
        return [from_json(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name, inner), *_ = value.items()
        if name == "$base64":
            return base64.b64decode(inner, validate=True)
        if name == "$float":
            return float(inner)
        if name == "$map":
            return {key: from_json(item) for key, item in inner.items()}
        if name == "$ext":
            code, data = inner
            raw = base64.b64decode(data, validate=True)
            return msgpack.Timestamp.from_bytes(raw) if code == -1 else msgpack.ExtType(code, raw)
    return {name: from_json(inner) for name, inner in value.items()}
