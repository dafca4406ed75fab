"""The settings of a store, checked once when it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aeon.errors import InvalidInputError

Durability = Literal["full", "normal", "off"]
Rows = Literal["int8", "float32"]


@dataclass(frozen=True)
class Options:
    """How a store writes. The defaults suit one agent on one disk.

    Parameters
    ----------
    durability : "full": a commit is on disk when it returns. "normal": it survives the death of the process; a power cut
        may lose the newest commits, never half of one. "off": nothing is promised before `flush`.
    segment_bytes_max : a log segment that is longer is closed and a new one begun.
    segment_growth_bytes : the log reserves space in steps of this size, so that running out of space is noticed before
        anything is written.
    checkpoint_log_bytes : a checkpoint runs by itself when the log since the last one is longer than this and longer
        than a quarter of the store; 0 = only when asked for. Bounds the replay at the next open.
    """

    durability: Durability = "full"
    segment_bytes_max: int = 64 << 20
    segment_growth_bytes: int = 1 << 20
    checkpoint_log_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if self.durability not in ("full", "normal", "off"):
            raise InvalidInputError(f"durability is 'full', 'normal' or 'off', not {self.durability!r}")
        for name, least in (("segment_bytes_max", 1024), ("segment_growth_bytes", 512), ("checkpoint_log_bytes", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInputError(f"{name} is an int of at least {least}, not {value!r}")
