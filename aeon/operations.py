"""Operations, the content of a commit: encoded for the log, decoded for replay. FORMAT: OP."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from aeon.format import BLOB_REF, OP, OpKind

_OP_BYTES = OP.size


@dataclass(frozen=True)
class Extra:
    """The decoded `extra` of a remember operation."""

    session: str
    namespace: tuple[str, ...] = ()
    key: str | None = None
    metadata: dict[str, Any] | None = None
    refs: tuple[int, ...] = ()
    expires: int | None = None


def encode_extra(
    session: str,
    namespace: Sequence[str],
    key: str | None,
    metadata_packed: bytes | None,
    refs: Sequence[int],
    expires: int | None = None,
) -> bytes:
    """Return msgpack [session, [namespace...], key, metadata, [refs...], expires], trailing nils cut; metadata comes packed."""
    parts = [msgpack.packb(session), msgpack.packb(list(namespace))]
    late = expires is not None
    if key is not None or metadata_packed is not None or refs or late:
        parts.append(msgpack.packb(key))
    if metadata_packed is not None or refs or late:
        parts.append(metadata_packed if metadata_packed is not None else b"\xc0")
    if refs or late:
        parts.append(msgpack.packb(list(refs)))
    if late:
        parts.append(msgpack.packb(expires))
    return bytes([0x90 | len(parts)]) + b"".join(parts)  # fixarray: fewer than 16 parts


def decode_extra(data: bytes | memoryview) -> Extra:
    """Read `extra`; ValueError if it is not what `encode_extra` makes."""
    try:
        parts = msgpack.unpackb(data, strict_map_key=False)
        if not isinstance(parts, list) or not 2 <= len(parts) <= 6:
            raise ValueError("not a list of 2 to 6 parts")
        session, namespace, key, metadata, refs, expires = parts + [None] * (6 - len(parts))
        if not isinstance(session, str) or not all(isinstance(part, str) for part in namespace):
            raise ValueError("session and namespace are not text")
        if not isinstance(key, (str, type(None))) or not isinstance(metadata, (dict, type(None))):
            raise ValueError("key or metadata has the wrong type")
        references = tuple(refs or ())
        if not all(type(ref) is int and ref > 0 for ref in references):
            raise ValueError("refs are not ids")
        if expires is not None and type(expires) is not int:
            raise ValueError("expires is no time")
        return Extra(session, tuple(namespace), key, metadata, references, expires)
    except (msgpack.UnpackException, TypeError, ValueError) as error:
        raise ValueError(f"malformed extra: {error}") from error


def decode_metadata(blob: memoryview) -> dict[str, Any] | None:
    """Only the metadata of a remember operation, in a third of the time; ValueError if it is none."""
    try:
        size = OP.unpack_from(blob)[4]
        parts = msgpack.unpackb(blob[_OP_BYTES : _OP_BYTES + size], strict_map_key=False)
    except (msgpack.UnpackException, struct.error, TypeError, ValueError) as error:
        raise ValueError(f"malformed extra: {error}") from error
    metadata = parts[3] if isinstance(parts, list) and 2 <= len(parts) <= 6 and parts[3:] else None
    if not isinstance(metadata, (dict, type(None))):
        raise ValueError("malformed extra: metadata has the wrong type")
    return metadata


def encode_remember(
    *,
    role: int,
    flags: int,
    parent: int,
    timestamp: int,
    extra: bytes,
    text: bytes,
    vector: bytes = b"",
) -> bytes:
    """Return one remember operation; under OpFlag.TEXT_REF `text` is an encoded BLOB_REF."""
    return b"".join(
        (
            OP.pack(OpKind.REMEMBER, role, flags, 0, len(extra), len(text), len(vector), parent, timestamp),
            extra,
            text,
            vector,
        )
    )


def encode_forget(ids: bytes, timestamp: int) -> bytes:
    """Return one forget operation; `ids` are u64 little-endian."""
    return OP.pack(OpKind.FORGET, 0, 0, 0, 0, len(ids), 0, 0, timestamp) + ids


class Operation:
    """One decoded operation; `blob` and `vector` borrow the buffer they were read from."""

    __slots__ = ("blob", "extra", "flags", "kind", "parent", "role", "text", "timestamp", "vector")

    def __init__(self, data: memoryview, at: int, *, with_vector: bool) -> None:
        if len(data) - at < _OP_BYTES:
            raise ValueError("the commit ends within an operation")
        kind, role, flags, _, extra_bytes, text_bytes, vector_bytes, parent, timestamp = OP.unpack_from(data, at)
        text_at = at + _OP_BYTES + extra_bytes
        vector_at = text_at + text_bytes
        end = vector_at + vector_bytes if with_vector else vector_at
        if end > len(data):
            raise ValueError("an operation reaches beyond its commit")
        self.kind: int = kind
        self.role: int = role
        self.flags: int = flags
        self.parent: int = parent
        self.timestamp: int = timestamp
        self.extra = data[at + _OP_BYTES : text_at]
        self.text = data[text_at:vector_at]
        self.vector = data[vector_at:end]
        self.blob = data[at:vector_at]

    @property
    def bytes_total(self) -> int:
        """Length of the operation, vector included."""
        return len(self.blob) + len(self.vector)


def decode_commit(payload: memoryview) -> Iterator[Operation]:
    """Iterate over a frame's operations; ValueError where they do not fill it exactly."""
    at = 0
    while at < len(payload):
        operation = Operation(payload, at, with_vector=True)
        yield operation
        at += operation.bytes_total


def decode_blob_ref(text: memoryview) -> tuple[int, int, int]:
    """Return (offset, bytes, crc) of a text kept by reference."""
    if len(text) != BLOB_REF.size:
        raise ValueError("a text reference of the wrong length")
    offset, count, crc = BLOB_REF.unpack_from(text)
    return offset, count, crc
