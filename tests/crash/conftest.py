"""The crash tests open hundreds of stores a second: with compiled checksums, and with small limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aeon_native import dispatch
from tests.crash.workloads import short_texts_inline, small_index


@pytest.fixture(autouse=True, scope="session")
def kernels() -> None:
    """Wait for compiled kernels once; where there are none, the twins serve and the tests take longer."""
    dispatch.start()
    dispatch.wait()


@pytest.fixture(autouse=True)
def short_texts() -> Iterator[None]:
    """Texts of some hundred bytes go by reference, and a page index comes with a few vectors."""
    with short_texts_inline(), small_index():
        yield
