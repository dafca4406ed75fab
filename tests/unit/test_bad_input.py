"""Bad input: a clear error of the right type before anything is written, and the store byte for byte as it was."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import aeon
from aeon import intake, manifest, recall, wal
from aeon.files import NoSpaceError, OsFileSystem
from aeon.format import FORMAT_VERSION
from aeon.store import Store

VECTOR = [1.0] * 8
LONE = "a\ud800b"


class Untouched:
    """A store with some content, and the proof that a call left all of it as it was."""

    def __init__(self, store: Store, path: Path, state: Any, disk: Any) -> None:
        self.store, self.path, self._state, self._disk = store, path, state, disk
        self.before = state(store), disk(path), store.lsn

    def __call__(self, error: type[Exception], match: str, call: Callable[[], Any]) -> Exception:
        with pytest.raises(error, match=match) as raised:
            call()
        assert type(raised.value) is error
        assert isinstance(raised.value, aeon.AeonError)
        assert (self._state(self.store), self._disk(self.path), self.store.lsn) == self.before
        return raised.value


@pytest.fixture
def refused(store: Store, path: Path, state: Any, disk: Any) -> Iterator[Untouched]:
    store.remember_many(["a", "b"], np.eye(2, 8), keys=["k", None], metadata={"n": 1, "place": {"city": "Graz"}})
    store.checkpoint()
    store.remember("c", np.ones(8), metadata={"tags": ["x"]})
    refused = Untouched(store, path, state, disk)
    yield refused
    assert store.remember("d", VECTOR) == 4, "the store goes on as if nothing had been"


# -- vectors ----------------------------------------------------------------------------------------------------------

VECTORS = {
    "too short": ([1.0] * 7, aeon.DimensionError, "vectors of 8 dims; the vector given has shape \\(7,\\)"),
    "too long": ([1.0] * 9, aeon.DimensionError, "shape \\(9,\\)"),
    "empty": ([], aeon.DimensionError, "shape \\(0,\\)"),
    "a number": (1.0, aeon.DimensionError, "8 dims"),
    "three axes": (np.ones((1, 1, 8)), aeon.DimensionError, "shape \\(1, 1, 8\\)"),
    "two for one text": (np.ones((2, 8)), aeon.InvalidInputError, "one text takes one vector, not 2"),
    "none for one text": (np.ones((0, 8)), aeon.InvalidInputError, "one text takes one vector, not 0"),
    "NaN": ([math.nan, *VECTOR[1:]], aeon.InvalidInputError, "NaN or infinity"),
    "infinity": ([*VECTOR[1:], math.inf], aeon.InvalidInputError, "NaN or infinity"),
    "minus infinity": ([*VECTOR[1:], -math.inf], aeon.InvalidInputError, "NaN or infinity"),
    "all zeros": ([0.0] * 8, aeon.InvalidInputError, "all zeros"),
    "minus zeros": ([-0.0] * 8, aeon.InvalidInputError, "all zeros"),
    "beyond float32": (np.array([1e300] * 8), aeon.InvalidInputError, "NaN or infinity"),
    "below float32": (np.array([1e-300] * 8), aeon.InvalidInputError, "all zeros"),
    "text": ("a vector", aeon.InvalidInputError, "array of numbers"),
    "texts": (["1"] * 8, aeon.InvalidInputError, "array of numbers"),
    "bytes": (b"\0" * 8, aeon.InvalidInputError, "array of numbers"),
    "booleans": ([True] * 8, aeon.InvalidInputError, "array of numbers, not of bool"),
    "complex": ([1j] * 8, aeon.InvalidInputError, "array of numbers"),
    "objects": ([None, *VECTOR[1:]], aeon.InvalidInputError, "array of numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], aeon.InvalidInputError, "array of 8 numbers"),
    "a mapping": ({"x": 1}, aeon.InvalidInputError, "array of numbers"),
}


@pytest.mark.parametrize("vector, error, match", VECTORS.values(), ids=VECTORS)
@pytest.mark.parametrize("rows", ["int8", "float32"])
def test_vector_that_cannot_be_kept(
    tmp_path: Path, vector: Any, error: Any, match: str, rows: Any, state: Any, disk: Any
) -> None:
    path = tmp_path / "agent.aeon"
    with aeon.open(path, 8, rows=rows, durability="normal") as store:
        store.remember("a", VECTOR)
        refused = Untouched(store, path, state, disk)
        refused(error, match, lambda: store.remember("x", vector))
        assert store.remember("b", VECTOR) == 2


QUERIES = {name: case for name, case in VECTORS.items() if "for one text" not in name and name not in ("text",)}


@pytest.mark.parametrize("vector, error, match", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("rows", ["int8", "float32"])
@pytest.mark.parametrize("filled", [True, False], ids=["filled", "empty store"])
def test_query_that_has_no_cosine(tmp_path: Path, vector: Any, error: Any, match: str, rows: Any, filled: bool) -> None:
    with aeon.open(tmp_path / "agent.aeon", 8, rows=rows, durability="normal") as store:
        if filled:
            store.remember("a", VECTOR)
        match = match.replace("the vector given", "the query given")
        for call in (store.recall, store.atlas.search):
            with pytest.raises(error, match=match):
                call(vector)


def test_query_of_two_vectors(refused: Untouched) -> None:
    refused(aeon.InvalidInputError, "one query, not 2", lambda: refused.store.recall(np.ones((2, 8))))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_one_bad_vector_refuses_the_batch_and_is_named(refused: Untouched, bad: float) -> None:
    batch = np.ones((5, 8))
    batch[3] = bad
    error = refused(aeon.InvalidInputError, "vector 3", lambda: refused.store.remember_many(list("abcde"), batch))
    assert "vector 3" in str(error)


def test_a_wrong_vector_beside_a_missing_one(refused: Untouched) -> None:
    refused(aeon.DimensionError, "8 dims", lambda: refused.store.remember_many(["x", "y"], [None, [1.0]]))
    refused(
        aeon.InvalidInputError,
        "3 entries for 2",
        lambda: refused.store.remember_many(["x", "y"], [None, VECTOR, VECTOR]),
    )


def test_as_many_vectors_as_texts(refused: Untouched) -> None:
    refused(aeon.InvalidInputError, "1 vectors for 2 texts", lambda: refused.store.remember_many(["x", "y"], [VECTOR]))
    refused(aeon.InvalidInputError, "0 vectors for 2", lambda: refused.store.remember_many(["x", "y"], np.ones((0, 8))))


# -- text, names, values ----------------------------------------------------------------------------------------------

ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "text is bytes": ({"text": b"x"}, aeon.InvalidInputError, "text is a str, not bytes"),
    "text is None": ({"text": None}, aeon.InvalidInputError, "text is a str, not NoneType"),
    "lone surrogate in text": ({"text": LONE}, aeon.InvalidInputError, "text holds a lone surrogate at position 1"),
    "lone surrogate in session": ({"session": LONE}, aeon.InvalidInputError, "session holds a lone surrogate"),
    "lone surrogate in key": ({"key": LONE}, aeon.InvalidInputError, "key holds a lone surrogate"),
    "lone surrogate in namespace": ({"namespace": ("a", LONE)}, aeon.InvalidInputError, "namespace.* lone surrogate"),
    "lone surrogate in metadata": ({"metadata": {"a": {"b": LONE}}}, aeon.InvalidInputError, "metadata.a.b is a str"),
    "lone surrogate in a field name": ({"metadata": {LONE: 1}}, aeon.InvalidInputError, "metadata"),
    "empty session": ({"session": ""}, aeon.InvalidInputError, "session is a non-empty str"),
    "session is None": ({"session": None}, aeon.InvalidInputError, "session is a non-empty str"),
    "session is a number": ({"session": 1}, aeon.InvalidInputError, "session is a non-empty str"),
    "session is a list": ({"session": ["a"]}, aeon.InvalidInputError, "session is a non-empty str"),
    "over-long session": ({"session": "x" * 1025}, aeon.CapacityError, "session has more than 1024 bytes"),
    "empty key": ({"key": ""}, aeon.InvalidInputError, "key is a non-empty str"),
    "key is bytes": ({"key": b"k"}, aeon.InvalidInputError, "key is a non-empty str"),
    "over-long key": ({"key": "x" * 1025}, aeon.CapacityError, "key has more than 1024 bytes"),
    "over-long key in bytes": ({"key": "é" * 513}, aeon.CapacityError, "key has more than 1024 bytes"),
    "namespace is a number": ({"namespace": 3}, aeon.InvalidInputError, "namespace is a tuple"),
    "namespace is None": ({"namespace": None}, aeon.InvalidInputError, "namespace is a tuple"),
    "empty namespace segment": (
        {"namespace": ("a", "")},
        aeon.InvalidInputError,
        "a namespace segment is a non-empty str",
    ),
    "namespace segment is a number": ({"namespace": (1,)}, aeon.InvalidInputError, "a namespace segment"),
    "over-long namespace": ({"namespace": ("x" * 600, "y" * 600)}, aeon.CapacityError, "namespace has 1200 bytes"),
    "unknown role": ({"role": "robot"}, aeon.InvalidInputError, "role is one of user, assistant"),
    "role is a number": ({"role": 1}, aeon.InvalidInputError, "role is one of"),
    "role is a list": ({"role": ["user"]}, aeon.InvalidInputError, "role is one of"),
    "metadata is a list": ({"metadata": [1]}, aeon.InvalidInputError, "metadata is a mapping, not list"),
    "metadata is text": ({"metadata": "x"}, aeon.InvalidInputError, "metadata is a mapping, not str"),
    "metadata with an object": (
        {"metadata": {"a": {"b": object()}}},
        aeon.InvalidInputError,
        "metadata.a.b is a object",
    ),
    "metadata with a datetime": (
        {"metadata": {"t": datetime(2024, 1, 1)}},
        aeon.InvalidInputError,
        "metadata.t is a datetime",
    ),
    "metadata with a set": ({"metadata": {"s": {1}}}, aeon.InvalidInputError, "metadata.s is a set"),
    "metadata with an array": ({"metadata": {"v": np.ones(2)}}, aeon.InvalidInputError, "metadata.v is a ndarray"),
    "metadata with a huge int": ({"metadata": {"l": [1, 1 << 64]}}, aeon.InvalidInputError, "metadata.l.1 is a int"),
    "metadata with a foreign mapping": (
        {"metadata": {"m": MappingProxyType({})}},
        aeon.InvalidInputError,
        "metadata.m",
    ),
    "a field name is a number": ({"metadata": {"a": {1: 2}}}, aeon.InvalidInputError, "metadata.a has the field 1"),
    "a field name in a list": (
        {"metadata": {"a": [{None: 2}]}},
        aeon.InvalidInputError,
        "metadata.a has the field None",
    ),
    "metadata too large": ({"metadata": {"x": "y" * (1 << 20)}}, aeon.CapacityError, "metadata has 10485.. bytes"),
    "timestamp is a float": ({"timestamp": 1.5}, aeon.InvalidInputError, "timestamp is microseconds"),
    "timestamp is text": ({"timestamp": "now"}, aeon.InvalidInputError, "timestamp is microseconds"),
    "timestamp is a bool": ({"timestamp": True}, aeon.InvalidInputError, "timestamp is microseconds"),
    "timestamp in nanoseconds of a far age": ({"timestamp": 1 << 62}, aeon.InvalidInputError, "out of range"),
    "timestamp far below": ({"timestamp": -(1 << 70)}, aeon.InvalidInputError, "out of range"),
    "refs to an unknown id": ({"refs": [1, 99]}, aeon.NotFoundError, "no memory has id 99"),
    "refs to the id to come": ({"refs": [4]}, aeon.NotFoundError, "no memory has id 4"),
    "refs is text": ({"refs": "12"}, aeon.InvalidInputError, "refs are ids"),
    "refs is None": ({"refs": None}, aeon.InvalidInputError, "refs are ids"),
    "refs holds 0": ({"refs": [0]}, aeon.InvalidInputError, "refs is a positive int, not 0"),
    "refs holds a bool": ({"refs": [True]}, aeon.InvalidInputError, "refs is a positive int"),
    "refs holds a float": ({"refs": [1.0]}, aeon.InvalidInputError, "refs is a positive int"),
    "too many refs": ({"refs": range(1, 4098)}, aeon.CapacityError, "at most 4096"),
    "unknown parent": ({"parent": 99}, aeon.NotFoundError, "no memory has id 99"),
    "parent is 0": ({"parent": 0}, aeon.InvalidInputError, "parent is a positive int"),
    "parent is negative": ({"parent": -1}, aeon.InvalidInputError, "parent is a positive int"),
    "parent beyond 64 bits": ({"parent": 1 << 64}, aeon.InvalidInputError, "parent is a positive int"),
    "parent is text": ({"parent": "1"}, aeon.InvalidInputError, "parent is a positive int"),
}


@pytest.mark.parametrize("arguments, error, match", ARGUMENTS.values(), ids=ARGUMENTS)
def test_argument_that_cannot_be_kept(refused: Untouched, arguments: Any, error: Any, match: str) -> None:
    call = {"text": "x", "vector": VECTOR, **arguments}
    refused(error, match, lambda: refused.store.remember(**call))


MANY: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "empty batch": ({"texts": []}, aeon.InvalidInputError, "an empty batch"),
    "one text instead of a list": ({"texts": "abc"}, aeon.InvalidInputError, "texts is a list of str, not str"),
    "texts are a generator": ({"texts": (text for text in "ab")}, aeon.InvalidInputError, "texts is a list of str"),
    "texts are bytes": ({"texts": b"ab"}, aeon.InvalidInputError, "text is a str, not int"),
    "one text is no text": ({"texts": ["a", None]}, aeon.InvalidInputError, "text is a str, not NoneType"),
    "lone surrogate in one": ({"texts": ["a", LONE]}, aeon.InvalidInputError, "lone surrogate"),
    "too few sessions": ({"session": ["a"]}, aeon.InvalidInputError, "session has 1 entries for 2 texts"),
    "too many roles": ({"role": ["user"] * 3}, aeon.InvalidInputError, "role has 3 entries for 2 texts"),
    "too few keys": ({"keys": []}, aeon.InvalidInputError, "keys has 0 entries for 2 texts"),
    "too few timestamps": ({"timestamps": np.array([1])}, aeon.InvalidInputError, "timestamps has 1 entries"),
    "too many metadata": ({"metadata": [None] * 3}, aeon.InvalidInputError, "metadata has 3 entries"),
    "too few parents": ({"parents": [1]}, aeon.InvalidInputError, "parents has 1 entries"),
    "too few refs": ({"refs": [[1]]}, aeon.InvalidInputError, "refs has 1 entries for 2 texts"),
    "the last refs are unknown": ({"refs": [[1], [1, 99]]}, aeon.NotFoundError, "no memory has id 99"),
    "the last role is wrong": ({"role": ["user", "robot"]}, aeon.InvalidInputError, "role is one of"),
    "the last key is over-long": ({"keys": ["k", "x" * 1025]}, aeon.CapacityError, "key has more than 1024 bytes"),
    "the last session is a list": ({"session": ["a", ["b"]]}, aeon.InvalidInputError, "session is a non-empty str"),
    "the last parent is unknown": ({"parents": [1, 99]}, aeon.NotFoundError, "no memory has id 99"),
    "a parent from the same batch": ({"parents": [None, 4]}, aeon.NotFoundError, "no memory has id 4"),
}


@pytest.mark.parametrize("arguments, error, match", MANY.values(), ids=MANY)
def test_batch_with_something_wrong_is_refused_whole(
    refused: Untouched, arguments: Any, error: Any, match: str
) -> None:
    call = {"texts": ["x", "y"], **arguments}
    refused(error, match, lambda: refused.store.remember_many(**call))


def test_metadata_that_holds_itself(refused: Untouched) -> None:
    loop: dict[str, Any] = {"a": []}
    loop["a"].append(loop)
    refused(aeon.InvalidInputError, "nested deeper than 32", lambda: refused.store.remember("x", metadata=loop))


def test_metadata_32_deep_is_kept_and_33_deep_is_not(refused: Untouched) -> None:
    deep: Any = {}
    for _ in range(32):
        deep = {"d": deep}
    refused(aeon.InvalidInputError, "nested deeper than 32", lambda: refused.store.remember("x", metadata=deep))
    with refused.store.transaction():
        assert refused.store.remember("d", VECTOR, metadata=deep["d"]) == 4
        refused.store.forget(4)
    assert refused.store.forget(4) == 0
    refused.store.remember = lambda *_: 4  # type: ignore[method-assign] # the fixture's last word was spoken here


def test_a_text_beyond_the_limit(refused: Untouched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TEXT_BYTES_MAX", 100)
    refused(aeon.CapacityError, "text has 101 bytes; the limit is 100", lambda: refused.store.remember("x" * 101))
    refused(aeon.CapacityError, "text has 102 bytes", lambda: refused.store.remember_many(["a", "é" * 51]))


def test_a_commit_beyond_the_limit(refused: Untouched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "FRAME_BYTES_MAX", 1000)
    refused(
        aeon.CapacityError, "one commit holds at most 1000 bytes", lambda: refused.store.remember_many(["x" * 400] * 3)
    )

    def transaction() -> None:
        with refused.store.transaction():
            for _ in range(3):
                refused.store.remember("x" * 400)

    refused(aeon.CapacityError, "one commit holds at most 1000 bytes", transaction)


def test_a_datetime_beyond_the_platforms_calendar(refused: Untouched) -> None:
    for moment in (datetime.min, datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))):
        try:
            intake.as_timestamp(moment)
        except aeon.InvalidInputError:
            refused(
                aeon.InvalidInputError, "timestamp", lambda moment=moment: refused.store.remember("x", timestamp=moment)
            )


def test_generators_that_raise_leave_nothing(refused: Untouched, state: Any) -> None:
    def refs() -> Iterator[int]:
        yield 1
        raise LookupError("from the caller")

    before = state(refused.store)
    with pytest.raises(LookupError, match="from the caller"):
        refused.store.remember("x", refs=refs())
    assert state(refused.store) == before


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "3", None])
def test_k_that_is_no_positive_int(refused: Untouched, k: Any) -> None:
    refused(aeon.InvalidInputError, "k is a positive int", lambda: refused.store.recall(VECTOR, k))
    refused(aeon.InvalidInputError, "k is a positive int", lambda: refused.store.atlas.search(VECTOR, k))


@pytest.mark.parametrize("id_", [0, -1, True, 1.0, "1", None, 1 << 64])
def test_id_that_is_no_id(refused: Untouched, id_: Any) -> None:
    refused(aeon.InvalidInputError, "positive int", lambda: refused.store.get(id_))
    if id_ is not None:
        refused(aeon.InvalidInputError, "ids", lambda: refused.store.forget(id_))
        refused(aeon.InvalidInputError, "before is a positive int", lambda: refused.store.history(before=id_))
        refused(
            aeon.InvalidInputError, "before is a positive int", lambda: refused.store.history("unknown", before=id_)
        )
    refused(aeon.InvalidInputError, "ids? is a positive int", lambda: refused.store.forget([1, id_]))


@pytest.mark.parametrize("id_", [4, 99, (1 << 64) - 1])
def test_unknown_id(refused: Untouched, id_: int) -> None:
    error = refused(aeon.NotFoundError, f"no memory has id {id_}", lambda: refused.store.get(id_))
    assert isinstance(error, KeyError)
    refused(
        aeon.NotFoundError, f"no memory has id {id_}: ids up to 3 were given out", lambda: refused.store.forget(id_)
    )
    refused(aeon.NotFoundError, f"no memory has id {id_}", lambda: refused.store.forget([1, id_]))


FORGETS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, aeon.InvalidInputError, "forget what"),
    "ids and a filter": ({"ids": 1, "session": "default"}, aeon.InvalidInputError, "ids or filters, not both"),
    "ids as text": ({"ids": "1"}, aeon.InvalidInputError, "ids are ids"),
    "an unknown field": ({"where": {"m": 1}}, aeon.FilterError, "no memory in this store has a metadata field 'm'"),
    "an unknown operator": ({"where": {"n": {"$near": 1}}}, aeon.FilterError, "unknown operator '\\$near'"),
    "an empty namespace": ({"namespace": ()}, aeon.InvalidInputError, "forget what"),
    "an empty session name": ({"session": ""}, aeon.InvalidInputError, "session"),
}


@pytest.mark.parametrize("arguments, error, match", FORGETS.values(), ids=FORGETS)
def test_forget_that_is_not_clear(refused: Untouched, arguments: Any, error: Any, match: str) -> None:
    refused(error, match, lambda: refused.store.forget(**arguments))


FILTERS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown field": (
        {"where": {"nn": 1}},
        aeon.FilterError,
        "no memory in this store has a metadata field 'nn'; did you mean 'n'",
    ),
    "unknown nested field": ({"where": {"place.town": 1}}, aeon.FilterError, "'place.town'"),
    "unknown field inside $and": ({"where": {"$and": [{"n": 1}, {"m": 1}]}}, aeon.FilterError, "'m'"),
    "unknown operator": ({"where": {"n": {"$regex": "x"}}}, aeon.FilterError, "unknown operator"),
    "where is no mapping": ({"where": "n = 1"}, aeon.FilterError, "must be a mapping"),
    "where is a list": ({"where": [{"n": 1}]}, aeon.FilterError, "must be a mapping"),
    "session is a number": ({"session": 5}, aeon.InvalidInputError, "session is a name or a list of names"),
    "session list with None": ({"session": ["a", None]}, aeon.InvalidInputError, "session"),
    "lone surrogate in session": ({"session": LONE}, aeon.InvalidInputError, "lone surrogate"),
    "namespace is a number": ({"namespace": 5}, aeon.InvalidInputError, "namespace is a tuple"),
    "unknown role": ({"roles": "robot"}, aeon.InvalidInputError, "role is one of"),
    "unknown role in a list": ({"roles": ["user", "robot"]}, aeon.InvalidInputError, "role is one of"),
    "roles is a number": ({"roles": 5}, aeon.InvalidInputError, "role"),
    "since is text": ({"since": "yesterday"}, aeon.InvalidInputError, "since is microseconds"),
    "since is a float": ({"since": 1.0}, aeon.InvalidInputError, "since is microseconds"),
    "until is out of range": ({"until": 1 << 63}, aeon.InvalidInputError, "until .* out of range"),
}


@pytest.mark.parametrize("arguments, error, match", FILTERS.values(), ids=FILTERS)
def test_filter_that_is_malformed(refused: Untouched, arguments: Any, error: Any, match: str) -> None:
    refused(error, match, lambda: refused.store.recall(VECTOR, **arguments))
    refused(error, match, lambda: refused.store.memories(**arguments))
    if "where" not in arguments:
        refused(error, match, lambda: refused.store.atlas.search(VECTOR, **arguments))


def test_an_empty_store_knows_no_field_to_miss(store: Store) -> None:
    assert store.recall(VECTOR, where={"anything": 1}) == []
    with pytest.raises(aeon.FilterError, match="unknown operator"):
        store.recall(VECTOR, where={"anything": {"$regex": 1}})


def test_a_filter_that_needs_no_field_may_name_an_unknown_one(refused: Untouched) -> None:
    assert len(refused.store.recall(VECTOR, where={"unknown": {"$exists": False}})) == 3
    assert len(refused.store.recall(VECTOR, where={"unknown": {"$ne": 5}})) == 3


def test_text_query_in_a_store_of_the_callers_vectors(refused: Untouched) -> None:
    refused(aeon.EmbedderMissingError, "keeps its caller's vectors", lambda: refused.store.recall("where?"))


def test_text_query_that_is_no_text(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "agent.aeon", durability="normal") as store:
        store.remember("a")
        with pytest.raises(aeon.InvalidInputError, match="query holds a lone surrogate"):
            store.recall(LONE)
        for query in (b"a", None, ["a"]):
            with pytest.raises(aeon.InvalidInputError, match="array of numbers"):
                store.recall(query)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "all"])
def test_history_limit_that_is_no_count(refused: Untouched, limit: Any) -> None:
    refused(aeon.InvalidInputError, "limit is a positive int", lambda: refused.store.history(limit=limit))


def test_history_and_key_of_no_name(refused: Untouched) -> None:
    for name in ("", None, 5, LONE):
        refused(aeon.InvalidInputError, "session", lambda name=name: refused.store.history(name))
        refused(aeon.InvalidInputError, "key", lambda name=name: refused.store.get_key(name))
    refused(aeon.CapacityError, "key", lambda: refused.store.get_key("x" * 1025))
    refused(aeon.InvalidInputError, "namespace", lambda: refused.store.get_key("k", 5))


# -- opening ----------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "dim 0": ({"dim": 0}, "dim is an int from 1 to 8192"),
    "dim negative": ({"dim": -8}, "dim is an int"),
    "dim too large": ({"dim": 8193}, "dim is an int"),
    "dim is text": ({"dim": "8"}, "dim is an int"),
    "dim is a bool": ({"dim": True}, "dim is an int"),
    "dim is a float": ({"dim": 8.0}, "dim is an int"),
    "unknown durability": ({"dim": 8, "durability": "maybe"}, "durability is"),
    "unknown rows": ({"dim": 8, "rows": "int4"}, "rows is"),
    "unknown setting": ({"dim": 8, "segment_size": 4096}, "aeon.open.*segment_size"),
    "segment too small": ({"dim": 8, "segment_bytes_max": 100}, "segment_bytes_max is an int of at least 1024"),
    "growth is a float": ({"dim": 8, "segment_growth_bytes": 1e6}, "segment_growth_bytes"),
    "checkpoint negative": ({"dim": 8, "checkpoint_log_bytes": -1}, "checkpoint_log_bytes"),
    "embed is no callable": ({"embed": "minilm"}, "embed is a callable"),
    "embed returns one axis": ({"embed": lambda texts: np.ones(8)}, "shape \\(8,\\)"),
    "embed returns too few": ({"embed": lambda texts: np.ones((0, 8))}, "shape \\(0, 8\\) for 1 texts"),
    "embed returns no dims": ({"embed": lambda texts: np.ones((1, 0))}, "vectors of 0 dims"),
    "embed returns text": ({"embed": lambda texts: texts}, "embedder"),
    "embed returns None": ({"embed": lambda texts: None}, "embedder"),
}


@pytest.mark.parametrize("options, match", OPTIONS.values(), ids=OPTIONS)
def test_option_that_makes_no_store(path: Path, options: Any, match: str) -> None:
    with pytest.raises(aeon.InvalidInputError, match=match):
        aeon.open(path, **options)
    assert not path.exists()


def test_an_embedder_of_other_dims_than_asked_for(path: Path) -> None:
    with pytest.raises(aeon.DimensionError, match="returned 4 dims; this store keeps 8"):
        aeon.open(path, 8, embed=lambda texts: np.ones((len(texts), 4)))
    assert not path.exists()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_path_that_is_a_file(tmp_path: Path, read_only: bool, disk: Any) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = disk(tmp_path)
    with pytest.raises(aeon.NotAStoreError):
        aeon.open(tmp_path / "notes.txt", 8, read_only=read_only)
    with pytest.raises(aeon.NotAStoreError):
        aeon.open(tmp_path / "notes.txt" / "agent.aeon", 8, read_only=read_only)
    assert disk(tmp_path) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_directory_that_is_not_a_store(tmp_path: Path, read_only: bool, disk: Any) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = disk(tmp_path)
    with pytest.raises(aeon.NotAStoreError):
        aeon.open(tmp_path, 8, read_only=read_only)
    assert disk(tmp_path) == before


def test_nothing_there_and_nothing_to_be_made(tmp_path: Path, disk: Any) -> None:
    for options in ({"read_only": True}, {"create": False}):
        with pytest.raises(aeon.NotAStoreError, match="no aeon store"):
            aeon.open(tmp_path / "agent.aeon", 8, **options)
    with pytest.raises(aeon.NotAStoreError, match="is no directory: make it first"):
        aeon.open(tmp_path / "nowhere" / "agent.aeon", 8)
    assert disk(tmp_path) == {}


def test_an_empty_directory_becomes_a_store(path: Path) -> None:
    path.mkdir()
    with aeon.open(path, 8) as store:
        assert store.remember("a") == 1


def test_a_log_without_its_manifest_is_not_overwritten(open_store: Any, path: Path, disk: Any) -> None:
    store = open_store()
    store.remember("precious")
    store.close()
    (path / "MANIFEST").rename(path.parent / "MANIFEST")
    before = disk(path)
    with pytest.raises(aeon.CorruptionError, match="the manifest of the log"):
        aeon.open(path, 8)
    assert disk(path) == before


def rewrite_version(path: Path, version: int) -> None:
    """Give a MANIFEST another format version, checksum and all."""
    data = bytearray((path / "MANIFEST").read_bytes())
    data[8:12] = version.to_bytes(4, "little")
    data[20:24] = manifest.dispatch.kernels.crc32c(bytes(data[:20])).to_bytes(4, "little")
    (path / "MANIFEST").write_bytes(data)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_format(open_store: Any, path: Path, disk: Any, read_only: bool) -> None:
    open_store().close()
    rewrite_version(path, FORMAT_VERSION + 1)
    before = disk(path)
    with pytest.raises(aeon.VersionError, match=f"format {FORMAT_VERSION + 1}; this aeon reads up to {FORMAT_VERSION}"):
        aeon.open(path, read_only=read_only)
    assert {**disk(path), "LOCK": b""} == {**before, "LOCK": b""}
    rewrite_version(path, FORMAT_VERSION)
    open_store().close()


def test_another_dim_than_the_stores(open_store: Any, path: Path, disk: Any) -> None:
    open_store().close()
    before = disk(path)
    with pytest.raises(aeon.EmbedderMismatchError, match="keeps vectors of 8 dims, not 9"):
        aeon.open(path, 9)
    with pytest.raises(aeon.EmbedderMismatchError, match="not 9"):
        aeon.open(path, 9, read_only=True)
    assert {**disk(path), "LOCK": b""} == {**before, "LOCK": b""}


def test_a_second_writer_learns_who_holds_the_store(store: Store, path: Path, disk: Any) -> None:
    store.remember("a")
    before = disk(path)
    with pytest.raises(aeon.LockedError, match=f"pid {os.getpid()} on .* since 20") as raised:
        aeon.open(path)
    assert f"pid {os.getpid()} " in raised.value.holder
    assert disk(path) == before


def test_a_second_writer_in_another_process(store: Store, path: Path, disk: Any) -> None:
    before = disk(path)
    code = "import aeon, sys\ntry: aeon.open(sys.argv[1])\nexcept aeon.LockedError as error: print(error.holder)"
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith(f"pid {os.getpid()} on ")
    assert disk(path) == before
    store.remember("goes on")


def test_a_failed_open_leaves_the_lock_free(open_store: Any, path: Path) -> None:
    open_store().close()
    for dim in (9, 10):
        with pytest.raises(aeon.EmbedderMismatchError):
            aeon.open(path, dim)
    open_store().remember("a")


# -- the operating system says no -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["mkdir", "lock", "create", "pwrite", "fsync", "fsync_dir", "rename"])
def test_a_directory_that_may_not_be_written(path: Path, hooked_files: Any, operation: str) -> None:
    def forbid(called: str, where: str) -> None:
        if called == operation:
            raise PermissionError(errno.EACCES, "Permission denied", where)

    with pytest.raises(aeon.OpenError, match="Permission denied"):
        aeon.open(path, 8, files=hooked_files(forbid))
    with aeon.open(path, 8) as store:
        assert store.remember("a") == 1


@pytest.mark.parametrize("operation", ["lock", "open", "open_writable"])
def test_an_existing_store_that_may_not_be_written(
    open_store: Any, path: Path, hooked_files: Any, operation: str
) -> None:
    store = open_store()
    store.remember("a")
    store.close()

    def forbid(called: str, where: str) -> None:
        if called == operation:
            raise PermissionError(errno.EACCES, "Permission denied", where)

    with pytest.raises(aeon.OpenError, match="Permission denied"):
        aeon.open(path, files=hooked_files(forbid))
    with aeon.open(path, 8) as store:
        assert store.get(1).text == "a"


def test_a_read_only_directory_can_be_read(open_store: Any, path: Path, hooked_files: Any, disk: Any) -> None:
    store = open_store()
    store.remember("a", VECTOR)
    store.checkpoint()
    store.remember("b", VECTOR)
    store.close()
    before = disk(path)

    def forbid(called: str, where: str) -> None:
        if called not in ("open", "listdir", "close"):
            raise PermissionError(errno.EROFS, "Read-only file system", where)

    files = hooked_files(forbid)
    with aeon.open(path, read_only=True, files=files) as reader:
        assert [hit.text for hit in reader.recall(VECTOR)] == ["a", "b"]
        assert reader.refresh() == 2
        assert reader.check().ok
        assert reader.stats().read_only
    assert disk(path) == before
    assert set(files.counts) == {"open", "listdir", "close"}


READ_ONLY_CALLS: dict[str, Callable[[Store], Any]] = {
    "remember": lambda store: store.remember("x"),
    "remember_many": lambda store: store.remember_many(["x"]),
    "forget": lambda store: store.forget(1),
    "forget by filter": lambda store: store.forget(where={}),
    "transaction": lambda store: store.transaction().__enter__(),
    "flush": lambda store: store.flush(),
    "checkpoint": lambda store: store.checkpoint(),
}


@pytest.mark.parametrize("call", READ_ONLY_CALLS.values(), ids=READ_ONLY_CALLS)
def test_writing_to_a_read_only_store(store: Store, path: Path, disk: Any, call: Any) -> None:
    store.remember("a")
    before = disk(path)
    with aeon.open(path, read_only=True) as reader, pytest.raises(aeon.ReadOnlyError, match="open read-only"):
        call(reader)
    assert disk(path) == before


def no_space_after(count: int, operation: str) -> Callable[[str, str], None]:
    """A hook: the device is full from the `count`-th call of `operation` on, until `left[0]` is raised."""
    left = [count]

    def hook(called: str, where: str) -> None:
        if called == operation:
            left[0] -= 1
            if left[0] < 0:
                kind = NoSpaceError if called == "allocate" else OSError
                raise kind(errno.ENOSPC, "No space left on device", where)

    hook.left = left  # type: ignore[attr-defined]
    return hook


def test_no_space_for_the_log_refuses_the_commit_and_goes_on_when_there_is_space(
    open_store: Any, path: Path, hooked_files: Any, state: Any, disk: Any
) -> None:
    hook = no_space_after(1000, "allocate")
    store = open_store(files=hooked_files(hook), segment_growth_bytes=512)
    store.remember("a", VECTOR, key="k")
    refused = Untouched(store, path, state, disk)
    hook.left[0] = 0
    refused(aeon.CapacityError, "no space left on the device", lambda: store.remember("x" * 1000, key="k"))
    refused(aeon.CapacityError, "no space left on the device", lambda: store.remember_many(["x" * 1000] * 2))

    def transaction() -> None:
        with store.transaction():
            store.remember("y" * 500)
            store.forget(1)
            store.remember("z" * 500)

    refused(aeon.CapacityError, "no space left on the device", transaction)
    assert store.remember("fits") == 2, "what fits the space that was reserved is still taken"
    hook.left[0] = 1000
    assert store.remember("x" * 1000, key="k") == 3
    store.close()
    store = open_store()
    assert [memory.id for memory in store.history()] == [2, 3]


@pytest.mark.parametrize("operation", ["pwrite", "create", "fsync", "fsync_dir", "rename", "mkdir"])
def test_no_space_for_a_checkpoint_poisons_and_loses_nothing(
    open_store: Any, path: Path, hooked_files: Any, state: Any, operation: str
) -> None:
    hook = no_space_after(1000, operation)
    store = open_store(files=hooked_files(hook))
    store.remember_many(["a", "b"], np.eye(2, 8), keys=["k", None])
    before = state(store)
    hook.left[0] = 0
    with pytest.raises(aeon.PoisonedError, match="No space left on device"):
        store.checkpoint()
    assert state(store) == before, "reading goes on"
    with pytest.raises(aeon.PoisonedError) as raised:
        store.remember("c")
    assert raised.value.first_cause.errno == errno.ENOSPC
    store.close()
    store = open_store()
    assert state(store) == before
    store.remember("c")
    store.checkpoint()
    assert len(store) == 3


@pytest.mark.parametrize("operation", ["fdatasync", "pwrite"])
def test_a_failed_write_or_sync_is_never_retried(
    open_store: Any, hooked_files: Any, state: Any, operation: str
) -> None:
    failing = [False]

    def hook(called: str, where: str) -> None:
        if failing[0] and called == operation:
            raise OSError(errno.EIO, "Input/output error", where)

    files = hooked_files(hook)
    store = open_store(files=files, durability="full")
    store.remember("a", VECTOR)
    before = state(store)
    failing[0] = True
    with pytest.raises(aeon.PoisonedError, match="Input/output error"):
        store.remember("b", VECTOR)
    failing[0] = False
    calls = files.counts[operation]
    for call in (lambda: store.remember("c"), store.flush, store.checkpoint, lambda: store.transaction().__enter__()):
        with pytest.raises(aeon.PoisonedError, match="reopen the store"):
            call()
    assert files.counts[operation] == calls
    assert state(store) == before, "what may be lost is not shown"
    store.close()
    store = open_store()
    assert state(store)["memories"][1] == before["memories"][1]
    assert [hit.id for hit in store.recall(VECTOR, 1)] == [1]


def test_no_space_for_a_long_text_poisons_and_loses_nothing(open_store: Any, hooked_files: Any, state: Any) -> None:
    hook = no_space_after(1000, "pwrite")
    store = open_store(files=hooked_files(hook))
    store.remember("a")
    before = state(store)
    hook.left[0] = 0
    with pytest.raises((aeon.PoisonedError, aeon.CapacityError), match=r"No space left|no space left"):
        store.remember("x" * (2 << 20))
    assert state(store) == before
    store.close()
    hook.left[0] = 1000
    assert state(open_store()) == before


# -- after the end ----------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Store], Any]] = {
    **READ_ONLY_CALLS,
    "recall": lambda store: store.recall(VECTOR),
    "search": lambda store: store.atlas.search(VECTOR),
    "get": lambda store: store.get(1),
    "get_key": lambda store: store.get_key("k"),
    "history": lambda store: store.history(),
    "memories": lambda store: store.memories(),
    "sessions": lambda store: store.sessions(),
    "len": len,
    "lsn": lambda store: store.lsn,
    "check": lambda store: store.check(),
    "stats": lambda store: store.stats(),
    "refresh": lambda store: store.refresh(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_use_after_close(open_store: Any, path: Path, disk: Any, call: Any) -> None:
    store = open_store()
    store.remember("a", VECTOR)
    store.close()
    before = disk(path)
    with pytest.raises(aeon.ClosedError, match="is closed"):
        call(store)
    store.close()
    assert disk(path) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_to_open_anew(store: Store, path: Path, disk: Any) -> None:
    store.remember("a", VECTOR)
    before = disk(path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # no pytest in here: whatever happens, the child says it and ends
        said = []
        try:
            for name, call in CALLS.items():
                try:
                    call(store)
                    said.append(f"{name} worked")
                except aeon.ClosedError as error:
                    if "forked child opens it anew" not in str(error):
                        said.append(f"{name}: {error}")
            store.close()
            try:
                aeon.open(path)
                said.append("opened beside the parent")
            except aeon.LockedError:
                pass
            with aeon.open(path, read_only=True) as reader:
                if reader.get(1).text != "a":
                    said.append("read another text")
        except BaseException as error:  # noqa: BLE001
            said.append(repr(error))
        os.write(write, "; ".join(said).encode() or b"all well")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"all well"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert disk(path) == before
    assert store.remember("b", VECTOR) == 2, "the parent writes on, and still holds the lock"
    with pytest.raises(aeon.LockedError):
        aeon.open(path, files=OsFileSystem())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_outlives_its_parents_lock(open_store: Any, path: Path) -> None:
    store = open_store()
    store.remember("a")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    store.close()
    try:
        reopened = open_store()  # the child inherited no lock
        assert reopened.remember("b") == 2
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_an_unknown_field_is_found_out_while_others_write(store: Store, switch_often: None) -> None:
    import threading

    store.remember("a", VECTOR, metadata={f"field{n}": n for n in range(300)})
    stop = threading.Event()

    def write() -> None:
        n = 300
        while not stop.is_set() and n < 5000:
            store.remember("b", metadata={f"field{n}": n})
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            with pytest.raises(aeon.FilterError, match="did you mean"):
                store.recall(VECTOR, where={"fjeld7": 1})
    finally:
        stop.set()
        writer.join()
    assert recall.FIELDS_MAX > 0


def test_a_time_in_nanoseconds_is_refused_and_every_time_that_is_kept_can_be_read(tmp_path: Path) -> None:
    import datetime as dt
    import time

    with aeon.open(tmp_path / "times.aeon") as store:
        for wrong in (time.time_ns(), -(1 << 60), dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))):
            with pytest.raises(aeon.InvalidInputError, match=r"years 1 to 9999|calendar"):
                store.remember("a", timestamp=wrong)
        for right in (
            0,
            -62_135_596_800_000_000,
            253_402_300_799_999_999,
            dt.datetime(1, 1, 3),
            dt.datetime(9999, 12, 30),
        ):
            assert store.get(store.remember("a", timestamp=right)).time.year in (1, 1970, 9999)


def test_one_key_for_a_whole_batch_is_refused(tmp_path: Path) -> None:
    with aeon.open(tmp_path / "keys.aeon") as store:
        with pytest.raises(aeon.InvalidInputError, match="keys is a list with one for each text"):
            store.remember_many(["one", "two"], keys="doc")
        assert len(store) == 0


def test_an_empty_path_names_no_store() -> None:
    with pytest.raises(aeon.OpenError):
        aeon.open("")


def test_a_store_that_was_dropped_does_not_lock_out_the_next_one(tmp_path: Path) -> None:
    aeon.open(tmp_path / "dropped.aeon").remember("kept")
    with aeon.open(tmp_path / "dropped.aeon") as store:
        assert [memory.text for memory in store.history()] == ["kept"]
