"""Backup: a verified copy of a store that its writer goes on writing to. The copy is a store like any other.

Nothing of the writer is asked for: arena files only grow, tables never change, and the log is read up to a whole frame.
A checkpoint deletes files and swaps the MANIFEST; a copy that meets one goes on with the new MANIFEST and keeps what it has of
the arena files. Order, so that what is copied is one state:
  1. read the MANIFEST
  2. copy the bytes of the generation files that count
  3. list the log's segments, then read them: all but the last listed are full and change no more; the last ends at a frame
  4. copy what the blob file has beyond the bytes that count: a text is written before the frame that refers to it
  5. read the MANIFEST again: if it is another one, files may have gone in between, so start over at 2
  6. write the MANIFEST, sync everything, check the copy, and let it appear under its name (`staging`)
"""

from __future__ import annotations

from os import PathLike

from aeon import check as checks
from aeon import manifest as manifests
from aeon.errors import CorruptionError, InvalidInputError, OpenError
from aeon.files import File, FileSystem, OsFileSystem, absolute, parent, read_whole, write_fully
from aeon.format import SEGMENT_HEADER, FileKind, generation_name, segment_name
from aeon.manifest import MANIFEST_NAME, FileEntry, Manifest
from aeon.results import BackupReport, Progress
from aeon.salience import read_salience, write_salience
from aeon.staging import require_free, staged
from aeon.wal import SegmentReader, decode_segment_header, list_segments

_COPY_BYTES = 1 << 20
_ATTEMPTS = 100  # each needs another checkpoint of the writer, or another write under our reading, to fail


def backup(
    path: str | PathLike[str],
    dest: str | PathLike[str],
    *,
    progress: Progress | None = None,
    files: FileSystem | None = None,
) -> BackupReport:
    """Copy the store at `path` to `dest`, verified, while its writer may go on; restoring is the same the other way.

    dest : where nothing is yet; the copy appears there whole or not at all. progress : called with (what, done, total).

    The copy holds every commit that was acknowledged before the call, and may hold some made meanwhile. It is a store: it can
    be opened, read and checked where it is, and to restore it is to copy it back. It has the original's uuid: go on with one
    of the two. Raises InvalidInputError (`dest` exists), NotAStoreError, CorruptionError (the store is damaged: see
    `aeon check` and `aeon repair`; nothing is left at `dest`), OpenError. When this returns the copy is on disk. Cost: reads
    the store once, and the copy once more.
    """
    seam = files or OsFileSystem()
    root, target = absolute(path), absolute(dest)
    require_free(seam, target)
    if target.startswith(f"{root}/"):
        raise InvalidInputError(f"{target} lies inside the store itself")
    try:
        manifests.load(seam, root)  # before anything is made
        with staged(seam, target) as made:
            run = _Copy(seam, root, made, progress or (lambda what, done, total: None))
            run.run()
            report = checks.check(seam, made, progress)
            if not report.ok:
                problem = report.problems[0]
                where = problem.path.replace(made, root, 1)
                raise CorruptionError(where, problem.offset, expected="a whole store", found=problem.message)
        return BackupReport(root, target, run.lsn, run.bytes, run.attempts, report.counts)
    except OSError as error:
        where = error.filename or target
        raise OpenError(f"{where}: {error.strerror or error}") from error


class _Copy:
    """One run."""

    def __init__(self, files: FileSystem, root: str, made: str, progress: Progress) -> None:
        self._files, self._root, self._made, self._progress = files, root, made, progress
        self._counted: dict[str, int] = {}  # by path: bytes that are copied and will not change
        self.attempts = self.bytes = self.lsn = 0

    def run(self) -> None:
        """Copy until a copy was made under one MANIFEST from beginning to end."""
        failure: CorruptionError | OSError | None = None
        while self.attempts < _ATTEMPTS:
            self.attempts += 1
            manifest = manifests.load(self._files, self._root)
            try:
                self._copy(manifest)
            except (CorruptionError, FileNotFoundError) as error:
                # A checkpoint took the files away, or the writer's frame was read half: both are gone when asked again.
                if str(error) == str(failure) and manifests.load(self._files, self._root) == manifest:
                    if isinstance(error, CorruptionError):
                        raise
                    raise CorruptionError(
                        str(error.filename), 0, expected="a file of the store", found="no file"
                    ) from error
                failure = error
                continue
            if manifests.load(self._files, self._root) == manifest:
                self._finish(manifest)
                return
            failure = None
        raise CorruptionError(
            f"{self._root}/{MANIFEST_NAME}", 0, expected="a store at rest", found=f"{_ATTEMPTS} checkpoints"
        )

    def _copy(self, manifest: Manifest) -> None:
        self._drop_what_is_not_named(manifest)
        for entry in manifest.files.values():
            self._copy_counted(entry)
        self._segments = self._read_log(manifest)
        self._copy_texts_ahead(manifest)

    def _drop_what_is_not_named(self, manifest: Manifest) -> None:
        """Delete what an attempt before copied of a generation that is no more."""
        names = {entry.path for entry in manifest.files.values()}
        for path in [path for path in self._counted if path not in names]:
            del self._counted[path]
            self._files.unlink(f"{self._made}/{path}")

    def _make_directory(self, path: str) -> None:
        directory = parent(f"{self._made}/{path}")
        if not self._files.exists(directory):
            self._files.mkdir(directory)

    def _copy_counted(self, entry: FileEntry) -> None:
        done = self._counted.get(entry.path, 0)
        if done == entry.bytes:
            return
        source = self._files.open(f"{self._root}/{entry.path}")
        try:
            self._make_directory(entry.path)
            target = self._open_target(entry.path)
            try:
                copied = self._copy_bytes(source, target, done, entry.bytes, entry.path)
                if copied != entry.bytes:
                    raise CorruptionError(source.path, copied, expected=f"{entry.bytes} bytes", found=f"{copied} bytes")
                target.fsync()
            finally:
                target.close()
        finally:
            source.close()
        self._counted[entry.path] = entry.bytes

    def _open_target(self, path: str) -> File:
        full = f"{self._made}/{path}"
        if self._files.exists(full):
            return self._files.open(full, writable=True)
        self._counted.setdefault(path, 0)
        return self._files.open(full, create=True)

    def _copy_bytes(self, source: File, target: File, start: int, end: int, what: str) -> int:
        """Copy `start` to `end`; return how far the source went."""
        at = start
        while at < end:
            self._progress(what, at, end)
            part = source.pread(min(_COPY_BYTES, end - at), at)
            if not part:
                break
            write_fully(target, part, at)
            at += len(part)
        return at

    def _read_log(self, manifest: Manifest) -> dict[str, bytes]:
        """The bytes of each segment that hold whole frames."""
        directory = f"{self._root}/wal"
        numbers = [number for number in list_segments(self._files, directory) if number >= manifest.segment]
        found: dict[str, bytes] = {}
        self.lsn = manifest.lsn
        for number in numbers:
            path = f"{directory}/{segment_name(number)}"
            data = read_whole(self._files, path)
            if number == numbers[-1]:
                if len(data) < SEGMENT_HEADER.size and number > manifest.segment:
                    break  # it is being made; nothing was acknowledged into it
                header = decode_segment_header(data[: SEGMENT_HEADER.size], path, manifest.uuid, number)
                reader = SegmentReader(
                    memoryview(data), path, header, lsn=header.first_lsn, offset=SEGMENT_HEADER.size, is_last=True
                )
                self.lsn = header.first_lsn - 1
                for frame in reader:
                    self.lsn = frame.lsn
                data = data[: reader.offset]  # what lies behind is space, or a frame that is being written
            found[segment_name(number)] = data
        return found

    def _copy_texts_ahead(self, manifest: Manifest) -> None:
        """Texts of the log that the generation does not count yet."""
        entry = manifest.files.get(FileKind.BLOBS)
        path = entry.path if entry else f"{generation_name(manifest.generation + 1)}/blobs.arena"
        try:
            source = self._files.open(f"{self._root}/{path}")
        except FileNotFoundError:
            if entry is not None:
                raise
            return
        try:
            size, start = source.size(), entry.bytes if entry else 0
            if size <= start:
                return
            self._make_directory(path)
            target = self._open_target(path)
            try:
                self._copy_bytes(source, target, start, size, path)
                target.fsync()
            finally:
                target.close()
        finally:
            source.close()

    def _copy_salience(self, manifest: Manifest) -> None:
        """The counts of recalls, as they were last saved; a file that is replaced in one step."""
        try:
            records = read_salience(self._files, self._root, manifest.uuid)
        except FileNotFoundError:
            return
        write_salience(self._files, self._made, manifest.uuid, records)

    def _finish(self, manifest: Manifest) -> None:
        files, made = self._files, self._made
        files.mkdir(f"{made}/wal")
        for name, data in self._segments.items():
            file = files.open(f"{made}/wal/{name}", create=True)
            try:
                write_fully(file, data, 0)
                file.fsync()
            finally:
                file.close()
        self._copy_salience(manifest)
        manifests.store(files, made, manifest)
        self.bytes = sum(checks.file_sizes(files, made).values())
