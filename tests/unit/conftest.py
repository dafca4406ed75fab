"""Unit tests run without waiting for the disk: what a sync means is the business of the crash tests."""

from __future__ import annotations

import pytest

from aeon.files import OsFile, OsFileSystem


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every sync of this process succeed at once."""
    monkeypatch.setattr(OsFile, "fsync", lambda self: None)
    monkeypatch.setattr(OsFile, "fdatasync", lambda self: None)
    monkeypatch.setattr(OsFileSystem, "fsync_dir", lambda self, path: None)
