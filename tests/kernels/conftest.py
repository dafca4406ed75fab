"""A cache of compiled kernels that outlives the run, away from the user's own."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    if "AEON_CACHE_DIR" not in os.environ:
        cache = getattr(config, "cache", None)
        kept = cache.mkdir("aeon-kernels") if cache is not None else tempfile.mkdtemp(prefix="aeon-kernels-")
        os.environ["AEON_CACHE_DIR"] = str(kept)
