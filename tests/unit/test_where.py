"""The filter dialect: a table per rule, and a naive interpreter that random filters are compared with."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aeon.errors import FilterError, UsageError
from aeon.fields import Fields
from aeon.where import DEPTH_MAX, MISSING, _compiled, compile_where, read_field

NAN = math.nan


def matches(where: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> bool:
    result = compile_where(where).matches(metadata)
    assert type(result) is bool
    return result


# -- the naive twin: canonical values, every reading of a path, no short cuts -----------------------------------------


def canonical(value: Any) -> Any:
    """A value whose Python equality is the dialect's equality."""
    match value:
        case bool() | None | str() | bytes():
            return (type(value).__name__, value)
        case float() if not math.isfinite(value):
            return ("number", object() if math.isnan(value) else str(value))
        case int() | float():
            return ("number", Fraction(value))
        case list() | tuple():
            return ("list", tuple(canonical(item) for item in value))
        case Mapping():
            return ("mapping", frozenset((key, canonical(item)) for key, item in value.items()))
    return ("alien", object())


def naive_readings(path: str) -> list[tuple[str, ...]]:
    """Every way to cut a dotted path into keys, the longest first key first."""
    parts = path.split(".")
    readings = []
    for cuts in itertools.product([False, True], repeat=len(parts) - 1):
        keys = [parts[0]]
        for cut, part in zip(cuts, parts[1:], strict=True):
            if cut:
                keys.append(part)
            else:
                keys[-1] += "." + part
        readings.append(tuple(keys))
    return sorted(readings, key=lambda keys: [-key.count(".") for key in keys])


def naive_values(metadata: Any, path: str) -> list[Any]:
    """The field's value in a list, or an empty list."""
    for keys in naive_readings(path):
        value = metadata
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                break
            value = value[key]
        else:
            return [value]
    return []


def naive_keys(condition: Any) -> list[str]:
    if not isinstance(condition, Mapping):
        return []
    return [*condition, *(key for inner in condition.values() for key in naive_keys(inner))]


def naive_equal(found: Any, operand: Any) -> bool:
    candidates = [canonical(found)]
    if isinstance(found, list | tuple) and not isinstance(operand, list | tuple | Mapping):
        candidates += [canonical(item) for item in found]
    return canonical(operand) in candidates


def naive_operator(name: str, values: list[Any], operand: Any) -> bool:
    if name == "$not":
        return not all(naive_operator(inner, values, operand[inner]) for inner in operand)
    if name == "$exists":
        return bool(values) is operand
    if name == "$ne":
        return not naive_operator("$eq", values, operand)
    if not values:
        return False
    if name == "$eq":
        return naive_equal(values[0], operand)
    if name in ("$in", "$nin"):
        return (name == "$in") == any(naive_equal(values[0], item) for item in operand)
    if canonical(values[0])[0] != canonical(operand)[0] or canonical(operand)[0] not in ("number", "str", "bytes"):
        return False
    below, above = values[0] < operand, values[0] > operand
    equal = canonical(values[0]) == canonical(operand)
    return bool({"$gt": above, "$gte": above or equal, "$lt": below, "$lte": below or equal}[name])


def naive_condition(metadata: Any, path: str, condition: Any) -> bool:
    if not any(key.startswith("$") for key in naive_keys(condition)):
        return naive_operator("$eq", naive_values(metadata, path), condition)
    return all(
        naive_operator(key, naive_values(metadata, path), inner)
        if key.startswith("$")
        else naive_condition(metadata, path + "." + key, inner)
        for key, inner in condition.items()
    )


def naive_matches(where: Any, metadata: Any) -> bool:
    verdicts = []
    for key, operand in where.items():
        if key == "$and":
            verdicts.append(all(naive_matches(member, metadata) for member in operand))
        elif key == "$or":
            verdicts.append(any(naive_matches(member, metadata) for member in operand))
        elif key == "$not":
            verdicts.append(not naive_matches(operand, metadata))
        else:
            verdicts.append(naive_condition(metadata, key, operand))
    return all(verdicts)


# -- random filters and metadata over few names and values, so that matches are common --------------------------------

numbers = st.sampled_from([0, 1, 2, -1, 1.0, -0.0, 0.5, NAN, math.inf, -math.inf, 2**53 + 1, float(2**53), 2**70])
scalars = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(["", "a", "b", "1", b"", b"a", b"b"]))
names = st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a", "", "c"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
metadatas = st.dictionaries(names, values, max_size=4)
value_operators = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
operator_entries = st.one_of(
    st.tuples(st.sampled_from(value_operators), scalars | values),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars | values, max_size=4)),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.sets(scalars, max_size=4)),
    st.tuples(st.just("$exists"), st.booleans()),
)
operator_mappings = st.recursive(
    st.lists(operator_entries, min_size=1, max_size=3).map(dict),
    lambda inner: inner.map(lambda operators: {"$not": operators}),
    max_leaves=3,
)
conditions = st.recursive(
    scalars | operator_mappings | values,
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=2),
    max_leaves=3,
)
filters = st.recursive(
    st.dictionaries(names, conditions, max_size=3),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)).map(lambda e: dict([e])),
        inner.map(lambda where: {"$not": where}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2), "$not": inner}),
    ),
    max_leaves=5,
)


@settings(max_examples=1500, deadline=None)
@given(filters, st.lists(metadatas, min_size=1, max_size=4))
@example({"a": {"$in": [NAN]}}, [{"a": NAN}, {"a": [NAN]}])
@example({"a": {"$in": [[NAN], {"b": NAN}]}}, [{"a": [NAN]}, {"a": {"b": NAN}}])
@example({"a.b.a": 1}, [{"a.b": {}, "a": {"b": {"a": 1}}}, {"a": {"b.a": 1}}, {"a.b": {"a": 1}, "a": {"b.a": 2}}])
def test_agrees_with_the_naive_interpreter(where: Any, metadata_list: list[Any]) -> None:
    compiled = compile_where(where)
    for metadata in metadata_list:
        assert compiled.matches(metadata) is naive_matches(where, metadata), metadata


@settings(max_examples=800, deadline=None)
@given(filters, metadatas)
def test_required_fields_are_there_in_every_match(where: Any, metadata: Any) -> None:
    compiled = compile_where(where)
    assert compiled.required_fields <= compiled.fields
    if compiled.matches(metadata):
        assert [path for path in compiled.required_fields if read_field(metadata, path) is MISSING] == []


def as_stored(metadata: Any) -> Any:
    try:
        return msgpack.unpackb(msgpack.packb(metadata), strict_map_key=False)
    except OverflowError:  # 2**70 is no value of a store
        return None


@settings(max_examples=1500, deadline=None)
@given(
    filters, st.lists(metadatas.map(as_stored), max_size=9), st.integers(0, 9), st.integers(0, 9),
    st.sets(st.integers(0, 8)),
)  # fmt: skip
@example({"a": {"$in": [NAN, 1]}}, [{"a": NAN}, {"a": [NAN]}, {"a": 1.0}, {"a": [True, 1]}], 2, 1, {1, 3})
@example({"a": {"$ne": 0}}, [{"a": -0.0}, None, {"a": 0}, {"a": False}], 1, 0, {0, 1, 2, 3})
def test_columns_agree_with_the_filter(where: Any, metadata: Any, cut: int, first: int, kept: set[int]) -> None:
    compiled, fields, count = compile_where(where), Fields(), len(metadata)

    def indexes(start: int, stop: int) -> Any:
        return np.array([n for n in range(start, stop) if metadata[n] is not None], np.int64)

    def read(asked: Any) -> list[Any]:
        return [metadata[n] for n in asked.tolist()]

    expected = [compiled.matches(each) for each in metadata]
    cut, first = min(cut, count), min(first, count)
    found = fields.mask(compiled, 0, cut, indexes, read)
    assert found is not None and found.tolist() == expected[:cut]
    found = fields.mask(compiled, first, count, indexes, read)
    assert found is not None and found.tolist() == expected[first:], "continued"
    places = np.array(sorted(n for n in kept if n < count), np.int64)
    later = Fields()
    later.take_over(fields, places, lambda: None)
    found = later.mask(compiled, 0, len(places), lambda *_: np.empty(0, np.int64), read)
    assert found is not None and found.tolist() == [expected[n] for n in places.tolist()], "taken over"


@settings(max_examples=300, deadline=None)
@given(metadatas, st.sampled_from(["a", "a.b", "a.b.a", "b.a", "c", "", ".", "a..b"]))
def test_read_field_agrees_with_the_naive_reader(metadata: Any, path: str) -> None:
    found = read_field(metadata, path)
    expected = naive_values(metadata, path)
    assert (found is MISSING) if not expected else (found is expected[0])


# -- one table per rule -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [None, {}, {"a": 1}, {"$x": object()}])
def test_the_empty_filter_matches_everything(metadata: Any) -> None:
    assert matches({}, metadata)
    assert not matches({"$not": {}}, metadata)


@pytest.mark.parametrize(
    ("condition", "matching"),
    [
        (1, [1, 1.0, [3, 1], (1,)]),
        (True, [True, [True]]),
        (None, [None, [None]]),
        ("x", ["x", ["x"]]),
        (b"x", [b"x"]),
        ([1], [[1], (1.0,)]),
        ((1,), [[1], (1.0,)]),
        ([], [[]]),
        ({"k": 1}, [{"k": 1}]),
        ({"$eq": {"$k": 1}}, [{"$k": 1}]),
        ({"$eq": {"$k": 1, "k": 2}}, [{"$k": 1, "k": 2}]),
        ({"$eq": NAN}, []),
        ({"$gt": 1}, [math.inf]),
        ({"$gte": 1}, [1, 1.0, math.inf]),
        ({"$lt": 1}, []),
        ({"$lte": 1}, [1, 1.0]),
        ({"$gte": ""}, ["x", "xy"]),
        ({"$lte": b"y"}, [b"x"]),
        ({"$gte": NAN}, []),
        ({"$gte": None}, []),
        ({"$gte": True}, []),
        ({"$gte": [1]}, []),
        ({"$gte": {"k": 1}}, []),
        ({"$gte": 1, "$lt": 2}, [1, 1.0]),
        ({"$in": [1, "x"]}, [1, 1.0, "x", [3, 1], (1,), ["x"]]),
        ({"$in": (True, None)}, [True, [True], None, [None]]),
        ({"$in": {b"x"}}, [b"x"]),
        ({"$in": frozenset({"xy"})}, ["xy"]),
        ({"$in": [[1], {"k": 1}]}, [[1], (1,), (1.0,), {"k": 1}]),
        ({"$in": []}, []),
    ],
)
def test_conditions_match_these_values_and_no_others(condition: Any, matching: list[Any]) -> None:
    pool: list[Any] = [1, 1.0, True, None, "x", "xy", b"x", NAN, math.inf, [1], [3, 1], (1,), (1.0,), [True], [None]]
    pool += [
        ["x"],
        [],
        {"k": 1},
        {"k": True},
        {"k": 1, "l": 2},
        {"$k": 1},
        {"$k": 1, "k": 2},
        {},
        [[1]],
        [{"k": 1}],
        object(),
        {1, 2},
    ]

    def shown(values: list[Any]) -> list[str]:
        return sorted({repr(canonical(value)) for value in values})

    assert shown([value for value in pool if matches({"a": condition}, {"a": value})]) == shown(matching)
    assert not matches({"a": condition}, {}), "a missing field"
    assert not matches({"a": condition}, None)


@pytest.mark.parametrize(
    ("condition", "when_missing", "when_one", "when_none"),
    [
        ({"$ne": 1}, True, False, True),
        ({"$ne": None}, True, True, False),
        ({"$nin": [1]}, False, False, True),
        ({"$nin": []}, False, True, True),
        ({"$exists": True}, False, True, True),
        ({"$exists": False}, True, False, False),
        ({"$not": {"$gt": 0}}, True, False, True),
        ({"$not": {"$nin": [1]}}, True, True, False),
        ({"$not": {"$not": {"$eq": 1}}}, False, True, False),
        ({"$not": {"$gte": 1, "$lte": 1}}, True, False, True),
        ({"$exists": True, "$ne": 1}, False, False, True),
    ],
)
def test_negations_and_missing_fields(condition: Any, when_missing: bool, when_one: bool, when_none: bool) -> None:
    cases: list[tuple[str, Any, Any]] = [("a", {"a": 1}, {"a": None}), ("a.b", {"a": {"b": 1}}, {"a": {"b": None}})]
    for field, one, none in cases:
        assert matches({field: condition}, None) is when_missing
        assert matches({field: condition}, {"other": 1}) is when_missing
        assert matches({field: condition}, one) is when_one
        assert matches({field: condition}, none) is when_none


def test_ne_and_nin_look_into_lists_as_eq_does() -> None:
    assert not matches({"tags": {"$ne": "x"}}, {"tags": ["x", "y"]})
    assert not matches({"tags": {"$nin": ["x"]}}, {"tags": ["x", "y"]})
    assert matches({"tags": {"$ne": ["x"]}}, {"tags": ["x", "y"]})


@pytest.mark.parametrize("alien", [object(), {1}, 1j, range(3), Exception])
def test_alien_values_in_metadata_exist_and_equal_nothing(alien: Any) -> None:
    assert not matches({"a": {"$in": [1, [1], {"a": 1}]}}, {"a": alien})
    assert not matches({"a": {"$gte": 0}}, {"a": alien})
    assert matches({"a": {"$nin": [1], "$ne": 1, "$exists": True}}, {"a": alien})
    assert matches({"a": 1}, {"a": [alien, 1]})
    assert not matches({"a": [1]}, {"a": [alien]})


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"a.b": 1, "a": {"b": 2}}, 1),
        ({"a.b": None, "a": {"b": 2}}, None),
        ({"a": {"b": 2}}, 2),
        ({"a": MappingProxyType({"b": 3})}, 3),
        ({"a": [{"b": 2}]}, MISSING),
        ({"a": 1}, MISSING),
        ({"b": 1}, MISSING),
    ],
)
def test_dotted_paths_prefer_the_exact_key_and_never_enter_lists(metadata: Any, expected: Any) -> None:
    assert read_field(metadata, "a.b") is expected
    assert matches({"a.b": {"$exists": True}}, metadata) is (expected is not MISSING)


def test_a_longer_key_that_leads_nowhere_gives_way_to_a_shorter_one() -> None:
    assert matches({"a.b.c": 1}, {"a.b": {"x": 0}, "a": {"b": {"c": 1}}})
    assert matches({"a.b.c": 1}, {"a.b": 7, "a": {"b.c": 1}})
    assert not matches({"a.b.c": 1}, {"a.b": {"c": 2}, "a": {"b": {"c": 1}}})


def test_nested_mappings_with_operators_are_dotted_paths_and_without_are_values() -> None:
    assert matches({"a": {"b": {"$gt": 1}}}, {"a": {"b": 2, "other": 0}})
    assert matches({"a": {"b": {"$gt": 1}}}, {"a.b": 2})
    assert matches({"a": {"b": {"$gt": 1}, "c": {"d": 1}}}, {"a": {"b": 2, "c": {"d": 1}}})
    assert not matches({"a": {"b": {"$gt": 1}, "c": {"d": 1}}}, {"a": {"b": 2, "c": {"d": 1, "e": 2}}})
    assert matches({"a": {"b": {"c": {"$exists": False}}}}, {"a": {"b": 1}})
    assert matches({"a": {"b": 1}}, {"a": {"b": 1}})
    assert not matches({"a": {"b": 1}}, {"a": {"b": 1, "other": 0}})
    assert not matches({"a": {"b": 1}}, {"a.b": 1})
    assert matches({"a": {}}, {"a": {}})


def test_logical_operators() -> None:
    either = {"$or": [{"a": 1}, {"b": 1}]}
    assert [matches(either, m) for m in ({"a": 1}, {"b": 1}, {"a": 2})] == [True, True, False]
    both = {"$and": ({"a": 1}, {"b": 1})}
    assert [matches(both, m) for m in ({"a": 1}, {"b": 1}, {"a": 1, "b": 1})] == [False, False, True]
    assert matches({"$not": both, **either}, {"a": 1})
    assert not matches({"$not": both, **either}, {"a": 1, "b": 1})
    assert not matches({"$not": {"a": 1, "b": {"$ne": 1}}}, {"a": 1})


def test_subclasses_count_as_their_base() -> None:
    class Level(enum.IntEnum):
        HIGH = 3

    class Text(str):
        __slots__ = ()

    assert matches({"a": Level.HIGH}, {"a": 3})
    assert matches({"a": 3}, {"a": Level.HIGH})
    assert matches({"a": {"$in": [Text("red")]}}, {"a": "red"})
    assert matches(MappingProxyType({"a": MappingProxyType({"$gt": 2})}), MappingProxyType({"a": 3}))
    assert matches({"a": {"k": 1}}, {"a": MappingProxyType({"k": 1})})


def test_later_changes_to_the_filter_do_not_reach_what_was_compiled() -> None:
    where: dict[str, Any] = {"a": [1, {"k": [2]}], "b": {"$in": [[1]]}, "$and": [{"c": 1}]}
    where.pop("$and")
    compiled = compile_where(where)
    where["a"][1]["k"].append(3)
    where["b"]["$in"][0].append(2)
    where["b"]["$in"].append(9)
    assert compiled.matches({"a": [1, {"k": [2]}], "b": [1]})
    assert not compiled.matches({"a": [1, {"k": [2]}], "b": 9})
    with pytest.raises(AttributeError):
        compiled.fields = frozenset()  # type: ignore[misc]


# -- what the store asks of a compiled filter -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "fields", "required"),
    [
        ({}, "", ""),
        ({"a": 1, "b.c": {"$gt": 1}}, "a b.c", "a b.c"),
        ({"a": {"b": {"$gt": 1}, "c": 2}}, "a.b a.c", "a.b a.c"),
        ({"a": {"b": 1}}, "a", "a"),
        ({"a": {"$ne": 1}}, "a", ""),
        ({"a": {"$exists": False}}, "a", ""),
        ({"a": {"$exists": True}}, "a", "a"),
        ({"a": {"$nin": [1]}}, "a", "a"),
        ({"a": {"$ne": 1, "$lt": 5}}, "a", "a"),
        ({"a": {"$not": {"$gt": 1}}}, "a", ""),
        ({"a": {"$not": {"$ne": 1}}}, "a", "a"),
        ({"a": {"$not": {"$exists": False}}}, "a", "a"),
        ({"a": {"$not": {"$ne": 1, "$gt": 0}}}, "a", ""),
        ({"$not": {"a": 1}}, "a", ""),
        ({"$not": {"a": {"$ne": 1}}}, "a", "a"),
        ({"$not": {"a": {"$ne": 1}, "b": 1}}, "a b", ""),
        ({"$not": {"$and": [{"a": {"$ne": 1}}, {"a": {"$ne": 2}}]}}, "a", "a"),
        ({"$not": {"$or": [{"a": {"$ne": 1}}, {"b": {"$ne": 1}}]}}, "a b", "a b"),
        ({"$or": [{"a": 1}, {"b": 1}]}, "a b", ""),
        ({"$or": [{"a": 1}, {"a": 2, "b": 1}]}, "a b", "a"),
        ({"$or": [{"a": 1}, {}]}, "a", ""),
        ({"$and": [{"a": 1}, {"b": {"$ne": 1}}]}, "a b", "a"),
    ],
)
def test_fields_and_required_fields(where: Any, fields: str, required: str) -> None:
    compiled = compile_where(where)
    assert compiled.fields == frozenset(fields.split())
    assert compiled.required_fields == frozenset(required.split())


@pytest.mark.parametrize(
    "where", [{"a": 1, "b": {"$in": ["x", 2.5]}}, {"$or": [{"a": b"x"}, {"b": {"$gt": None}}]}, {"a": {"$in": {1}}}, {}]
)
def test_the_same_filter_compiled_twice_is_equal(where: Any) -> None:
    assert compile_where(where) == compile_where(where)
    assert len({compile_where(where), compile_where(where)}) == 1


def test_filters_that_differ_are_not_equal() -> None:
    different = [{"a": 1}, {"a": True}, {"a": "1"}, {"a": b"1"}, {"b": 1}, {"a": [1]}, {"a": {"$ne": 1}}, {"a": 2**70}]
    assert len({compile_where(where) for where in different}) == len(different)
    assert compile_where({"a": 2**70}) != compile_where({"a": 2**70 + 1})


# -- bad filters ------------------------------------------------------------------------------------------------------


def nested(levels: int, wrap: Any, core: Any) -> Any:
    for _ in range(levels):
        core = wrap(core)
    return core


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (None, ["where must be a mapping", "None (NoneType)"]),
        ([("a", 1)], ["where must be a mapping", "list"]),
        ("a", ["where must be a mapping", "'a' (str)"]),
        ({"a": {"$gtt": 1}}, ["where['a']", "unknown operator '$gtt'", "did you mean '$gt'?", "$exists"]),
        ({"a": {"$GTE": 1}}, ["did you mean '$gte'?"]),
        ({"a": {"$regex": "x"}}, ["unknown operator '$regex'", "$eq $ne $gt $gte $lt $lte $in $nin $exists $not"]),
        ({"a": {"b": {"$ref": 1}}}, ["where['a']['b']", "'$ref'"]),
        ({"a": {"$or": [{"$gt": 1}]}}, ["where['a']", "unknown operator '$or'", "joins whole filters"]),
        ({"$ands": [{"a": 1}]}, ["unknown operator '$ands'", "did you mean '$and'?", "$and $or $not"]),
        ({"$gt": 1}, ["unknown operator '$gt'", "belongs on a field"]),
        ({"$or": [{"a": 1}, {"b": {"$in": 3}}]}, ["where['$or'][1]['b']['$in']", "list, tuple or set", "3 (int)"]),
        ({"a": {"$in": "abc"}}, ["list, tuple or set"]),
        ({"a": {"$nin": {"k": 1}}}, ["list, tuple or set"]),
        ({"a": {"$in": None}}, ["list, tuple or set"]),
        ({"a": {"$in": [1, object()]}}, ["where['a']['$in'][1]", "metadata cannot hold"]),
        ({"$and": []}, ["where['$and']", "non-empty list"]),
        ({"$or": ()}, ["where['$or']", "non-empty list"]),
        ({"$or": {"a": 1}}, ["where['$or']", "non-empty list"]),
        ({"$and": [{"a": 1}, 7]}, ["where['$and'][1] must be a mapping", "7 (int)"]),
        ({"$not": [{"a": 1}]}, ["where['$not'] must be a mapping"]),
        ({"a": {"$not": 1}}, ["where['a']['$not']", "mapping of operators"]),
        ({"a": {"$not": {}}}, ["mapping of operators"]),
        ({"a": {"$not": {"b": {"$gt": 1}}}}, ["mapping of operators"]),
        ({"a": {"$not": {"$gt": 1, "b": 1}}}, ["where['a']['$not']", "mixes"]),
        ({"a": {"$not": {"$nott": 1}}}, ["did you mean '$not'?"]),
        ({1: 2}, ["where", "field name 1 (int)", "must be str"]),
        ({"a": {1: 2}}, ["where['a']", "field name 1 (int)"]),
        ({"a": {"b": {"$gt": 1}, None: 2}}, ["where['a']", "None (NoneType)"]),
        ({"a": [{1: 2}]}, ["where['a'][0]", "field name 1 (int)"]),
        ({"a": {"$exists": 1}}, ["where['a']['$exists']", "True or False", "1 (int)"]),
        ({"a": {"$exists": None}}, ["True or False"]),
        ({"a": {"$gt": 1, "b": 2}}, ["where['a']", "mixes", "'$gt'", "'b'"]),
        ({"a": {"b": 2, "$gt": 1}}, ["where['a']", "mixes", "'$gt'", "'b'"]),
        ({"a": object()}, ["where['a']", "metadata cannot hold", "None, bool, int, float, str, bytes"]),
        ({"a": {1, 2}}, ["where['a']", "(set)", "metadata cannot hold"]),
        ({"a": {"$gt": 1j}}, ["where['a']['$gt']", "(complex)"]),
        ({"a": {"$eq": [1, {"k": bytearray(b"x")}]}}, ["where['a']['$eq'][1]['k']", "(bytearray)"]),
        ({"a": {"$ne": MISSING}}, ["metadata cannot hold"]),
        ({".".join("a" * (DEPTH_MAX + 1)): 1}, ["path of more than 32 parts"]),
        ({".".join("a" * DEPTH_MAX): {"b": {"$gt": 1}}}, ["path of more than 32 parts"]),
    ],
)
def test_bad_filters_say_which_part_is_wrong_and_what_is_known(where: Any, says: list[str]) -> None:
    with pytest.raises(FilterError) as caught:
        compile_where(where)
    assert isinstance(caught.value, UsageError)
    assert isinstance(caught.value, ValueError)
    assert [part for part in says if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("wrap", "core", "levels"),
    [
        (lambda inner: {"$not": inner}, {"a": 1}, DEPTH_MAX - 1),
        (lambda inner: {"$and": [inner]}, {"a": 1}, DEPTH_MAX - 1),
        (lambda inner: {"k": inner}, 1, DEPTH_MAX),
        (lambda inner: {"k": inner}, {"$gt": 1}, DEPTH_MAX - 1),
    ],
)
def test_nesting_is_bounded(wrap: Any, core: Any, levels: int) -> None:
    compile_where(nested(levels, wrap, core))
    for too_many in (levels + 1, 5000):
        with pytest.raises(FilterError, match="nests deeper than 32"):
            compile_where(nested(too_many, wrap, core))


@pytest.mark.parametrize(
    ("shell", "outer"),
    [
        (lambda value: {"a": value}, 1),
        (lambda value: {"a": {"$eq": value}}, 2),
        (lambda value: {"a": {"$in": [value]}}, 2),
        (lambda value: {"a": {"$not": {"$eq": value}}}, 3),
        (lambda value: {"a": {"b": {"$gt": value}}}, 3),
    ],
)
def test_nesting_of_values_is_bounded_and_cycles_end(shell: Any, outer: int) -> None:
    def lists(levels: int) -> Any:
        return nested(levels - 1, lambda inner: [inner], [])

    cycle: list[Any] = []
    cycle.append(cycle)
    compile_where(shell(lists(DEPTH_MAX - outer)))
    for value in (lists(DEPTH_MAX - outer + 1), lists(5000), cycle):
        with pytest.raises(FilterError, match="nests deeper than 32"):
            compile_where(shell(value))


def test_messages_stay_short_whatever_the_filter_holds() -> None:
    deep = nested(5000, lambda inner: {"k": inner}, 1)
    for where in ({"a": {"$in": deep}}, {"a": {"$exists": deep}}, {"a": {"$in": "x" * 10**6}}, deep):
        with pytest.raises(FilterError) as caught:
            compile_where(where)
        assert len(str(caught.value)) < 400


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        scalars | st.sampled_from([object(), 1j, {1}]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["a", "$and", "$or", "$not", "$in", "$gt", "$exists", "$x", 1, None]), inner
            )
        ),
        max_leaves=8,
    ),
    metadatas,
)
def test_any_object_compiles_or_raises_filter_error(where: Any, metadata: Any) -> None:
    try:
        compiled = compile_where(where)
    except FilterError:
        return
    assert compiled.matches(metadata) is naive_matches(where, metadata)


def test_fields_and_logical_operators_in_one_filter_are_joined() -> None:
    """As MongoDB's users write it."""
    where = compile_where({"a": 1, "$or": [{"b": 1}, {"c": 1}]})
    assert where.matches({"a": 1, "c": 1})
    assert not where.matches({"a": 1})
    assert not where.matches({"b": 1})


def test_a_filter_seen_before_is_known_again_to_the_last_type() -> None:
    assert compile_where({"a": [1, "x"]}) is compile_where({"a": [1, "x"]})
    for here, there in (
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": "x"}, {"a": b"x"}),
        ({"a": 1}, {"b": 1}),
    ):
        assert compile_where(here) is not compile_where(there)
        assert compile_where(here) != compile_where(there)
    compile_where({"a": {"$in": [1, 2]}})
    for bad in ({"a": {"$in": {1: 2}}}, {"a": {"$in": 1}}, {"$or": []}):
        for _ in range(2):
            with pytest.raises(FilterError):
                compile_where(bad)
    for n in range(2000):  # bounded
        compile_where({"a": n})
    assert compile_where({"a": 7}).matches({"a": 7})
    assert len(_compiled) <= 256
