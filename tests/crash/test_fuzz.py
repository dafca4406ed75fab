"""Every decoder on some thousand nearly right inputs; `python -m tests.crash.fuzz --inputs 10000000` for more."""

from __future__ import annotations

import msgpack
import pytest

from aeon.errors import CorruptionError
from aeon.trace import Names
from tests.crash.fuzz import Target, fuzz, make_targets
from tests.crash.workloads import short_texts_inline, small_index

with short_texts_inline(), small_index():
    TARGETS = make_targets()


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_returns_or_raises_what_it_documents(name: str) -> None:
    slow = name == "apply" or name.startswith("open")
    outcomes, findings = fuzz(TARGETS[name], 300 if slow else 3000, seed=11)
    assert findings == []
    assert outcomes["returned"], "no input got through: the decoder behind the checks was never reached"
    assert sum(outcomes.values()) == (300 if slow else 3000)


def test_a_name_that_is_no_text_is_refused() -> None:
    """A namespace of lists got as far as a dict's key."""
    for broken in (
        {"sessions": ["a"], "namespaces": [[["deep"]]], "fields": []},
        {"sessions": [["a"]], "namespaces": [], "fields": []},
        {"sessions": [], "namespaces": [], "fields": [7]},
    ):
        with pytest.raises(CorruptionError):
            Names(msgpack.packb(broken), "names")


def test_the_fuzzer_itself_sees_an_undocumented_error() -> None:
    """A fuzzer that cannot fail proves nothing."""
    outcomes, findings = fuzz(Target([b"abcd"], lambda data: data[9], (ValueError,)), 200, seed=1)
    assert findings and outcomes["! IndexError"]
