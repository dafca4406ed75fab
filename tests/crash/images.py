"""Disk images that a power cut could have left, built from a recorded log.

The rules are those of SQLite's crash tests and of ALICE. A change (a write, a truncation, a growth, a directory entry) is
pending until a sync of its own file or directory that came later; each pending change is kept or dropped independently of
every other, and a dropped write may leave garbage in its sectors. A sync of a file says nothing of its name.

A write never damages bytes it did not write (all disks that are sold promise this; SQLite calls it powersafe overwrite).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.crash.backends import Change, Directory, Inode, MemoryFileSystem, RecordingFileSystem, change

SECTOR = 512
FILE_CHANGES = ("write", "truncate", "allocate")

# What may become of a pending change: KEEP, DROP, or of a write also
#   ("prefix", n)       its first n bytes only
#   ("sectors", mask)   only the sectors whose bit is set
#   ("garbage", seed)   its range filled with garbage
#   ("clip",)           only what lies within the file's length at that time (the growth was lost)
# and of a growth ("garbage", seed): grown, with garbage in the new space.
KEEP, DROP = "keep", "drop"
Fate = str | tuple[str, int] | tuple[str]


@dataclass(frozen=True)
class Image:
    """What a power cut left.

    Parameters
    ----------
    family : letter of the family. point : how many entries of the log had happened.
    fates : what became of each pending change, by its index in the log; those not named were kept.
    least, most : how many commits must and may be there.
    """

    family: str
    point: int
    fates: tuple[tuple[int, Fate], ...]
    least: int
    most: int


@dataclass
class History:
    """A log, taken apart: which change is pending at which point, and what callers had been promised by then."""

    base: Directory
    log: list[Change]
    is_directory: dict[int, bool]
    least_kept: int = 0  # commits that the base holds for certain
    most_kept: int = 0
    first_point: int = 0  # points before it belong to another history
    _contents: dict[tuple[int, tuple[tuple[int, Fate], ...]], bytes] = field(default_factory=dict)
    _interned: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changes: dict[int, list[int]] = {}
        self._bases: dict[int, Inode | Directory] = {}
        self._collect(self.base)
        for index, entry in enumerate(self.log):
            if entry.kind not in ("sync", "promise"):
                self._changes.setdefault(entry.target, []).append(index)

    @classmethod
    def of(cls, files: RecordingFileSystem, least: int = 0, most: int = 0) -> History:
        """The history that a recording file system has recorded."""
        return cls(files.base, files.log, files.is_directory, least, most)

    def _collect(self, entry: Inode | Directory) -> None:
        self._bases[entry.number] = entry
        if isinstance(entry, Directory):
            for inner in entry.entries.values():
                self._collect(inner)

    def points(self) -> Iterator[tuple[int, list[int], int, int, int]]:
        """Yield (point, pending changes, durable, acknowledged, begun) after each entry of the log."""
        pending: dict[int, list[int]] = {}
        durable = acknowledged = self.least_kept
        begun = self.most_kept
        yield 0, [], durable, acknowledged, begun
        for index, entry in enumerate(self.log):
            if entry.kind == "sync":
                pending.pop(entry.target, None)
            elif entry.kind == "promise":
                kind = entry.arguments[0]
                if kind == "begun":
                    begun = max(begun, entry.target)
                elif kind == "durable":
                    durable = max(durable, entry.target)
                if kind in ("acknowledged", "durable"):
                    acknowledged = max(acknowledged, entry.target)
            else:
                pending.setdefault(entry.target, []).append(index)
            yield index + 1, sorted(itertools.chain(*pending.values())), durable, acknowledged, begun

    # -- building -----------------------------------------------------------------------------------------------

    def build(self, image: Image) -> MemoryFileSystem:
        """The file system as the image describes it."""
        return MemoryFileSystem(self._directory(0, image.point, dict(image.fates)))

    def _directory(self, number: int, point: int, fates: dict[int, Fate]) -> Directory:
        made = Directory(number)
        entries: dict[str, int] = {}
        base = self._bases.get(number)
        if isinstance(base, Directory):
            entries = {name: entry.number for name, entry in base.entries.items()}
        for index in self._changes.get(number, ()):
            if index >= point:
                break
            if fates.get(index) == DROP:
                continue
            entry = self.log[index]
            if entry.kind == "link":
                entries[entry.arguments[0]] = entry.arguments[1]
            elif entry.kind == "unlink":
                entries.pop(entry.arguments[0], None)
            elif entry.kind == "rename":
                old, new, moved = entry.arguments
                entries.pop(old, None)
                entries[new] = moved
        for name, inner in entries.items():
            if self.is_directory[inner]:
                made.entries[name] = self._directory(inner, point, fates)
            else:
                made.entries[name] = Inode(inner, self._content(inner, point, fates))
        return made

    def _content(self, number: int, point: int, fates: dict[int, Fate]) -> bytes:
        indexes = [index for index in self._changes.get(number, ()) if index < point]
        chosen = tuple((index, fates[index]) for index in indexes if index in fates)
        key = (number << 32 | len(indexes), chosen)
        found = self._contents.get(key)
        if found is None:
            base = self._bases.get(number)
            data = bytearray(base.data) if isinstance(base, Inode) else bytearray()
            for index in indexes:
                _apply(data, self.log[index], fates.get(index, KEEP), index)
            made = bytes(data)
            found = self._interned.setdefault(made, made)
            if len(self._contents) > 50_000:
                self._contents.clear()
                self._interned.clear()
            self._contents[key] = found
        return found

    # -- families -----------------------------------------------------------------------------------------------

    def images(self, families: str, subsets: int = 200, seed: int = 0) -> Iterator[Image]:
        """Every image of the families named by their letters (A to F); `subsets` bounds family C at each point."""
        for point, pending, durable, acknowledged, begun in self.points():
            for family, fates in self._fates(point, pending, families, subsets, seed):
                lost = any(fate != KEEP for _, fate in fates)
                yield Image(family, point, fates, durable if lost else acknowledged, begun)

    def _fates(
        self, point: int, pending: list[int], families: str, subsets: int, seed: int
    ) -> Iterator[tuple[str, tuple[tuple[int, Fate], ...]]]:
        if "A" in families:
            yield "A", ()
        if not pending:
            return
        if "B" in families:
            yield "B", tuple((index, DROP) for index in pending)
            for one in pending:
                yield "B", ((one, DROP),)
                yield "B", tuple((index, DROP) for index in pending if index != one)
        if "C" in families:
            yield from (("C", fates) for fates in self._subsets(point, pending, subsets, seed))
        if "D" in families:
            yield from (("D", fates) for fates in self._torn(point, pending))
        if "E" in families:
            yield from (("E", fates) for fates in self._sizes(pending))
        if "F" in families:
            yield from (("F", fates) for fates in self._names(pending, subsets, seed))

    def _subsets(
        self, point: int, pending: list[int], subsets: int, seed: int
    ) -> Iterator[tuple[tuple[int, Fate], ...]]:
        """All subsets where at most 8 changes are pending, else seeded ones; some dropped writes leave garbage."""
        if len(pending) <= 8 and 1 << len(pending) <= subsets + 56:
            for mask in range(1, 1 << len(pending)):
                yield tuple((index, DROP) for bit, index in enumerate(pending) if mask >> bit & 1)
            return
        pick = random.Random(seed << 20 ^ point)
        for _ in range(subsets):
            share = pick.choice((0.15, 0.5, 0.85))
            fates: list[tuple[int, Fate]] = []
            for index in pending:
                if pick.random() < share:
                    entry = self.log[index]
                    kind = pick.random()
                    fate: Fate = DROP
                    if entry.kind == "write" and len(entry.arguments[1]):
                        if kind < 0.2:
                            fate = ("garbage", pick.randrange(1 << 16))
                        elif kind < 0.35:
                            fate = ("sectors", pick.randrange(1 << 8))
                    fates.append((index, fate))
            if fates:
                yield tuple(fates)

    def _torn(self, point: int, pending: list[int]) -> Iterator[tuple[tuple[int, Fate], ...]]:
        """The last write, torn: at every sector, and at every byte of its first 64 and last 16."""
        last = point - 1
        entry = self.log[last] if last >= 0 else None
        if entry is None or entry.kind != "write" or last not in pending:
            return
        offset, data = entry.arguments
        length = len(data)
        cuts = {*range(min(64, length)), *range(max(0, length - 16), length)}
        first = -offset % SECTOR
        cuts.update(range(first, length, SECTOR))
        others = tuple((index, DROP) for index in pending if index != last)
        for cut in sorted(cuts):
            yield ((last, ("prefix", cut)),)
            if others:
                yield ((last, ("prefix", cut)), *others)
        sectors = len(range(offset // SECTOR, (offset + length + SECTOR - 1) // SECTOR))
        if sectors > 1:
            for sector in range(min(sectors, 64)):
                yield ((last, ("sectors", (1 << sectors) - 1 ^ 1 << sector)),)
                yield ((last, ("sectors", 1 << sector)),)
        for garbage in range(3):
            yield ((last, ("garbage", garbage)),)

    def _sizes(self, pending: list[int]) -> Iterator[tuple[tuple[int, Fate], ...]]:
        """Grown but zero, grown but garbage, not grown; for each growth that is pending, and for each write that grows."""
        by_file: dict[int, list[int]] = {}
        for index in pending:
            if self.log[index].kind in FILE_CHANGES:
                by_file.setdefault(self.log[index].target, []).append(index)
        for indexes in by_file.values():
            growths = [index for index in indexes if self.log[index].kind == "allocate"]
            writes = [index for index in indexes if self.log[index].kind == "write"]
            if not growths and not writes:
                continue
            dropped_writes: tuple[tuple[int, Fate], ...] = tuple((index, DROP) for index in writes)
            garbled: tuple[tuple[int, Fate], ...] = tuple((index, ("garbage", index)) for index in writes)
            clipped: tuple[tuple[int, Fate], ...] = tuple((index, ("clip",)) for index in writes)
            lost: tuple[tuple[int, Fate], ...] = tuple((index, DROP) for index in growths)
            filled: tuple[tuple[int, Fate], ...] = tuple((index, ("garbage", index)) for index in growths)
            yield dropped_writes
            yield garbled
            yield (*filled, *dropped_writes)
            yield (*lost, *clipped)
            if filled:
                yield filled

    def _names(self, pending: list[int], subsets: int, seed: int) -> Iterator[tuple[tuple[int, Fate], ...]]:
        """Each directory entry visible or not, with the files' bytes kept, lost, or garbage."""
        names = [index for index in pending if self.log[index].kind not in FILE_CHANGES]
        bytes_ = [index for index in pending if self.log[index].kind in FILE_CHANGES]
        if not names:
            return
        contents: list[tuple[tuple[int, Fate], ...]] = [()]
        if bytes_:
            contents.append(tuple((index, DROP) for index in bytes_))
            contents.append(
                tuple((index, ("garbage", index) if self.log[index].kind == "write" else KEEP) for index in bytes_)
            )
        masks: Iterator[int] | range = range(1 << len(names))
        if len(names) > 6:
            pick = random.Random(seed << 21 ^ names[-1])
            masks = iter([pick.randrange(1 << len(names)) for _ in range(min(64, subsets))])
        for mask in masks:
            hidden = tuple((index, DROP) for bit, index in enumerate(names) if mask >> bit & 1)
            for content in contents:
                if hidden or content:
                    yield (*hidden, *content)


def _apply(data: bytearray, entry: Change, fate: Fate, index: int) -> None:
    """Carry out a change of a file as its fate says."""
    if fate == DROP:
        return
    if entry.kind == "truncate":
        (size,) = entry.arguments
        del data[size:]
        data.extend(bytes(max(0, size - len(data))))
    elif entry.kind == "allocate":
        (size,) = entry.arguments
        grown = max(0, size - len(data))
        data.extend(_garbage(grown, index) if fate != KEEP else bytes(grown))
    else:
        offset, piece = entry.arguments
        if fate == KEEP:
            change(data, offset, piece)
        elif fate[0] == "prefix":
            if fate[1]:
                change(data, offset, piece[: fate[1]])
        elif fate[0] == "garbage":
            change(data, offset, _garbage(len(piece), fate[1]))
        elif fate[0] == "clip":
            room = max(0, len(data) - offset)
            if room:
                change(data, offset, piece[:room])
        else:
            at = 0
            sector = 0
            while at < len(piece):
                end = min(len(piece), at + SECTOR - (offset + at) % SECTOR)
                if fate[1] >> sector & 1:
                    change(data, offset + at, piece[at:end])
                at, sector = end, sector + 1


def _garbage(count: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(count)
