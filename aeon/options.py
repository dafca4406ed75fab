"""The settings of a store, checked once when it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aeon.errors import InvalidInputError
from aeon.probing import RECALL_TARGET, TARGET_MAX, TARGET_MIN

Durability = Literal["full", "normal", "off"]
Rows = Literal["int8", "float32"]
SlbMode = Literal["off", "certified", "approximate", "auto"]
SLB_MODES = ("off", "certified", "approximate", "auto")


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
        than an eighth of the store; 0 = only when asked for. Bounds the replay at the next open.
    compact_share : a compaction runs by itself when so much of what a generation holds was forgotten, 0 to 1; 0 = only when
        asked for. It reads and writes what is alive, so half as much costs as much as the log did.
    ttl : by namespace, how many seconds after its timestamp a memory is forgotten by the next sweep; a namespace stands for
        those below it too, () for all. `remember(ttl=...)` does the same for one memory. Of several the shortest counts.
    max_bytes : a sweep forgets the oldest memories until a generation of the rest takes no more than this; 0 = no limit.
    keep_versions : False: a sweep forgets versions that an upsert replaced. They stay readable by id until then.
    background : generations are written by a thread of their own, beside writers; False = by the commit that made one due.
    unknown_fields : what a filter does that needs a metadata field no memory has ever had: "error" (a misspelt name is
        noticed), or "ignore" (nothing matches; for an agent that filters by what it has not said yet).
    recall_target : share of the exact result that `recall` finds, on average, where it does not say otherwise; 0.8 to 0.999.
    slb : how far `recall` may answer from what it found for the same session before: "off"; "certified", only what is
        proven to be the answer of an exact search; "approximate", also what is merely likely; "auto", that too, as long as
        the measured recall of such answers stays at `recall_target`. Where fewer than one query in six is answered so, "auto"
        looks at a tenth of them only, until there are more.
    slb_bytes_max : memory of the SLB; the sessions that were not used for the longest time give way.
    slb_shared : a repeated query may be answered by what another session found. Off: sessions see nothing of each other.
    """

    durability: Durability = "full"
    segment_bytes_max: int = 64 << 20
    segment_growth_bytes: int = 1 << 20
    checkpoint_log_bytes: int = 64 << 20
    compact_share: float = 0.5
    ttl: Mapping[Sequence[str], float] = field(default_factory=dict)
    max_bytes: int = 0
    keep_versions: bool = True
    background: bool = True
    unknown_fields: Literal["error", "ignore"] = "error"
    recall_target: float = RECALL_TARGET
    slb: SlbMode = "off"
    slb_bytes_max: int = 64 << 20
    slb_shared: bool = False

    def __post_init__(self) -> None:
        if self.durability not in ("full", "normal", "off"):
            raise InvalidInputError(f"durability is 'full', 'normal' or 'off', not {self.durability!r}")
        if self.unknown_fields not in ("error", "ignore"):
            raise InvalidInputError(f"unknown_fields is 'error' or 'ignore', not {self.unknown_fields!r}")
        check_slb(self.slb)
        if not isinstance(self.slb_shared, bool):
            raise InvalidInputError(f"slb_shared is True or False, not {self.slb_shared!r}")
        least_of = {
            "segment_bytes_max": 1024,
            "segment_growth_bytes": 512,
            "checkpoint_log_bytes": 0,
            "max_bytes": 0,
            "slb_bytes_max": 0,
        }
        for name, least in least_of.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInputError(f"{name} is an int of at least {least}, not {value!r}")
        if (
            isinstance(self.compact_share, bool)
            or not isinstance(self.compact_share, (int, float))
            or not 0 <= self.compact_share <= 1
        ):
            raise InvalidInputError(f"compact_share is a number from 0 to 1, not {self.compact_share!r}")
        for name in ("background", "keep_versions"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} is True or False, not {getattr(self, name)!r}")
        if not isinstance(self.ttl, Mapping):
            raise InvalidInputError(f"ttl is a dict from namespace to seconds, not {self.ttl!r}")
        for namespace, seconds in self.ttl.items():
            if not isinstance(namespace, tuple) or not all(isinstance(part, str) for part in namespace):
                raise InvalidInputError(f"a namespace in ttl is a tuple of str, not {namespace!r}")
            check_ttl(seconds)
        check_recall_target(self.recall_target)


def check_ttl(seconds: float) -> float:
    """Return a time to live; InvalidInputError unless it is a finite number of seconds, 0 or more."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e11:
        raise InvalidInputError(f"a ttl is a number of seconds, 0 or more, not {seconds!r}")
    return float(seconds)


def check_recall_target(target: float) -> float:
    """Return a recall target; InvalidInputError unless it is a number from 0.8 to 0.999."""
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not TARGET_MIN <= target <= TARGET_MAX:
        raise InvalidInputError(f"recall_target is a number from {TARGET_MIN} to {TARGET_MAX}, not {target!r}")
    return float(target)


def check_slb(mode: str) -> SlbMode:
    """Return a mode of the SLB; InvalidInputError unless it is one."""
    if mode not in SLB_MODES:
        raise InvalidInputError(f"slb is one of {', '.join(map(repr, SLB_MODES))}; not {mode!r}")
    return mode  # type: ignore[return-value]
