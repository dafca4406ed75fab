"""Operations: what is encoded is decoded again; what is not an operation is refused, never guessed."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeon.format import BLOB_REF, OP, OpFlag, OpKind
from aeon.operations import (
    Extra,
    Operation,
    decode_blob_ref,
    decode_commit,
    decode_extra,
    encode_extra,
    encode_forget,
    encode_remember,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | names
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
extras = st.builds(
    Extra,
    session=names,
    namespace=st.lists(names, max_size=3).map(tuple),
    key=st.none() | names,
    metadata=st.none() | st.dictionaries(names, values, min_size=1, max_size=3),
    refs=st.lists(st.integers(1, (1 << 64) - 1), max_size=4).map(tuple),
)


def encode(extra: Extra) -> bytes:
    metadata = None if extra.metadata is None else msgpack.packb(extra.metadata)
    return encode_extra(extra.session, extra.namespace, extra.key, metadata, extra.refs)


@given(extras)
def test_extra_comes_back(extra: Extra) -> None:
    assert decode_extra(encode(extra)) == extra


def test_trailing_nils_are_cut() -> None:
    assert msgpack.unpackb(encode(Extra("s"))) == ["s", []]
    assert msgpack.unpackb(encode(Extra("s", ("n",), "k"))) == ["s", ["n"], "k"]
    assert msgpack.unpackb(encode(Extra("s", (), None, {"a": 1}))) == ["s", [], None, {"a": 1}]
    assert msgpack.unpackb(encode(Extra("s", (), None, None, (7,)))) == ["s", [], None, None, [7]]


MALFORMED: dict[str, Any] = {
    "a map": {"session": "s"},
    "one part": ["s"],
    "seven parts": ["s", [], None, None, [], 1, 1],
    "expires is text": ["s", [], None, None, [], "1"],
    "session is a number": [1, []],
    "session is nil": [None, []],
    "namespace is nil": ["s", None],
    "namespace of numbers": ["s", [1]],
    "key is a number": ["s", [], 1],
    "metadata is a list": ["s", [], None, [1]],
    "refs is a number": ["s", [], None, None, 5],
    "ref 0": ["s", [], None, None, [0]],
    "ref is a bool": ["s", [], None, None, [True]],
    "ref is text": ["s", [], None, None, ["1"]],
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED)
def test_malformed_extra(parts: Any) -> None:
    with pytest.raises(ValueError, match="malformed extra"):
        decode_extra(msgpack.packb(parts))


@given(st.binary(max_size=60))
def test_any_bytes_are_an_extra_or_a_value_error(data: bytes) -> None:
    try:
        extra = decode_extra(data)
    except ValueError:
        return
    assert decode_extra(encode(extra)) == extra


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("remember"), st.integers(1, 6), st.integers(0, (1 << 64) - 1), st.integers(-(1 << 62), 1 << 62),
            st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20),
        ),
        st.tuples(st.just("forget"), st.lists(st.integers(1, (1 << 64) - 1), max_size=5), st.integers(0, 1 << 62)),
    ),
    max_size=6,
)  # fmt: skip


def encode_all(wanted: Any) -> bytes:
    body = b""
    for kind, *rest in wanted:
        if kind == "remember":
            role, parent, timestamp, extra, text, vector = rest
            flags = OpFlag.VECTOR if vector else 0
            body += encode_remember(
                role=role, flags=flags, parent=parent, timestamp=timestamp, extra=extra, text=text, vector=vector
            )
        else:
            body += encode_forget(b"".join(id_.to_bytes(8, "little") for id_ in rest[0]), rest[1])
    return body


@given(operations)
def test_a_commit_comes_back(wanted: Any) -> None:
    body = encode_all(wanted)
    found = list(decode_commit(memoryview(body)))
    assert len(found) == len(wanted)
    for operation, (kind, *rest) in zip(found, wanted, strict=True):
        if kind == "remember":
            said = (operation.role, operation.parent, operation.timestamp)
            assert (OpKind.REMEMBER, *said) == (operation.kind, *rest[:3])
            assert [bytes(operation.extra), bytes(operation.text), bytes(operation.vector)] == rest[3:]
            alone = Operation(operation.blob, 0, with_vector=False)
            assert (alone.text, alone.extra, bytes(alone.vector)) == (operation.text, operation.extra, b"")
        else:
            assert operation.kind == OpKind.FORGET
            assert bytes(operation.text) == b"".join(id_.to_bytes(8, "little") for id_ in rest[0])
    assert sum(operation.bytes_total for operation in found) == len(body)


@given(operations.filter(bool), st.data())
def test_a_commit_cut_short_is_refused(wanted: Any, data: Any) -> None:
    body = encode_all(wanted)
    ends = {0}
    for operation in decode_commit(memoryview(body)):
        ends.add(max(ends) + operation.bytes_total)
    cut = data.draw(st.integers(0, len(body)).filter(lambda at: at not in ends), label="cut")
    with pytest.raises(ValueError, match=r"ends within|reaches beyond"):
        list(decode_commit(memoryview(body[:cut])))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_commit_or_a_value_error(data: bytes) -> None:
    try:
        found = list(decode_commit(memoryview(data)))
    except ValueError:
        return
    assert sum(operation.bytes_total for operation in found) == len(data)


@pytest.mark.parametrize("length", [0, BLOB_REF.size - 1, BLOB_REF.size + 1])
def test_a_reference_of_the_wrong_length(length: int) -> None:
    with pytest.raises(ValueError, match="reference of the wrong length"):
        decode_blob_ref(memoryview(bytes(length)))
    assert OP.size == 32
