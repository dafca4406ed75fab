"""What callers pass, checked and brought into the form that is written. Everything here raises before anything changes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import msgpack
import numpy as np

from aeon.errors import CapacityError, InvalidInputError
from aeon.format import METADATA_BYTES_MAX, NAME_BYTES_MAX, REFS_MAX, ROLE_NUMBERS, TEXT_BYTES_MAX
from aeon.options import check_ttl
from aeon.recall import NO_FILTERS, Filters
from aeon.where import compile_where

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# What a datetime can say in UTC, years 1 to 9999. A time in nanoseconds is far beyond, and refused.
_TIMESTAMP_MIN, _TIMESTAMP_MAX = -62_135_596_800_000_000, 253_402_300_799_999_999
_METADATA_DEPTH_MAX = 32  # as deep as a filter can look


def encode_text(text: Any, what: str = "text") -> bytes:
    """Return UTF-8; InvalidInputError for anything that is not well-formed text, CapacityError for too much of it."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} is a str, not {type(text).__name__}")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} holds a lone surrogate at position {error.start}: it is not valid text and cannot be kept as it is"
        ) from None
    if len(data) > TEXT_BYTES_MAX:
        raise CapacityError(f"{what} has {len(data)} bytes; the limit is {TEXT_BYTES_MAX}")
    return data


def check_name(name: Any, what: str) -> str:
    """Return a session's or key's name if it can be kept."""
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"{what} is a non-empty str, not {name!r}")
    if len(encode_text(name, what)) > NAME_BYTES_MAX:
        raise CapacityError(f"{what} has more than {NAME_BYTES_MAX} bytes")
    return name


def check_namespace(namespace: Any) -> tuple[str, ...]:
    """Return a namespace as a tuple of segments; a str is one segment."""
    parts = (namespace,) if isinstance(namespace, str) else namespace
    if not isinstance(parts, (tuple, list)):
        raise InvalidInputError(f"namespace is a tuple of str, not {namespace!r}")
    total = sum(len(encode_text(check_name(part, "a namespace segment"))) for part in parts)
    if total > NAME_BYTES_MAX:
        raise CapacityError(f"namespace has {total} bytes; the limit is {NAME_BYTES_MAX}")
    return tuple(parts)


def check_role(role: Any) -> int:
    """Return the role's number."""
    number = ROLE_NUMBERS.get(role) if isinstance(role, str) else None
    if number is None:
        raise InvalidInputError(f"role is one of {', '.join(ROLE_NUMBERS)}; not {role!r}")
    return number


def check_id(id_: Any, what: str = "id") -> int:
    """Return an id as int."""
    if isinstance(id_, (bool, np.bool_)) or not isinstance(id_, (int, np.integer)) or not 0 < id_ < 1 << 64:
        raise InvalidInputError(f"{what} is a positive int, not {id_!r}")
    return int(id_)


def check_ids(ids: Any, what: str = "ids") -> list[int]:
    """Return one id or several as a list."""
    if isinstance(ids, (int, np.integer)):
        return [check_id(ids, what)]
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise InvalidInputError(f"{what} are ids, not {ids!r}")
    return [check_id(id_, what) for id_ in ids]


def check_refs(refs: Any) -> list[int]:
    """Return refs as a list of ids, each once."""
    ids = list(dict.fromkeys(check_ids(refs, "refs")))
    if len(ids) > REFS_MAX:
        raise CapacityError(f"a memory refers to at most {REFS_MAX} others, not {len(ids)}")
    return ids


def check_count(count: Any, what: str) -> int:
    """Return a positive int."""
    if type(count) is int and count > 0:  # what is meant, in a tenth of the time of what is allowed
        return count
    if isinstance(count, (bool, np.bool_)) or not isinstance(count, (int, np.integer)) or count <= 0:
        raise InvalidInputError(f"{what} is a positive int, not {count!r}")
    return int(count)


def check_share(share: Any, what: str) -> float:
    """Return a number from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, (int, float, np.number)) or not 0 <= share <= 1:
        raise InvalidInputError(f"{what} is a number from 0 to 1, not {share!r}")
    return float(share)


def as_timestamp(when: Any, what: str = "timestamp") -> int:
    """Return microseconds since 1970-01-01 UTC; None is now, a naive datetime is local time."""
    if when is None:
        return time.time_ns() // 1000
    if isinstance(when, datetime):
        try:
            when = ((when if when.tzinfo else when.astimezone()) - _EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidInputError(f"{what} {when} is beyond this platform's calendar: {error}") from None
    if isinstance(when, (bool, np.bool_)) or not isinstance(when, (int, np.integer)):
        raise InvalidInputError(f"{what} is microseconds since 1970 as int, or a datetime; not {when!r}")
    if not _TIMESTAMP_MIN <= when <= _TIMESTAMP_MAX:
        raise InvalidInputError(
            f"{what} {when} is out of range: microseconds since 1970-01-01 UTC are meant, years 1 to 9999"
        )
    return int(when)


def pack_metadata(metadata: Any) -> bytes | None:
    """Return metadata as msgpack, or None if there is none; InvalidInputError names the field that cannot be kept."""
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"metadata is a mapping, not {type(metadata).__name__}")
    _check_fields(metadata, "metadata", 1)
    try:
        packed: bytes = msgpack.packb(dict(metadata))
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError) as error:
        raise InvalidInputError(f"metadata cannot be kept: {_unpackable(metadata, 'metadata') or error}") from None
    if len(packed) > METADATA_BYTES_MAX:
        raise CapacityError(
            f"metadata has {len(packed)} bytes; the limit is {METADATA_BYTES_MAX}: put it into the text"
        )
    return packed if metadata else None


def _check_fields(value: Any, path: str, depth: int) -> None:
    """Keys are text, so that filters reach them and JSON can say them; nesting is bounded, so that reading it back is."""
    if depth > _METADATA_DEPTH_MAX:
        raise InvalidInputError(f"{path} is nested deeper than {_METADATA_DEPTH_MAX}")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise InvalidInputError(f"{path} has the field {name!r}: field names are text")
            if isinstance(inner, (Mapping, list, tuple)):
                _check_fields(inner, f"{path}.{name}", depth + 1)
    else:
        for inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                _check_fields(inner, path, depth + 1)


def _unpackable(value: Any, path: str) -> str:
    """Say which field msgpack cannot hold."""
    inner = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for name, item in inner:
        found = _unpackable(item, f"{path}.{name}")
        if found:
            return found
    if not inner:
        try:
            msgpack.packb(value)
        except (TypeError, ValueError, OverflowError, UnicodeEncodeError) as error:
            return f"{path} is a {type(value).__name__} ({error})"
    return ""


def check_list(values: Any, what: str) -> Any:
    """Return a list of one value each, or None; one for all makes no sense."""
    if values is not None and not isinstance(values, (list, tuple, np.ndarray)):
        raise InvalidInputError(f"{what} is a list with one for each text, or None; not {values!r}")
    return values


def spread(value: Any, count: int, what: str) -> Sequence[Any]:
    """Return `count` values: the given list (tuple, array) if it has as many, or one value for all."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != count:
            raise InvalidInputError(f"{what} has {len(value)} entries for {count} texts")
        return value.tolist() if isinstance(value, np.ndarray) else value
    return [value] * count


def make_filters(
    session: Any = None,
    namespace: Any = None,
    where: Any = None,
    since: Any = None,
    until: Any = None,
    roles: Any = None,
    archived: bool = False,
) -> Filters:
    """Return checked filters; FilterError or InvalidInputError if one is malformed."""
    if session is namespace is where is since is until is roles is None and not archived:
        return NO_FILTERS
    sessions = None
    if session is not None:
        names = (session,) if isinstance(session, str) else session
        if not isinstance(names, (list, tuple, set, frozenset)):
            raise InvalidInputError(f"session is a name or a list of names, not {session!r}")
        sessions = tuple(check_name(name, "session") for name in names)
    numbers = None
    if roles is not None:
        listed = (roles,) if isinstance(roles, str) else roles
        if not isinstance(listed, (list, tuple, set, frozenset)):
            raise InvalidInputError(f"roles is a role or a list of roles, not {roles!r}")
        numbers = tuple(check_role(role) for role in listed)
    compiled = None if where is None else compile_where(where)
    first = None if since is None else as_timestamp(since, "since")
    end = None if until is None else as_timestamp(until, "until")
    if first is not None and end is not None and first > end:
        raise InvalidInputError(f"since {since!r} is after until {until!r}: nothing can be between")
    return Filters(
        sessions=sessions,
        namespace=() if namespace is None else check_namespace(namespace),
        roles=numbers,
        since=first,
        until=end,
        where=compiled if where else None,  # {} asks for nothing
        archived=bool(archived),
    )


def as_expiry(ttl: Any, timestamp: int) -> int | None:
    """When a memory of that timestamp expires, microseconds; None without a ttl (seconds)."""
    return None if ttl is None else timestamp + int(check_ttl(ttl) * 1e6)
