"""The metadata filter dialect: a mapping in, a fast predicate out.

Grammar (anything else raises `FilterError` from `compile_where`, before anything runs):

    filter     := {field: condition, ..., "$and" | "$or": [filter, ...], "$not": filter}             all entries AND-ed
    condition  := value | {operator: operand, ...} | {field: condition, ...}                         all entries AND-ed
    operator   := $eq $ne $gt $gte $lt $lte (a value)   $in $nin (a list, tuple or set of values)
                  $exists (a bool)   $not ({operator: operand, ...})
    value      := None | bool | int | float | str | bytes | list or tuple of values | mapping of str to value

Fields. A dot descends nested mappings, never lists. If `"a.b.c"` can be read in several ways the longest key wins: the
key `"a.b.c"`, then `"a.b"` leading to `"c"`, then `"a"`. A condition that is a mapping with an operator anywhere below
it is shorthand for dotted paths: `{"a": {"b": {"$gt": 1}, "c": 2}}` is `{"a.b": {"$gt": 1}, "a.c": 2}`. A mapping
without operators is a value, compared whole. The operand of `$eq` is taken literally, `$` keys included.

Matching. Values are of seven kinds: null, bool, number, text, bytes, list, mapping. Unlike kinds are never equal and
never ordered; `True` is not `1`; only numbers, text and bytes have an order, so `{"$gt": None}` is legal and matches
nothing. NaN equals nothing, itself included. A scalar equals a list that contains it; two lists, or two mappings, are
equal as a whole. `$ne` is the negation of `$eq`, `$not` of whatever it holds: both match a missing field where the
inner condition does not. Every other operator needs the field (None is enough), `$nin` too, except `$exists: false`.
"""

from __future__ import annotations

import difflib
import functools
import operator
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgpack

from aeon.errors import FilterError

Metadata = Mapping[str, Any]
_Test = Callable[[Metadata], bool]
_ValueTest = Callable[[Any], bool]


class Columns(Protocol):
    """The values of many memories' fields, as far as `Where.mask` asks; a mask is an ndarray bool[memories]."""

    def mask(self, path: str, test: _ValueTest, scalars: tuple[Any, ...] | None) -> Any:
        """Whose value at `path` satisfies `test`; with `scalars`, those that equal one of them or are a list with one."""

    def full(self, matching: bool) -> Any:
        """The same for all."""


_Mask = Callable[[Columns], Any]


class _Missing:
    """The type of MISSING."""


MISSING: Final = _Missing()  # what `read_field` returns for an absent field: None is a value metadata can hold
DEPTH_MAX: Final = 32  # mappings (and lists in values) inside one another, and parts of a dotted path: bounds recursion

_KEPT, _KEPT_BYTES_MAX = 256, 1024  # compiled filters that are kept, and how large they may be when packed
_ORDERINGS: Final = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
_FIELD_OPERATORS: Final = ("$eq", "$ne", *_ORDERINGS, "$in", "$nin", "$exists", "$not")
_LOGICAL_OPERATORS: Final = ("$and", "$or", "$not")

_KINDS: Final[dict[Any, str]] = {type(None): "null", bool: "bool", int: "number", float: "number", str: "text"}
_KINDS.update({bytes: "bytes", list: "list", tuple: "list", dict: "mapping", Mapping: "mapping", _Missing: ""})
_SCALARS: Final = frozenset({"null", "bool", "number", "text", "bytes"})
_ORDERED: Final = frozenset({"number", "text", "bytes"})
_NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Where:
    """A compiled filter: immutable, keeps its own copy of the filter's values, safe to share between threads.

    Two are equal if they were compiled from filters that are the same, written in the same order.

    fields : every dotted path the filter names.
    required_fields : fields without which nothing matches; sound, not complete (a contradiction requires more).
    """

    fields: frozenset[str] = field(compare=False)
    required_fields: frozenset[str] = field(compare=False)
    _test: _Test = field(compare=False, repr=False)
    _mask: _Mask = field(compare=False, repr=False)
    _packed: object = field(repr=False)

    def matches(self, metadata: Metadata | None) -> bool:
        """Whether `metadata` (None is empty) satisfies the filter; never raises on what metadata can hold."""
        return self._test({} if metadata is None else metadata)

    def mask(self, columns: Columns) -> Any:
        """`matches` for many memories at once, whose fields are read from `columns`."""
        return self._mask(columns)


_compiled: dict[bytes, Where] = {}


def compile_where(where: Mapping[str, Any]) -> Where:
    """Check a filter and compile it to closures; `{}` matches everything.

    Raises FilterError naming the wrong part and what would be right. Cost: linear in the filter's size; a small one that was
    compiled lately is known again.
    """
    try:  # strictly: what is packed alike is the same filter to the last type, or it is not packed
        known_as = msgpack.packb(where, strict_types=True)
    except (TypeError, ValueError, OverflowError):
        return _compile(where)
    found = _compiled.get(known_as)
    if found is None:
        found = _compile(where)
        if len(known_as) <= _KEPT_BYTES_MAX:
            if len(_compiled) >= _KEPT:
                _compiled.clear()
            _compiled[known_as] = found
    return found


def _compile(where: Mapping[str, Any]) -> Where:
    node = _filter(where, "where", 1)
    try:
        packed: object = msgpack.packb(where, default=_plain)
    except (TypeError, ValueError, OverflowError):  # an integer of more than 64 bits: it is equal to itself alone
        packed = object()
    return Where(node.fields, node.required, node.test, node.mask, packed)


def read_field(metadata: Metadata, path: str) -> Any:
    """The value at a dotted path, borrowed from `metadata`, or MISSING; how filters read, so how an index must.

    At each mapping the longest key that leads to a value wins. Cost: each nested mapping is visited at most once.
    """
    value = metadata.get(path, MISSING)
    cut = path.rfind(".")
    while value is MISSING and cut >= 0:
        child: Any = metadata.get(path[:cut])
        if _kind(child) == "mapping":
            value = read_field(child, path[cut + 1 :])
        cut = path.rfind(".", 0, cut)
    return value


@dataclass(frozen=True, slots=True)
class _Node:
    """A compiled condition and what is known of it: a missing `required` field makes it false, a `waived` one true."""

    test: _Test
    mask: _Mask
    fields: frozenset[str]
    required: frozenset[str]
    waived: frozenset[str] = _NOTHING


def _joined(nodes: list[_Node], *, stop: bool) -> _Node:
    """AND when the first False settles it (`stop` is False), OR when the first True does."""
    if len(nodes) == 1:
        return nodes[0]
    tests = tuple(node.test for node in nodes)

    def test(metadata: Metadata) -> bool:
        for each in tests:
            if each(metadata) is stop:
                return stop
        return not stop

    def mask(columns: Columns) -> Any:
        join = operator.or_ if stop else operator.and_
        return functools.reduce(join, [node.mask(columns) for node in nodes] or [columns.full(not stop)])

    fields = _NOTHING.union(*(node.fields for node in nodes))
    required, waived = [node.required for node in nodes], [node.waived for node in nodes]
    if stop:
        return _Node(test, mask, fields, fields.intersection(*required), _NOTHING.union(*waived))
    return _Node(test, mask, fields, _NOTHING.union(*required), fields.intersection(*waived))


def _negated(node: _Node) -> _Node:
    test, mask = node.test, node.mask
    return _Node(
        lambda metadata: not test(metadata), lambda columns: ~mask(columns), node.fields, required=node.waived,
        waived=node.required,
    )  # fmt: skip


def _filter(where: object, at: str, depth: int) -> _Node:
    if not isinstance(where, Mapping):
        raise FilterError(f"{at} must be a mapping of field names to conditions, not {_shown(where)}")
    _check(where, at, depth)
    nodes = []
    for key, operand in where.items():
        here = f"{at}[{key!r}]"
        if not key.startswith("$"):
            nodes.append(_condition(key, operand, here, depth + 1))
        elif key == "$not":
            nodes.append(_negated(_filter(operand, here, depth + 1)))
        elif key not in _LOGICAL_OPERATORS:
            raise _unknown_operator(key, at, _LOGICAL_OPERATORS)
        elif not isinstance(operand, list | tuple) or not operand:
            raise FilterError(f"{here} must be a non-empty list of filters, not {_shown(operand)}")
        else:
            members = [_filter(member, f"{here}[{i}]", depth + 1) for i, member in enumerate(operand)]
            nodes.append(_joined(members, stop=key == "$or"))
    return _joined(nodes, stop=False)


def _condition(path: str, condition: object, at: str, depth: int) -> _Node:
    if path.count(".") >= DEPTH_MAX:
        raise FilterError(f"{at} names a path of more than {DEPTH_MAX} parts: {_shown(path)}")
    if not isinstance(condition, Mapping) or not _holds_operator(condition, at, depth):
        return _operation(path, "$eq", condition, at, depth)
    _check(condition, at, depth, literal=False)
    nodes = []
    for key, operand in condition.items():
        here = f"{at}[{key!r}]"
        if not key.startswith("$"):
            nodes.append(_condition(f"{path}.{key}", operand, here, depth + 1))
        elif key in _FIELD_OPERATORS:
            nodes.append(_operation(path, key, operand, here, depth + 1))
        else:
            raise _unknown_operator(key, at, _FIELD_OPERATORS)
    return _joined(nodes, stop=False)


def _operation(path: str, name: str, operand: Any, at: str, depth: int) -> _Node:
    def on_field(test: _ValueTest, scalars: tuple[Any, ...] | None = None) -> _Node:
        def mask(columns: Columns) -> Any:
            return columns.mask(path, test, scalars)

        names = frozenset({path})
        if "." in path:
            return _Node(lambda metadata: test(read_field(metadata, path)), mask, names, names)
        return _Node(lambda metadata: test(metadata.get(path, MISSING)), mask, names, names)

    if name == "$not":
        if not isinstance(operand, Mapping) or not any(str(key).startswith("$") for key in operand):
            raise FilterError(f"{at} must be a mapping of operators such as {{'$gt': 5}}, not {_shown(operand)}")
        return _negated(_condition(path, operand, at, depth))
    if name == "$exists":
        if not isinstance(operand, bool):
            raise FilterError(f"{at} must be True or False, not {_shown(operand)}")
        present = on_field(lambda found: found is not MISSING)
        return present if operand else _negated(present)
    if name in ("$in", "$nin"):
        if not isinstance(operand, list | tuple | set | frozenset):
            raise FilterError(f"{at} must be a list, tuple or set of values, not {_shown(operand)}")
        values = [_copied(item, f"{at}[{i}]", depth) for i, item in enumerate(operand)]
        among = _among(values)
        if name == "$nin":
            return on_field(lambda found: found is not MISSING and not among(found))
        return on_field(among, tuple(values) if all(_kind(value) in _SCALARS for value in values) else None)
    value = _copied(operand, at, depth)
    if name in _ORDERINGS:
        compare, kind = _ORDERINGS[name], _kind(value)
        return on_field(lambda found: kind in _ORDERED and _kind(found) == kind and bool(compare(found, value)))
    equal = on_field(_equals(value), (value,) if _kind(value) in _SCALARS else None)
    return equal if name == "$eq" else _negated(equal)


def _check(container: object, at: str, depth: int, *, literal: bool = True) -> None:
    """Depth and names; unless `literal`, also that a mapping holds either operators or field names."""
    if depth > DEPTH_MAX:
        raise FilterError(f"the filter nests deeper than {DEPTH_MAX} levels, at {at[:100]}...")
    names = [*container] if isinstance(container, Mapping) else []
    for name in names:
        if not isinstance(name, str):
            raise FilterError(f"{at} has the field name {_shown(name)}; field names must be str")
    names.sort(key=lambda name: not name.startswith("$"))  # operators first
    if names and not literal and names[0].startswith("$") and not names[-1].startswith("$"):
        raise FilterError(f"{at} mixes operator {names[0]!r} with field name {names[-1]!r}; join them with '$and'")


def _holds_operator(value: object, at: str, depth: int) -> bool:
    if not isinstance(value, Mapping):
        return False
    _check(value, at, depth)
    return any(k.startswith("$") or _holds_operator(v, f"{at}[{k!r}]", depth + 1) for k, v in value.items())


def _copied(value: Any, at: str, depth: int) -> Any:
    """A deep copy of a filter's value, so that later changes by the caller do not reach the compiled filter."""
    kind = _kind(value)
    if not kind:
        known = "None, bool, int, float, str, bytes, and lists and str-keyed mappings of them"
        raise FilterError(f"{at} is {_shown(value)}, which metadata cannot hold; values are {known}")
    if kind in _SCALARS:
        return value
    _check(value, at, depth)
    if kind == "list":
        return [_copied(item, f"{at}[{i}]", depth + 1) for i, item in enumerate(value)]
    return {key: _copied(item, f"{at}[{key!r}]", depth + 1) for key, item in value.items()}


def _plain(container: Any) -> Any:
    """Sets, and mappings that are no dict, as msgpack takes them."""
    return dict(container) if isinstance(container, Mapping) else list(container)


def _unknown_operator(name: str, at: str, known: tuple[str, ...]) -> FilterError:
    hint = ""
    if name in _FIELD_OPERATORS:
        hint = f"it belongs on a field: {{'field': {{{name!r}: ...}}}}; "
    elif name in _LOGICAL_OPERATORS:
        hint = f"it joins whole filters: {{{name!r}: [{{'field': ...}}, ...]}}; "
    elif close := difflib.get_close_matches(name.lower(), known, n=1):
        hint = f"did you mean {close[0]!r}? "
    return FilterError(f"{at} has the unknown operator {name!r}; {hint}known here: {' '.join(known)}")


def _shown(value: object) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _kind(value: object) -> str:
    """The kind of `value`, "" for MISSING and for types metadata cannot hold."""
    kind = _KINDS.get(type(value))
    return kind if kind is not None else next((kind for base, kind in _KINDS.items() if isinstance(value, base)), "")


def _equals(expected: Any) -> _ValueTest:
    wanted = _kind(expected)
    if wanted not in _SCALARS:
        return lambda value: _whole_equal(value, expected)

    def test(value: Any) -> bool:
        kind = _kind(value)
        if kind == wanted:
            return bool(value == expected)
        return kind == "list" and any(_kind(item) == wanted and item == expected for item in value)

    return test


def _whole_equal(left: Any, right: Any) -> bool:
    """Equality kind by kind: Python's own calls True equal to 1, and a NaN inside a list equal to itself."""
    kind = _kind(left)
    if kind != _kind(right):
        return False
    if kind in _SCALARS:
        return bool(left == right)
    if kind == "list":
        return len(left) == len(right) and all(map(_whole_equal, left, right))
    return len(left) == len(right) and all(key in right and _whole_equal(left[key], right[key]) for key in left)


def value_key(value: Any) -> Any:
    """What is the same for two scalars exactly if no filter tells them apart; None for what is no scalar."""
    kind = _kind(value)
    if kind not in _SCALARS:
        return None
    return (kind, value) if value == value else (kind, "nan")


def _among(values: list[Any]) -> _ValueTest:
    # Not equal to itself is NaN, which a set would find again by identity.
    scalars = frozenset((_kind(v), v) for v in values if _kind(v) in _SCALARS and _whole_equal(v, v))
    containers = [value for value in values if _kind(value) not in _SCALARS]

    def test(value: Any) -> bool:
        kind = _kind(value)
        if kind in _SCALARS:
            return (kind, value) in scalars
        if kind == "list" and any((k := _kind(item)) in _SCALARS and (k, item) in scalars for item in value):
            return True
        return any(_whole_equal(value, each) for each in containers)

    return test
