"""What callers pass: accepted in every sensible form, brought into one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeon import intake
from aeon.errors import AeonError, InvalidInputError, UsageError
from aeon.format import ROLES

offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(
    datetime(2, 1, 1), datetime(9998, 12, 31), timezones=offsets
)  # a zone's gap equals no other moment


@given(moments)
def test_a_moment_is_exact_to_the_microsecond(moment: datetime) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert epoch + timedelta(microseconds=intake.as_timestamp(moment)) == moment


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_any_int_within_the_calendar_is_a_timestamp(when: int) -> None:
    assert intake.as_timestamp(when) == when


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64])
def test_numpys_ints_are_ints(kind: Any) -> None:
    assert (intake.as_timestamp(kind(7)), intake.check_id(kind(7)), intake.check_count(kind(7), "k")) == (7, 7, 7)
    assert type(intake.check_id(kind(7))) is int
    assert intake.check_ids(np.array([1, 2], kind)) == [1, 2]


def test_now_is_between_before_and_after() -> None:
    import time

    before = time.time_ns() // 1000
    assert before <= intake.as_timestamp(None) <= time.time_ns() // 1000


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(st.characters()) | st.binary()
        | st.just(object()) | st.dates() | st.sets(st.integers(), max_size=2) | st.complex_numbers(),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner, max_size=3),
        max_leaves=10,
    )
)  # fmt: skip
def test_any_metadata_is_kept_as_it_is_or_refused(value: Any) -> None:
    def as_read(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: as_read(inner) for key, inner in item.items()}
        return [as_read(inner) for inner in item] if isinstance(item, (list, tuple)) else item

    try:
        packed = intake.pack_metadata({"field": value})
    except UsageError as error:
        assert "metadata" in str(error)
        return
    found = msgpack.unpackb(packed)
    assert repr(found) == repr({"field": as_read(value)})


@given(
    st.one_of(
        st.integers(),
        st.text(st.characters()),
        st.binary(),
        st.lists(st.integers() | st.text()),
        st.none(),
        st.floats(),
    )
)
def test_any_object_is_accepted_or_refused_with_our_error(thing: Any) -> None:
    checks = [
        intake.encode_text, lambda x: intake.check_name(x, "key"), intake.check_namespace, intake.check_role, intake.check_id,
        intake.check_ids, intake.check_refs, lambda x: intake.check_count(x, "k"), intake.as_timestamp, intake.pack_metadata,
        *(lambda x, name=name: intake.make_filters(**{name: x}) for name in ("session", "namespace", "where", "since")),
        lambda x: intake.make_filters(roles=x),
    ]  # fmt: skip
    for check in checks:
        try:
            check(thing)
        except AeonError as error:
            assert str(error)


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def test_subclasses_of_text_and_int_are_kept_as_text_and_int() -> None:
    packed = intake.pack_metadata({Colour.RED: Colour.RED, "level": Level.HIGH})
    assert msgpack.unpackb(packed) == {"red": "red", "level": 3}
    assert intake.check_name(np.str_("session"), "session") == "session"


def test_empty_metadata_is_none() -> None:
    assert intake.pack_metadata({}) is None
    assert intake.pack_metadata(None) is None


def test_a_namespace_given_as_text_is_one_segment() -> None:
    assert intake.check_namespace("a/b") == ("a/b",)
    assert intake.check_namespace(["a", "b"]) == ("a", "b")
    assert intake.check_namespace(()) == ()


def test_roles_by_number() -> None:
    assert [intake.check_role(role) for role in ROLES] == [1, 2, 3, 4, 5, 6]


def test_spread_gives_each_its_own_or_one_to_all() -> None:
    assert intake.spread("x", 3, "session") == ["x", "x", "x"]
    assert list(intake.spread(("x", "y"), 2, "session")) == ["x", "y"]
    assert intake.spread(np.array([1, 2]), 2, "timestamps") == [1, 2]
    assert intake.spread(None, 2, "keys") == [None, None]
    with pytest.raises(InvalidInputError, match="session has 2 entries for 3 texts"):
        intake.spread(["x", "y"], 3, "session")
