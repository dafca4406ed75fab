"""The key table against a dict, and with every key sharing one hash."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from aeon import key_table
from aeon.format import KEY
from aeon.key_table import KeyTable, encode_key, hash_key

EMPTY = np.empty(0, KEY.dtype)


@pytest.fixture(params=["BLAKE2b", "two values", "one value"])
def hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "BLAKE2b":
        values = {"two values": 2, "one value": 1}[request.param]
        monkeypatch.setattr(key_table, "hash_key", lambda encoded: (1 << 63) + sum(encoded) % values)


def test_the_canonical_bytes_of_a_key() -> None:
    assert encode_key((), "k") == b"\x92\x90\xa1k"
    assert encode_key(["a", "b"], "k") == encode_key(("a", "b"), "k") == b"\x92\x92\xa1a\xa1b\xa1k"
    assert (
        len({encode_key((), "ab"), encode_key(("a",), "b"), encode_key(("a", "b"), ""), encode_key(("ab",), "")}) == 4
    )


def test_the_hash_is_frozen_with_the_format() -> None:
    assert hash_key(encode_key((), "k")) == 0x9413C3AD3FDB90F1


def test_random_changes_agree_with_a_dict(hashes: None) -> None:
    rng = random.Random(5)
    names = [encode_key(("n",) * (n % 3), f"key {n}") for n in range(40)]
    owner: dict[int, bytes] = {}
    expected: dict[bytes, tuple[int, int]] = {}
    table = KeyTable(EMPTY, owner.__getitem__)
    for id_ in range(1, 3000):
        name = rng.choice(names)
        if rng.random() < 0.3:
            table.set(name, 0, 0)
            expected.pop(name, None)
        else:
            owner[id_] = name
            table.set(name, id_, -id_)
            expected[name] = (id_, -id_)
        if rng.random() < 0.02:  # a checkpoint: what is there becomes the next table's base
            records = table.records()
            assert len(records) == len(table) == len(expected)
            assert (np.diff(records["hash"].astype(object)) >= 0).all()
            assert sorted(records["id"].tolist()) == sorted(id_ for id_, _ in expected.values())
            table = KeyTable(records, owner.__getitem__)
        probe = rng.choice(names)
        assert table.get(probe) == expected.get(probe)
    assert {name: table.get(name) for name in names} == {name: expected.get(name) for name in names}
    assert len(table) == len(expected)


def test_two_keys_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch, path: Any, state: Any) -> None:
    """The whole store with every key on one hash: names decide."""
    import aeon
    from aeon import check

    for module in (key_table, check):
        monkeypatch.setattr(module, "hash_key", lambda encoded: 42)
    with aeon.open(path, 8, durability="normal") as store:
        ids = {f"k{n}": store.remember(str(n), key=f"k{n}", namespace=("x",) * (n % 2)) for n in range(6)}
        store.checkpoint()
        ids["k1"] = store.remember("new 1", key="k1", namespace=("x",))
        store.forget(ids.pop("k2"))
        ids["k7"] = store.remember("7", key="k7", namespace=("x",))
        for _ in range(2):
            for n in range(9):
                found = store.get_key(f"k{n}", ("x",) * (n % 2))
                assert (found and found.id) == ids.get(f"k{n}")
            store.checkpoint()
            assert store.check().ok
        assert store.stats().keys == len(ids)


def test_an_upsert_keeps_the_keys_creation_time(open_store: Any) -> None:
    store = open_store()
    encoded = encode_key(("n",), "k")
    for n, checkpoint in enumerate([False, True, False, True, True]):
        id_ = store.remember(f"version {n}", key="k", namespace="n", timestamp=100 + n)
        assert store._engine.keys.get(encoded) == (id_, 100)
        if checkpoint:
            store.checkpoint()
            store.close()
            store = open_store()
        assert store._engine.keys.get(encoded) == (id_, 100)
    store.forget(id_)
    again = store.remember("anew", key="k", namespace="n", timestamp=200)
    assert store._engine.keys.get(encoded) == (again, 200), "after forgetting it begins anew"
