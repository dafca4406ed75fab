"""Mapped files: what is let go of is mapped still, and private pages keep their changes."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from aeon.files import OsFileSystem, let_go


@pytest.mark.parametrize("bounds", ((0, 5 * mmap.PAGESIZE), (17, 3 * mmap.PAGESIZE + 1), (1, 2), (0, 0)))
def test_bytes_let_go_of_are_there_when_they_are_touched(tmp_path: Path, bounds: tuple[int, int]) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content := np.random.default_rng(0).bytes(5 * mmap.PAGESIZE))
    file = OsFileSystem().open(str(path))
    mapping = file.map(len(content))
    assert bytes(mapping) == content
    let_go(mapping, *bounds)
    assert bytes(mapping) == content
    let_go(memoryview(content), *bounds)  # a backend without mappings
    file.close()
