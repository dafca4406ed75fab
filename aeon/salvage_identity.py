"""What store this is: by its MANIFEST, by the map behind a damaged header, or by what the other files prove."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aeon import manifest as manifests
from aeon.errors import AeonError, CorruptionError, NotAStoreError, VersionError
from aeon.files import FileSystem, read_whole
from aeon.format import (
    FILE_HEADER,
    FILE_MAGIC,
    FORMAT_VERSION,
    MANIFEST_HEADER,
    MANIFEST_MAGIC,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    FileKind,
    generation_name,
    segment_name,
)
from aeon.generation_files import FIRST_TABLE, file_name
from aeon.manifest import MANIFEST_NAME, FileEntry, Manifest
from aeon.results import Loss, Problem
from aeon.wal import list_segments
from aeon_native import dispatch


@dataclass(frozen=True)
class Identity:
    """Which store stands at `root`.

    Attributes
    ----------
    manifest : as it was, or what the files prove of it; then `dim` is 0 and `rows` "" if no file names them.
    has_manifest : whether the map is the MANIFEST's own: what it says of commits, ids and counts can be believed.
    lost, notes : what of the identity is gone; damage that costs nothing.
    """

    root: str
    manifest: Manifest
    has_manifest: bool
    lost: Sequence[Loss] = ()
    notes: Sequence[Problem] = ()

    def path(self, kind: FileKind) -> str:
        """Path of the file of `kind`, or only its name in the store if there is none."""
        entry = self.manifest.files.get(kind)
        return f"{self.root}/{entry.path if entry else file_name(kind)}"


def identify(files: FileSystem, root: str, embedder: str | None) -> Identity:
    """Find out which store stands at `root`; changes nothing.

    embedder : name of what made the vectors, for a store whose MANIFEST is lost.

    Raises NotAStoreError if nothing here proves to be aeon's, and VersionError if the MANIFEST is of a newer format.
    """
    try:
        return Identity(root, manifests.load(files, root), has_manifest=True)
    except VersionError:
        raise
    except (AeonError, OSError) as error:
        why = error
    path = f"{root}/{MANIFEST_NAME}"
    try:
        data = read_whole(files, path)
    except OSError:
        data = b""
    recovered = _manifest_with_damaged_header(data)
    if recovered is not None:
        note = Problem(path, 0, "the header is damaged, the map behind it is whole")
        return Identity(root, recovered, has_manifest=True, notes=(note,))
    manifest = _prove(files, root, embedder or "", why)
    beside = _identity_beside(files, root)
    if beside is not None and beside.uuid == manifest.uuid:
        manifest = replace(manifest, dim=beside.dim, rows=beside.rows, embedder=beside.embedder, created=beside.created)
        note = Problem(path, 0, f"{why}; {MANIFEST_NAME}.new tells what the store is")
        return Identity(root, manifest, has_manifest=False, notes=(note,))
    reason = "the MANIFEST is lost: when the store was made"
    if embedder is None:
        reason += ", and which embedder made its vectors (none is named now; name it with embedder=)"
    return Identity(root, manifest, has_manifest=False, lost=(Loss(path, 0, len(data), reason),))


def is_whole_header(data: bytes, size: int) -> bool:
    """Whether `data` has `size` bytes, and the last four are the checksum of those before them."""
    return len(data) == size and dispatch.kernels.crc32c(data[:-4]) == int.from_bytes(data[-4:], "little")


def _manifest_with_damaged_header(data: bytes) -> Manifest | None:
    """The manifest if one of the header's two checksums proves the map."""
    size = MANIFEST_HEADER.size
    if len(data) <= size:
        return None
    payload = data[size:]
    crc = dispatch.kernels.crc32c(payload)
    made = MANIFEST_HEADER.pack(MANIFEST_MAGIC, FORMAT_VERSION, len(payload), crc, 0)[:-4]
    made += dispatch.kernels.crc32c(made).to_bytes(4, "little")
    if data[16:20] != made[16:20] and data[20:24] != made[20:24]:
        return None
    try:
        return manifests.decode(made + payload, "")
    except (CorruptionError, VersionError):
        return None


def _identity_beside(files: FileSystem, root: str) -> Manifest | None:
    """What an interrupted checkpoint wrote of the store: its identity never changes."""
    try:
        return manifests.decode(read_whole(files, f"{root}/{MANIFEST_NAME}.new"), "")
    except (AeonError, OSError):
        return None


# -- without a MANIFEST -------------------------------------------------------------------------------------------


def _prove(files: FileSystem, root: str, embedder: str, why: BaseException) -> Manifest:
    """What the other files say of a store whose MANIFEST is lost. `why` is what became of the MANIFEST."""
    try:
        names = files.listdir(root)
    except OSError:
        raise why from None
    inside = {name: files.listdir(f"{root}/{name}") for name in names if name.startswith("gen-") and name[4:].isdigit()}
    try:
        segments = list_segments(files, f"{root}/wal")
    except OSError:
        segments = []
    owners = _owners(
        files,
        [f"{root}/{name}/{inner}" for name, inners in inside.items() for inner in inners],
        [f"{root}/wal/{segment_name(number)}" for number in segments],
    )
    if not owners:
        raise NotAStoreError(f"{root}: no file here proves that it belongs to an aeon store") from why
    generations = {int(name[4:]): set(inners) for name, inners in inside.items()}
    table = file_name(FileKind.EVENT_DEATHS)  # every generation has one of its own
    generation = max((number for number, inners in generations.items() if table in inners), default=0)
    return Manifest(
        uuid=owners.most_common(1)[0][0], dim=0, rows="", embedder=embedder, created=time.time_ns() // 1000,
        generation=generation, segment=segments[0] if segments else 1,
        files=_newest_files(files, root, generations, generation),
    )  # fmt: skip


def _owners(files: FileSystem, generation_files: Sequence[str], segments: Sequence[str]) -> Counter[bytes]:
    """How many whole headers name each store."""
    owners: Counter[bytes] = Counter()
    for paths, layout, magic in (
        (generation_files, FILE_HEADER, FILE_MAGIC),
        (segments, SEGMENT_HEADER, SEGMENT_MAGIC),
    ):
        for path in paths:
            header = _header(files, path, layout.size, magic)
            if header is not None:
                owners[layout.unpack_from(header)[3]] += 1
    return owners


def _header(files: FileSystem, path: str, size: int, magic: bytes) -> bytes | None:
    """The header of a file if it is whole."""
    try:
        file = files.open(path)
    except OSError:
        return None
    try:
        data = file.pread(size, 0)
    finally:
        file.close()
    return data if data[:8] == magic and is_whole_header(data, size) else None


def _newest_files(
    files: FileSystem, root: str, generations: dict[int, set[str]], generation: int
) -> dict[FileKind, FileEntry]:
    """The newest file of each kind up to `generation` (0 = of any), and tables of that one only."""
    found: dict[FileKind, FileEntry] = {}
    for kind in FileKind:
        name = file_name(kind)
        holders = [n for n, inside in generations.items() if name in inside and (n <= generation or not generation)]
        if kind >= FIRST_TABLE:
            holders = [n for n in holders if n == generation and generation]
        if holders:
            path = f"{generation_name(max(holders))}/{name}"
            file = files.open(f"{root}/{path}")
            try:
                size, header = file.size(), file.pread(FILE_HEADER.size, 0)
            finally:
                file.close()
            count = FILE_HEADER.unpack_from(header)[4] if len(header) == FILE_HEADER.size else 0
            found[kind] = FileEntry(path, size, count)
    return found
