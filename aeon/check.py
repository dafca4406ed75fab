"""Check: every file of a store against every other. Reads everything, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from aeon import manifest as manifests
from aeon.checkpoint import plan_sessions
from aeon.engine import Engine, View, alive_mask, apply_change
from aeon.errors import AeonError, CorruptionError
from aeon.files import FileSystem
from aeon.format import BLOB, BLOB_ALIGNMENT, SUPERSEDED, EdgeKind, FileKind, OpFlag, cut_preview, data_offset, padded
from aeon.graph import CHANGES, Change, decode_change, parents_of, reverse_of
from aeon.key_table import encode_key, hash_key
from aeon.operations import decode_commit
from aeon.recovery import read_engine
from aeon.results import CheckReport, Problem, Progress, Stats
from aeon.salience import read_salience
from aeon.trace import FIELDS_MAX, Names, Trace
from aeon_native import dispatch

PROBLEMS_MAX = 1000  # of one kind of file; more say nothing new


def file_sizes(files: FileSystem, root: str) -> dict[str, int]:
    """Length in bytes of each file of a store, by its path inside."""
    sizes = {}
    for path in walk(files, root):
        try:
            file = files.open(path)
        except FileNotFoundError:  # a checkpoint deleted it meanwhile
            continue
        try:
            sizes[path[len(root) + 1 :]] = file.size()
        finally:
            file.close()
    return sizes


def measure(
    files: FileSystem, root: str, view: View, *, sessions: int, durability: str, read_only: bool, durable_lsn: int
) -> Stats:
    """Return the figures of an open store."""
    engine, manifest, trace = view.engine, view.engine.manifest, view.engine.trace
    live = np.flatnonzero(alive_mask(view, np.arange(view.events)))
    sizes = file_sizes(files, root)
    return Stats(
        path=root,
        memories=len(live),
        vectors=int(np.count_nonzero(trace.take(live, "row"))),
        events=view.events,
        sessions=sessions,
        keys=len(engine.keys),
        dim=manifest.dim,
        rows=manifest.rows,
        embedder=manifest.embedder,
        durability=durability,
        read_only=read_only,
        generation=manifest.generation,
        lsn=view.lsn,
        durable_lsn=durable_lsn,
        log_bytes=sum(size for name, size in sizes.items() if name.startswith("wal/")),
        disk_bytes=sum(sizes.values()),
        files=sizes,
        kernels=str(dispatch.status()["mode"]),
    )


def walk(files: FileSystem, root: str) -> Iterator[str]:
    """Paths of all files in a store, two levels deep."""
    for name in files.listdir(root):
        path = f"{root}/{name}"
        if files.is_dir(path):
            try:
                inside = files.listdir(path)
            except FileNotFoundError:  # a checkpoint deleted it meanwhile
                continue
            yield from (f"{path}/{inner}" for inner in inside if not files.is_dir(f"{path}/{inner}"))
        else:
            yield path


def check(files: FileSystem, root: str, progress: Progress | None = None) -> CheckReport:
    """Verify the store at `root`: checksums, references between files, derived tables, the log.

    progress : called with (what, done, total). NotAStoreError if no store is there.
    """
    run = _Check(files, root, progress or (lambda what, done, total: None))
    while True:
        try:
            manifest = manifests.load(files, root)
            try:
                run.engine = Engine(files, root, manifest)
                break
            except CorruptionError:
                if manifests.load(files, root) == manifest:  # else a checkpoint deleted its files under our feet
                    raise
        except CorruptionError as error:
            run.found(error)
            return CheckReport(tuple(run.problems), run.counts)
    # fmt: off
    for step in (run.tables, run.blobs, run.events, run.rows, run.pages, run.sessions, run.keys, run.edges, run.graph,
                 run.time_blocks, run.salience, run.log):
        # fmt: on
        try:
            step()
        except AeonError as error:
            run.found(error)
    return CheckReport(tuple(run.problems), run.counts)


def _branches(names: Names) -> dict[str, tuple[int, int, str]]:
    """Where each session branches off, by name: session numbers differ where sessions were begun in another order."""
    return {
        names.sessions[number]: (event, lsn, names.sessions[trunk])
        for number, (event, lsn, trunk) in names.branches.items()
    }


class _Check:
    """One run."""

    engine: Engine

    def __init__(self, files: FileSystem, root: str, progress: Progress) -> None:
        self._files, self._root, self._progress = files, root, progress
        self.problems: list[Problem] = []
        self._changes: list[tuple[int, Change]] = []
        self._last_change = 0
        self.counts: dict[str, int] = {}

    def found(self, error: AeonError) -> None:
        if isinstance(error, CorruptionError):
            self.add(error.path, error.offset, f"expected {error.expected}, found {error.found}")
        else:
            self.add(self._root, -1, str(error))

    def add(self, path: str, offset: int, message: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(path, offset, message))

    def _path(self, kind: FileKind) -> str:
        return self.engine.mapped[kind].path

    def tables(self) -> None:
        """Content checksums of the tables, each on its own."""
        for file in self.engine.mapped.values():
            try:
                file.content()
            except CorruptionError as error:
                self.found(error)
        self.counts["files"] = len(self.engine.mapped)

    def blobs(self) -> None:
        """Every blob in the file, one behind the other: those of forgotten memories and of `forget` itself as well."""
        if not self.engine.mapped:
            return
        file = self.engine.mapped[FileKind.BLOBS]
        data, start, at = memoryview(file.data), data_offset(FileKind.BLOBS), 0  # type: ignore[arg-type]
        count = 0
        while at < len(data):
            if count % 4096 == 0:
                self._progress("blobs", at, len(data))
            if len(data) - at < BLOB.size:
                self.add(
                    file.path, start + at, f"the file ends within the header of a blob, {len(data) - at} bytes long"
                )
                return
            crc, length, id_, lsn = BLOB.unpack_from(data, at)
            end = at + BLOB.size + length
            if end > len(data) or dispatch.kernels.crc32c(data[at + 4 : end]) != crc:
                # Nothing behind it can be trusted to be a boundary; the events' own references are checked one by one.
                self.add(file.path, start + at, f"no whole blob of {length} bytes: its checksum is wrong")
                return
            if not id_ and lsn:
                self._note_changes(lsn, data[at + BLOB.size : end], file.path, start + at)
            at = padded(end, BLOB_ALIGNMENT)
            count += 1
        self.counts["blobs"] = count

    def _note_changes(self, lsn: int, operations: memoryview, path: str, offset: int) -> None:
        """Operations that belong to no event: nothing refers to them, so it is their LSNs that tell their order."""
        if lsn < self._last_change:
            self.add(path, offset, f"LSN {lsn} after {self._last_change}")
        self._last_change = lsn
        try:
            for operation in decode_commit(operations):
                if operation.kind in CHANGES:
                    self._changes.append((lsn, decode_change(operation)))
        except ValueError as error:
            self.add(path, offset, str(error))

    def events(self) -> None:
        """Every event's checksum, its blob's, and that the two say the same."""
        engine, trace = self.engine, self.engine.trace
        self._links: list[tuple[int, int, int]] = []
        versions: dict[bytes, int] = {}
        seen_fields = Names(b"", "")
        total = trace.events.base_count
        before = 0
        last_row = 0
        for index in range(total):
            if index % 4096 == 0:
                self._progress("events", index, total)
            try:
                event = engine.event(index)
                operation = engine.operation(index)
                extra = engine.extra(index)
                text = bytes(engine.blobs.text(operation))
                text.decode("utf-8")
            except (CorruptionError, UnicodeDecodeError) as error:
                self.found(error) if isinstance(error, CorruptionError) else self._event(index, str(error))
                continue
            if event.id <= before:
                self._event(index, f"id {event.id} does not follow {before}")
            before = event.id
            said = (operation.role, operation.flags, operation.parent, operation.timestamp, cut_preview(text))
            kept = (event.role, event.flags, event.parent, event.timestamp, event.preview)
            if said != kept:
                self._event(index, f"the event says {kept}, its blob {said}")
            names = trace.names
            if event.session >= len(names.sessions) or names.sessions[event.session] != extra.session:
                self._event(index, f"session {event.session} is not {extra.session!r}")
            if event.namespace >= len(names.namespaces) or names.namespaces[event.namespace] != extra.namespace:
                self._event(index, f"namespace {event.namespace} is not {extra.namespace!r}")
            if bool(event.flags & OpFlag.VECTOR) != (event.row >= 0):
                self._event(index, "flag and row disagree on whether there is a vector")
            if event.row >= 0:
                if event.row != last_row:
                    self._event(index, f"row {event.row}, expected {last_row}")
                last_row += 1
            if extra.metadata:
                seen_fields.note_fields(extra.metadata)
            if self._is_readable(index):
                self._links += [
                    (event.id, ref, EdgeKind.REF) for ref in extra.refs if self._is_readable(trace.index_of(ref))
                ]
                if extra.key is not None:
                    key = encode_key(extra.namespace, extra.key)
                    if key in versions:
                        self._links.append((event.id, versions[key], EdgeKind.REPLACES))
                    versions[key] = event.id
        missing = seen_fields.fields - trace.names.fields
        if missing and len(trace.names.fields) < FIELDS_MAX:
            self.add(self._path(FileKind.NAMES), 64, f"metadata has fields that are not listed: {sorted(missing)[:3]}")
        if last_row != engine.atlas.rows.base_count:
            self.add(
                self._path(FileKind.ROWS), 0, f"{engine.atlas.rows.base_count} rows for {last_row} events with a vector"
            )
        self.counts["events"] = total

    def _is_readable(self, index: int) -> bool:
        return index >= 0 and not 0 < self.engine.trace.death(index) < SUPERSEDED

    def _event(self, index: int, message: str) -> None:
        self.add(self._path(FileKind.EVENTS), data_offset(FileKind.EVENTS) + index * 128, message)

    def rows(self) -> None:
        """Every row's checksum, its owner, and that row and event ended together."""
        atlas, trace = self.engine.atlas, self.engine.trace
        count = atlas.rows.base_count
        atlas.verify_all()
        owners = trace.events.base["id"][trace.events.base["row"] > 0]
        ids = atlas.rows.base["id"]
        for row in np.flatnonzero(ids[: len(owners)] != owners[:count]).tolist():
            self.add(self._path(FileKind.ROWS), 64 + row * 16, f"row {row} belongs to {ids[row]}, not {owners[row]}")
        ended = trace.deaths.base["lsn"][trace.events.base["row"] > 0] != 0
        for row in np.flatnonzero((atlas.deaths.base["lsn"] != 0)[: len(ended)] != ended[:count]).tolist():
            self.add(
                self._path(FileKind.ROW_DEATHS), 64 + row * 8, f"row {row} and its event disagree on whether it ended"
            )
        self.counts["rows"] = count

    def pages(self) -> None:
        """The page index, where there is one: every live row in exactly one page, under the sketch derived from it."""
        if FileKind.PAGES in self.engine.mapped:
            for message in self.engine.atlas.check_pages():
                self.add(self._path(FileKind.PAGES), data_offset(FileKind.PAGES), message)

    def sessions(self) -> None:
        """Postings and sessions, derived anew from the events."""
        trace = self.engine.trace
        events = trace.events.base
        if not self.engine.mapped or (events["session"] >= len(trace.names.sessions)).any():  # `events` has told
            return
        postings, sessions = plan_sessions(
            events["session"],
            np.arange(len(events), dtype=np.uint32),
            trace.deaths.base["lsn"],
            len(trace.names.sessions),
        )
        self._equal(FileKind.POSTINGS, trace.base_postings, postings.view(np.uint32))
        for field in ("postings_start", "postings_count", "live"):
            self._equal(FileKind.SESSIONS, trace.base_sessions[field], sessions[field])
        self.counts["sessions"] = len(sessions)

    def _equal(self, kind: FileKind, stored: Any, derived: Any) -> None:
        if len(stored) != len(derived):
            self.add(self._path(kind), 64, f"{len(stored)} records, {len(derived)} derived from the events")
            return
        for index in np.flatnonzero(stored != derived)[:PROBLEMS_MAX].tolist():
            width = self.engine.mapped[kind].record_bytes
            self.add(
                self._path(kind), 64 + index * width, f"record {index} is {stored[index]}, derived {derived[index]}"
            )

    def keys(self) -> None:
        """Every key against the newest current event that has it."""
        engine, trace = self.engine, self.engine.trace
        newest: dict[bytes, int] = {}
        if not engine.mapped:
            return
        deaths = trace.deaths.base["lsn"]
        for index in np.flatnonzero((trace.events.base["flags"] & OpFlag.KEY).astype(bool) & (deaths == 0)).tolist():
            extra = engine.extra(index)
            newest[encode_key(extra.namespace, extra.key or "")] = trace.event(index).id
        derived = sorted((hash_key(key), id_) for key, id_ in newest.items())
        stored = [(int(record["hash"]), int(record["id"])) for record in engine.mapped[FileKind.KEYS].content()]
        if stored != derived:
            self.add(
                self._path(FileKind.KEYS),
                64,
                f"{len(stored)} keys, {len(derived)} derived from the events, not the same",
            )
        self.counts["keys"] = len(stored)

    def edges(self) -> None:
        """Every edge's ends, and that they are those that the blobs' refs and keys give."""
        engine, trace = self.engine, self.engine.trace
        if not engine.mapped:
            return
        edges = engine.mapped[FileKind.EDGES].content()
        for index, edge in enumerate(edges):
            for end in (int(edge["src"]), int(edge["dst"])):
                at = trace.index_of(end)
                if at < 0:
                    self.add(
                        self._path(FileKind.EDGES), 64 + index * 24, f"edge {index} reaches {end}, which is not there"
                    )
            if int(edge["kind"]) not in set(EdgeKind):
                self.add(self._path(FileKind.EDGES), 64 + index * 24, f"edge {index} has the kind {edge['kind']}")
        if len(edges) and (np.diff(edges["src"].astype(np.int64)) < 0).any():
            self.add(self._path(FileKind.EDGES), 64, "edges are not sorted by src")
        stored = [(int(edge["src"]), int(edge["dst"]), int(edge["kind"])) for edge in edges]
        if stored != self._links:
            wrong = sorted(set(stored) ^ set(self._links))[:3]
            self.add(
                self._path(FileKind.EDGES),
                64,
                f"{len(stored)} edges, {len(self._links)} derived, not the same: {wrong}",
            )
        self.counts["edges"] = len(edges)

    def graph(self) -> None:
        """Links, reverse, archived and branches, made anew from the operations in the blobs and from the events."""
        engine, trace = self.engine, self.engine.trace
        if not engine.mapped:
            return
        derived = Trace({}, 1)
        for lsn, change in self._changes:
            apply_change(derived, lsn, change, lambda id_: self._is_readable(trace.index_of(id_)))
        names = trace.names
        branches = _branches(derived.names)
        if _branches(names) != branches:
            self.add(self._path(FileKind.NAMES), 64, f"branches {_branches(names)}, derived {branches}")
        links = derived.graph.all_links()
        if len(links):
            links["kind"] = [names.known_kind(derived.names.kind_name(kind)) or 0 for kind in links["kind"].tolist()]
            links = links[np.lexsort((links["dst"], links["kind"], links["lsn"], links["src"]))]
        parents = parents_of(*trace.base_parents())
        living = np.array([self._is_readable(trace.index_of(int(id_))) for id_ in parents["dst"]], bool)
        living &= np.array([self._is_readable(trace.index_of(int(id_))) for id_ in parents["src"]], bool)
        reverse = reverse_of(trace.graph.base_edges, links, parents[living])
        for kind, stored, made in (
            (FileKind.LINKS, trace.graph.base_links, links),
            (FileKind.REVERSE, trace.graph.base_reverse, reverse),
            (FileKind.ARCHIVED, trace.graph.base_archived, derived.graph.all_archived()),
        ):
            if kind in engine.mapped:
                self._equal(kind, stored, made)
            elif len(made) and kind != FileKind.REVERSE:  # a generation made before there was one has none
                self.add(f"{self._root}/MANIFEST", -1, f"no {kind.name.lower()} file for {len(made)} records")
        self.counts["links"] = len(links)

    def time_blocks(self) -> None:
        """Each block of time holds each of its rows once, and says when they were."""
        file = self.engine.mapped.get(FileKind.TIME_BLOCKS)
        if file is not None:
            for message in self.engine.time_blocks.check(self.engine.atlas, self.engine.trace):
                self.add(file.path, -1, message)

    def salience(self) -> None:
        """The file beside the MANIFEST that counts recalls."""
        with suppress(FileNotFoundError):
            read_salience(self._files, self._root, self.engine.manifest.uuid)

    def log(self) -> None:
        """The log: every frame, replayed on top of the newest generation."""
        _, replayed = read_engine(self._files, self._root)  # on a state of its own; a writer may be at work
        self.counts["commits in the log"] = replayed.commits
        if replayed.torn is not None and replayed.torn.bytes_dropped:
            torn = replayed.torn
            self.add(
                torn.segment, torn.offset, f"torn tail of {torn.bytes_dropped} bytes ({torn.reason}); open cuts it off"
            )
