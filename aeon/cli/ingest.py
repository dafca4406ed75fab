"""`aeon ingest`: a file into a store, a batch a commit. What is acknowledged stays, and a stop says where to go on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from types import FrameType
from typing import Any

import numpy as np

from aeon import intake
from aeon.atlas import Atlas
from aeon.cli.arguments import Arguments
from aeon.cli.sources import JSONL, BadLine, Record, Source, json_objects, read_turn, text_records
from aeon.cli.stores import describe, open_to_write, require_embedder
from aeon.cli.terminal import Terminal
from aeon.cli.values import CommandError, show_count
from aeon.errors import AeonError, UsageError
from aeon.rows import as_vectors
from aeon.store import Store

BATCH_BYTES_MAX = 64 << 20  # of text: keeps a commit of long texts far from the limit of a frame
CHECKPOINT_FROM = (
    10_000  # memories: replaying more than these makes every later command slower than this one checkpoint
)
_BROKEN_SHOWN = 5


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended: a commit is acknowledged, and counted, or it is not."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) != signal.default_int_handler
    ):
        yield
        return
    caught: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if caught:
        raise KeyboardInterrupt


def batches(records: Iterator[Record], count: int) -> Iterator[list[Record]]:
    """Group records into commits. What was read before a broken line comes as a batch of its own, then the error."""
    batch: list[Record] = []
    size = 0
    try:
        for record in records:
            batch.append(record)
            size += len(record.text)
            if len(batch) >= count or size >= BATCH_BYTES_MAX:
                yield batch
                batch, size = [], 0
    except BadLine:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def first_refused(records: Sequence[Record], atlas: Atlas | None) -> tuple[int, BadLine] | None:
    """Which record of a refused batch the store does not take, and why; None if each would pass.

    atlas : of the store; None before there is one, when any vector will do that has a direction.
    """
    for n, record in enumerate(records):
        try:
            intake.encode_text(record.text)
            if record.session is not None:
                intake.check_name(record.session, "session")
            if record.key is not None:
                intake.check_name(record.key, "key")
            intake.check_namespace(record.namespace)
            intake.check_role(record.role)
            intake.as_timestamp(record.timestamp)
            intake.pack_metadata(record.metadata)
            intake.check_refs(record.refs)
            if record.vector is not None:
                judge = atlas or Atlas({}, len(record.vector), "int8")
                judge.encode(as_vectors(record.vector, judge.dim))
        except UsageError as error:
            return n, BadLine(record.line, str(error))
    return None


class Loader:
    """Commits batches and counts what was acknowledged.

    Parameters
    ----------
    commit : writes one batch in one commit. skip : go on behind records that the store refuses, and count them.
    """

    def __init__(self, store: Store, commit: Callable[[Sequence[Record]], None], *, skip: bool = False) -> None:
        self._store = store
        self._commit = commit
        self._skip = skip
        self.kept = 0
        self.last_line = 0
        self.broken: list[BadLine] = []

    def load(self, batch: list[Record]) -> None:
        """Commit a batch; a record that is refused is named, and those before it are kept."""
        while batch:
            try:
                with interrupts_wait():
                    self._commit(batch)
                    self.kept += len(batch)
                    self.last_line = batch[-1].end or batch[-1].line
                return
            except UsageError as error:
                found = first_refused(batch, self._store._engine.atlas)
                if found is None:
                    raise error
                at, reason = found
                before, batch = batch[:at], batch[at + 1 :] if self._skip else []
                if before:
                    self.load(before)
                if not self._skip:
                    raise reason from None
                self.broken.append(reason)


def finish(store: Store, kept: int) -> None:
    """Fold a long load into a generation, so that whoever opens the store next does not replay it."""
    if kept >= CHECKPOINT_FROM:
        store.checkpoint()


def ingest(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon ingest STORE FILE`."""
    begin = time.perf_counter()
    with Source(arguments.file) as source:
        reader = _Reader(arguments, source)
        loader = None
        try:
            records = iter(reader)
            first = next(records, None)
            if first is None:
                raise CommandError(f"{source.path}: nothing to remember{reader.left_out()}")
            with _open(arguments, terminal, first) as store:
                before = store.lsn
                loader = Loader(store, _committer(arguments, terminal, store, source.name), skip=arguments.skip_broken)
                reader.broken = loader.broken = [*reader.broken]
                with terminal.progress(
                    f"ingesting {source.name}", source.size, size=source.size is not None
                ) as progress:
                    for batch in batches(chain([first], records), arguments.batch):
                        loader.load(batch)
                        progress.to(source.position(), note=show_count(loader.kept, "memory"))
                    finish(store, loader.kept)
                commits, sessions = store.lsn - before, len(store.sessions())
        except KeyboardInterrupt:
            if loader is not None:
                terminal.note(f"interrupted; {_kept(loader)}")
            raise
        except (AeonError, OSError) as error:
            if loader is None and not isinstance(error, BadLine):
                raise
            where = f"{source.path}, " if isinstance(error, BadLine) else ""
            raise CommandError(f"{where}{error}; {_kept(loader)}") from error
    _report(arguments, terminal, loader, reader, time.perf_counter() - begin, commits, sessions)
    return 0


class _Reader:
    """The records of a source, with what was left out."""

    def __init__(self, arguments: Arguments, source: Source) -> None:
        self._arguments, self._source = arguments, source
        self._format = arguments.format or source.guess_format()
        self.broken: list[BadLine] = []
        self.empty = 0

    def __iter__(self) -> Iterator[Record]:
        for found in self._turns() if self._format == JSONL else self._texts():
            if isinstance(found, Record):
                yield found
            elif found is None:
                self.empty += 1
            elif self._arguments.skip_broken:
                self.broken.append(found)
            else:
                raise found

    def _texts(self) -> Iterator[Record | BadLine | None]:
        return text_records(self._source, split=self._arguments.split, first=self._arguments.from_line)

    def _turns(self) -> Iterator[Record | BadLine | None]:
        for number, fields in json_objects(self._source, self._arguments.from_line):
            if isinstance(fields, BadLine):
                yield fields
                continue
            if "aeon_export" in fields:
                raise CommandError(f"{self._source.path} was written by aeon export: aeon import reads it")
            try:
                yield read_turn(number, fields, session_field=self._arguments.session_field)
            except BadLine as error:
                yield error

    def left_out(self) -> str:
        """What was left out, for a message."""
        parts = []
        if self.empty:
            parts.append(f"{show_count(self.empty, 'line')} without text")
        if self.broken:
            parts.append(f"{show_count(len(self.broken), 'broken line')}, the first: {self.broken[0]}")
        return f" ({'; '.join(parts)})" if parts else ""


def _kept(loader: Loader | None) -> str:
    if loader is None or not loader.kept:
        return "nothing was kept"
    kept = f"{show_count(loader.kept, 'memory')}, up to line {loader.last_line:,}, kept"
    return f"{kept}: go on with --from-line {loader.last_line + 1}"


def _open(arguments: Arguments, terminal: Terminal, first: Record) -> Store:
    """Open or make the store; a new one keeps the vectors of the file if its first line has one."""
    refused = first_refused([first], None)
    if refused and not arguments.skip_broken:
        raise refused[1]  # before a store is made for nothing
    dim = None
    if first.vector is not None and not arguments.embed and describe(arguments.store) is None:
        dim = len(first.vector)
    return open_to_write(arguments, terminal, create=True, dim=dim, durability=arguments.durability)


def _committer(
    arguments: Arguments, terminal: Terminal, store: Store, default_session: str
) -> Callable[[Sequence[Record]], None]:
    keeps_vectors = not require_embedder(arguments, store)
    told = False

    def commit(batch: Sequence[Record]) -> None:
        nonlocal told
        vectors: Any = None
        if keeps_vectors:
            vectors = [record.vector for record in batch]
            if all(vector is not None and len(vector) == store.atlas.dim for vector in vectors):
                vectors = np.stack(vectors)
        elif not told and any(record.vector is not None for record in batch):
            told = True
            terminal.note("this store embeds its texts itself; the vectors of the file are left out")
        store.remember_many(
            [record.text for record in batch],
            vectors,
            session=[arguments.session or record.session or default_session for record in batch],
            role=[arguments.role or record.role for record in batch],
            namespace=arguments.namespace,
            metadata=[record.metadata for record in batch],
            timestamps=[record.timestamp for record in batch],
        )

    return commit


def _report(
    arguments: Arguments,
    terminal: Terminal,
    loader: Loader,
    reader: _Reader,
    seconds: float,
    commits: int,
    sessions: int,
) -> None:
    if terminal.as_json:
        terminal.emit(
            {
                "store": arguments.store,
                "memories": loader.kept,
                "commits": commits,
                "sessions": sessions,
                "last_line": loader.last_line,
                "empty": reader.empty,
                "seconds": round(seconds, 3),
                "broken": [{"line": error.line, "message": str(error)} for error in loader.broken],
            }
        )
        return
    for error in loader.broken[:_BROKEN_SHOWN]:
        terminal.note(f"skipped {error}")
    if len(loader.broken) > _BROKEN_SHOWN:
        terminal.note(f"skipped {len(loader.broken) - _BROKEN_SHOWN:,} more broken lines; --json lists them all")
    if reader.empty:
        terminal.note(f"{show_count(reader.empty, 'line')} without text left out")
    rate = f", {loader.kept / seconds:,.0f} a second" if loader.kept >= 1000 else ""
    terminal.text(
        f"remembered {show_count(loader.kept, 'memory')} in {show_count(commits, 'commit')} "
        f"({seconds:.2f} s{rate}); the store has {show_count(sessions, 'session')}"
    )
