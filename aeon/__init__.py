"""aeon: a memory store that lives inside your agent's process and loses nothing.

    import aeon

    with aeon.open("agent.aeon") as store:
        store.remember("Tess moved to Trieste in April.", session="monday")
        for hit in store.recall("where does Tess live?", k=3):
            print(f"{hit.score:.2f} {hit.text}")

The distribution is called aeon-memory; `aeon` on PyPI is another project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aeon._version import __version__
from aeon.embedder import HashEmbedder
from aeon.errors import (
    AeonError,
    CapacityError,
    ClosedError,
    CorruptionError,
    DimensionError,
    EmbedderMismatchError,
    EmbedderMissingError,
    FilterError,
    InvalidInputError,
    LockedError,
    NotAStoreError,
    NotFoundError,
    NotRetainedError,
    OpenError,
    PoisonedError,
    ReadOnlyError,
    UsageError,
    VersionError,
)
from aeon.opening import open_store as open
from aeon.pin import Pin
from aeon.recovery import Recovery
from aeon.results import (
    BackupReport,
    CheckReport,
    CompactReport,
    Hit,
    Loss,
    Memory,
    Problem,
    RepairReport,
    SessionInfo,
    Stats,
)
from aeon.store import Store

if TYPE_CHECKING:
    from aeon.aio import AsyncStore, aopen
    from aeon.backups import backup
    from aeon.repairing import repair

__all__ = [
    "AeonError",
    "AsyncStore",
    "BackupReport",
    "CapacityError",
    "CheckReport",
    "ClosedError",
    "CompactReport",
    "CorruptionError",
    "DimensionError",
    "EmbedderMismatchError",
    "EmbedderMissingError",
    "FilterError",
    "HashEmbedder",
    "Hit",
    "InvalidInputError",
    "LockedError",
    "Loss",
    "Memory",
    "NotAStoreError",
    "NotFoundError",
    "NotRetainedError",
    "OpenError",
    "Pin",
    "PoisonedError",
    "Problem",
    "ReadOnlyError",
    "Recovery",
    "RepairReport",
    "SessionInfo",
    "Stats",
    "Store",
    "UsageError",
    "VersionError",
    "__version__",
    "aopen",
    "backup",
    "open",
    "repair",
]


def __getattr__(name: str) -> Any:
    """Load what few processes need when it is asked for: asyncio takes a third of the import time."""
    if name in ("AsyncStore", "aopen"):
        from aeon import aio

        return getattr(aio, name)
    if name == "backup":
        from aeon.backups import backup

        return backup
    if name == "repair":
        from aeon.repairing import repair

        return repair
    raise AttributeError(f"module 'aeon' has no attribute {name!r}")
