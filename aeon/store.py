"""The Store: one directory, one writer, any number of readers. It owns the order of locks and of writes.

A commit goes: check and encode (no lock) -> append to the log (write lock, log lock) -> sync, shared with other
committers (no lock but the log's own) -> apply to memory (index lock). Readers take a `View` and no lock.

Locks are taken in this order and never the other way round: write lock, log lock, index lock.
  write lock   order of commits; held over a whole transaction, and for a moment when a generation is begun
  log lock     inside `Wal`: order of frames
  index lock   one thread applies, in the order of LSNs
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeon import check as checks
from aeon import intake, reading
from aeon.atlas_view import AtlasView
from aeon.checkpoint import write_ahead
from aeon.consolidation import Consolidation
from aeon.embedding import Embed, embed_texts
from aeon.engine import Engine, View, find, is_readable
from aeon.errors import ClosedError, EmbedderMissingError, InvalidInputError, NotFoundError, ReadOnlyError
from aeon.files import FileSystem, Lock
from aeon.format import TEXT_BYTES_INLINE, OpFlag
from aeon.key_table import encode_key
from aeon.operations import encode_extra, encode_forget, encode_remember
from aeon.options import Options, SlbMode, check_recall_target, check_slb
from aeon.pin import Pin
from aeon.recall import NO_FILTERS, Effort, Filters, current_events, recall, require_known_fields, select_alive
from aeon.recovery import Recovery, Replayed, is_newest, read_engine
from aeon.results import BackupReport, CheckReport, CompactReport, Hit, Memory, SessionInfo, Stats
from aeon.rows import as_vectors
from aeon.salience import Salience
from aeon.slb import WATCHED, Slb
from aeon.trace_view import TraceView
from aeon.transaction import Transaction
from aeon.upkeep import Upkeep
from aeon.wal import Wal
from aeon_native import dispatch

KERNELS_FROM_ROWS = 4096  # below, the NumPy twins answer in well under a millisecond and no compiler is loaded
KERNELS_FROM_COMMITS = 1000  # a process that writes more than this lives long enough to gain from compiled code
_F32 = np.dtype(np.float32)

_open_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Store(Consolidation):
    """A memory store. Made by `aeon.open`; safe to share between threads, not between processes after a fork."""

    def __init__(
        self,
        files: FileSystem,
        root: str,
        engine: Engine,
        recovery: Recovery,
        options: Options,
        embed: Embed | None,
        wal: Wal | None,
        lock: Lock | None,
    ) -> None:
        self._files = files
        self._root = root
        self._engine = engine
        self._options = options
        self._embed = embed
        self._wal = wal
        self._lock = lock
        self._write_lock = threading.RLock()
        self._index_lock = threading.Lock()
        self._pending: deque[tuple[int, int, bytes]] = deque()  # appended, not yet applied: (LSN, first id, body)
        self._transaction: Transaction | None = None  # of the thread that holds the write lock
        self._unusable: str = ""
        self._commits = 0
        self._efforts = tuple(Effort(exact, options.recall_target) for exact in (False, True))
        self._salience = Salience(files, root, engine.manifest.uuid)
        self._upkeep = Upkeep()
        self._replayed: Replayed | None = None  # how far the log was read by the last `refresh`
        self.recovery = recovery
        self.slb = Slb(self._view, engine.atlas.dim, bytes_max=options.slb_bytes_max, shared=options.slb_shared)
        if engine.view.rows >= KERNELS_FROM_ROWS:
            dispatch.start()
        _open_stores.add(self)

    @property
    def atlas(self) -> AtlasView:
        """The bare vector layer."""
        return AtlasView(self)  # made anew: a store that is let go is gone at once, with its descriptors

    @property
    def trace(self) -> TraceView:
        """The episode graph, read."""
        return TraceView(self._view, self._as_query, self._salience)

    # -- guards -------------------------------------------------------------------------------------------------

    def _view(self) -> View:
        if self._unusable:
            raise ClosedError(self._unusable)
        return self._engine.view

    def _writer(self) -> Wal:
        if self._unusable:
            raise ClosedError(self._unusable)
        if self._wal is None:
            raise ReadOnlyError(f"{self._root} is open read-only")
        return self._wal

    # -- remembering --------------------------------------------------------------------------------------------

    def remember(
        self,
        text: str,
        vector: Any = None,
        *,
        session: str = "default",
        role: str = "user",
        namespace: Sequence[str] = (),
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        refs: Iterable[int] = (),
        parent: int | None = None,
        ttl: float | None = None,
    ) -> int:
        """Keep one memory; return its id, which is stable for ever.

        Parameters
        ----------
        text : str of any length up to 256 MiB; well-formed Unicode.
        vector : float[dim], any length but zero; None: the store's embedder makes it from the text, and in a store of the
            caller's vectors the memory has none: it is in the history, not in vector search.
        session, role : where it belongs; role is user, assistant, system, tool, concept or summary.
        namespace, key : with a key this is an upsert: the key names the new version from now on, and search and history
            show only that one. The version before stays readable by its id.
        metadata : fields for `where`; anything msgpack holds, with text as field names.
        timestamp : int microseconds since 1970 UTC, or a datetime; None = now.
        refs, parent : ids of memories this one refers to, and of the one it follows from.
        ttl : seconds after its timestamp, when the next sweep (at an automatic checkpoint, or `compact`) forgets it.

        Raises InvalidInputError, DimensionError, CapacityError, NotFoundError (refs, parent), each before anything is
        written; PoisonedError if the disk fails.

        Durability: when this returns, under "full" the memory is on disk (one fdatasync, shared with concurrent calls);
        under "normal" it survives the death of the process. Cost: a few tens of microseconds beside the sync.
        """
        vectors = None if vector is None else as_vectors(vector, self._engine.atlas.dim)
        if vectors is not None and len(vectors) != 1:
            raise InvalidInputError(f"one text takes one vector, not {len(vectors)}")
        return self._remember(
            [text], vectors, [session], [role], namespace, [key], [metadata], [timestamp], [refs], [parent], [ttl]
        )[0]

    def remember_many(
        self,
        texts: Sequence[str],
        vectors: Any = None,
        *,
        session: str | Sequence[str] = "default",
        role: str | Sequence[str] = "user",
        namespace: Sequence[str] = (),
        keys: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None = None,
        timestamps: Any = None,
        refs: Sequence[Iterable[int]] | None = None,
        parents: Sequence[int | None] | None = None,
        ttl: float | Sequence[float | None] | None = None,
    ) -> list[int]:
        """Keep many memories in one commit, all or none; return their ids, in order.

        Parameters
        ----------
        texts : at least one str. vectors : float[n, dim], or None as in `remember`, or a list with None where a memory
            has no vector.
        session, role, metadata, timestamps, ttl : one for all, or a list of n. keys, refs, parents : a list of n, or None.

        Errors and durability as in `remember`. Cost: one log record and one sync for the whole batch.
        """
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InvalidInputError(f"texts is a list of str, not {type(texts).__name__}")
        count = len(texts)
        if not count:
            raise InvalidInputError("an empty batch: there is nothing to remember")
        sparse: list[int] | None = None
        array = None
        if vectors is not None:
            if isinstance(vectors, list) and any(vector is None for vector in vectors):
                intake.spread(vectors, count, "vectors")
                sparse = [n for n, vector in enumerate(vectors) if vector is not None]
                vectors = [vectors[n] for n in sparse]
            if sparse is None or sparse:
                array = as_vectors(vectors, self._engine.atlas.dim)
                if len(array) != (count if sparse is None else len(sparse)):
                    raise InvalidInputError(f"{len(array)} vectors for {count} texts")
        return self._remember(
            texts,
            array,
            intake.spread(session, count, "session"),
            intake.spread(role, count, "role"),
            namespace,
            intake.spread(intake.check_list(keys, "keys"), count, "keys"),
            intake.spread(metadata, count, "metadata"),
            intake.spread(timestamps, count, "timestamps"),
            [()] * count if refs is None else intake.spread(refs, count, "refs"),
            intake.spread(parents, count, "parents"),
            intake.spread(ttl, count, "ttl"),
            sparse,
        )

    def _remember(
        self,
        texts: Sequence[str],
        vectors: NDArray[np.float32] | None,
        sessions: Sequence[str],
        roles: Sequence[str],
        namespace: Sequence[str],
        keys: Sequence[str | None],
        metadata: Sequence[Mapping[str, Any] | None],
        timestamps: Sequence[Any],
        refs: Sequence[Iterable[int]],
        parents: Sequence[int | None],
        ttls: Sequence[float | None],
        sparse: list[int] | None = None,
    ) -> list[int]:
        """Check and encode everything, then commit: nothing is written if anything is wrong."""
        self._writer()
        encoded_texts = [intake.encode_text(text) for text in texts]
        space = intake.check_namespace(namespace)
        if vectors is None and sparse is None:
            if self._embed is not None:
                vectors = embed_texts(self._embed, texts, self._engine.atlas.dim)
            elif self._engine.manifest.embedder:
                raise self._embedder_missing("a vector, or vectors=[None] for a memory that search does not find")
        with_vector = range(len(texts)) if sparse is None else sparse
        packed = dict(zip(with_vector, self._pack_vectors(vectors), strict=True)) if vectors is not None else {}
        operations = []
        needed: set[int] = set()
        plain: dict[str, bytes] = {}
        for n, text in enumerate(encoded_texts):
            session, key = intake.check_name(sessions[n], "session"), keys[n]
            fields = intake.pack_metadata(metadata[n])
            references = intake.check_refs(refs[n])
            parent = 0 if parents[n] is None else intake.check_id(parents[n], "parent")
            flags = (OpFlag.VECTOR if n in packed else 0) | (OpFlag.METADATA if fields else 0)
            timestamp = intake.as_timestamp(timestamps[n])
            expires = intake.as_expiry(ttls[n], timestamp)
            if expires is not None:
                flags |= OpFlag.EXPIRES
            if key is not None:
                intake.check_name(key, "key")
                flags |= OpFlag.KEY
            is_plain = key is None and fields is None and not references and expires is None
            extra = plain.get(session) if is_plain else None
            if extra is None:
                extra = encode_extra(session, space, key, fields, references, expires)
                if is_plain:
                    plain[session] = extra
            if len(text) > TEXT_BYTES_INLINE:
                flags |= OpFlag.TEXT_REF
            needed.update(references)
            if parent:
                needed.add(parent)
            operations.append(
                (
                    intake.check_role(roles[n]),
                    int(flags),
                    parent,
                    timestamp,
                    extra,
                    text,
                    packed.get(n, b""),
                )
            )
        with self._write_lock:
            if needed:
                self._require_readable(needed)
            # Where a generation is being written no text is written ahead: the log carries it, whatever its length.
            inline = ~OpFlag.TEXT_REF if self._upkeep.writing else ~0
            body = b"".join(
                encode_remember(
                    role=role, flags=flags & inline, parent=parent, timestamp=timestamp, extra=extra, vector=vector,
                    text=self._write_ahead(text) if flags & inline & OpFlag.TEXT_REF else text,
                )
                for role, flags, parent, timestamp, extra, text, vector in operations
            )  # fmt: skip
            lsn, first_id = self._append(body, len(operations))
            if self._transaction is not None:
                self._transaction.sessions += sessions
        self._finish(lsn)
        return list(range(first_id, first_id + len(operations)))

    def _pack_vectors(self, vectors: NDArray[np.float32]) -> Iterator[bytes]:
        """The log's form of each vector: scale and codes, or float32."""
        atlas = self._engine.atlas
        codes, scales = atlas.encode(vectors)
        codes = codes[:, : atlas.code_bytes]
        if not atlas.quantised:
            return (row.tobytes() for row in codes)
        rows = np.empty((len(codes), 4 + atlas.code_bytes), np.uint8)
        rows[:, :4] = scales.astype("<f4").view(np.uint8).reshape(-1, 4)
        rows[:, 4:] = codes
        data, width = rows.tobytes(), rows.shape[1]
        return (data[at : at + width] for at in range(0, len(data), width))

    def _require_readable(self, ids: Iterable[int]) -> None:
        """Raise NotFoundError unless every id can be read, or is new in the running transaction."""
        if not ids:
            return
        self._apply_pending()
        view = self._view()
        for id_ in ids:
            if self._transaction is None or not self._transaction.owns(id_):
                find(view, id_)

    def _write_ahead(self, text: bytes) -> bytes:
        """Put a long text into the arena; return the BLOB_REF. Under the write lock, and while no generation is written."""
        wal = self._writer()
        wal.require_healthy()
        try:
            return write_ahead(self._files, self._root, self._engine, text)
        except Exception as error:
            raise wal.poison(error) from error

    # -- committing ---------------------------------------------------------------------------------------------

    def _append(self, body: bytes, ids: int) -> tuple[int, int]:
        """Write a commit to the log, or add it to this thread's transaction; the caller holds the write lock.

        Returns (LSN, first id); LSN 0 inside a transaction. Nobody sees the commit before `_finish`.
        """
        if self._transaction is not None:
            return 0, self._transaction.add(body, ids)
        wal = self._writer()
        before = wal.appended_lsn
        try:
            lsn, first_id = wal.append(body, ids)
            self._pending.append((lsn, first_id, body))
        except KeyboardInterrupt:
            # Ctrl-C behind the write: the log has the frame, so it is a commit, and later ones build on its ids.
            lsn = wal.appended_lsn
            noted = bool(self._pending) and self._pending[-1][0] == lsn
            if lsn > before and not noted and self._engine.view.lsn < lsn:
                self._pending.append((lsn, wal.next_id - ids, body))
            raise
        return lsn, first_id

    def _finish(self, lsn: int) -> None:
        """Wait until a commit is as durable as the store promises, then let readers see it.

        Called without the write lock: others append while this commit waits for the disk, and share its sync.
        """
        wal = self._wal
        if not lsn or wal is None:
            return
        # Closed meanwhile or not: what was appended is synced by `close`, so this call did what it was asked.
        if self._options.durability == "full":
            wal.sync(lsn)
        if self._engine.view.lsn < lsn:
            self._apply_pending()
        self._upkeep.give_way()
        self._commits += 1
        if self._commits == KERNELS_FROM_COMMITS or self._engine.view.rows >= KERNELS_FROM_ROWS:
            dispatch.start()  # does nothing the second time
        if wal.bytes_since_checkpoint > self._options.checkpoint_log_bytes or self._engine.forgotten_since:
            self._upkeep.run_if_due(self)

    def _apply_pending(self) -> None:
        """Apply what was appended, in order; under "full" only what is on disk, so no reader sees what could be lost.

        Log first, then index: a crash between the two is repaired by replay.
        """
        wal, pending = self._wal, self._pending
        assert wal is not None  # only writers have something pending
        limit = wal.durable_lsn if self._options.durability == "full" else wal.appended_lsn
        with self._index_lock:
            while pending and pending[0][0] <= limit:
                lsn, first_id, body = pending[0]
                self._upkeep.note_applying(self._engine, lsn)
                try:
                    self._engine.apply(lsn, first_id, memoryview(body))
                except Exception as error:
                    raise wal.poison(error) from error
                except BaseException:  # Ctrl-C: half a commit is in memory, though no reader sees it
                    self._rebuild(wal)
                    raise
                pending.popleft()
                self._upkeep.note_applied(lsn, len(body))

    def _rebuild(self, wal: Wal) -> None:
        """Make the state anew from the generation and the log, as opening does; the caller holds the index lock."""
        try:
            wal.sync(wal.appended_lsn)  # what is replayed is shown
            self._engine, _ = read_engine(self._files, self._root)
            while self._pending and self._pending[0][0] <= self._engine.view.lsn:
                self._pending.popleft()
        except BaseException as error:  # interrupted again: only reopening helps
            raise wal.poison(error) from error

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """Group the calls this thread makes inside the block into one commit: all of them or none.

            with store.transaction():
                source = store.remember("...", key="plan")
                store.forget(old)

        Ids are final at once. Reads inside the block show the store as it was before. An exception drops everything.
        Other writers wait until the block ends. Durability as in `remember`, at the end of the block.
        """
        self._writer().require_healthy()
        with self._write_lock:
            if self._transaction is not None:
                raise InvalidInputError("transactions do not nest: this thread is inside one already")
            transaction = self._transaction = Transaction(self._writer().next_id)
            try:
                yield self
            finally:
                self._transaction = None
            lsn = 0
            if transaction.bodies:
                lsn, _ = self._append(b"".join(transaction.bodies), transaction.next_id - transaction.first_id)
        self._finish(lsn)

    # -- forgetting ---------------------------------------------------------------------------------------------

    def forget(
        self,
        ids: int | Iterable[int] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        session: str | Sequence[str] | None = None,
        namespace: Sequence[str] | None = None,
    ) -> int:
        """Forget memories by id, or all current ones that match the filters; return how many, older versions not counted.

        Filters look at current memories. An older version that matches while its successor does not (its key moved to another
        session, say) stays: `history_of` shows it, and its id forgets it. A filter that names a field no memory ever had
        raises FilterError, also under `$ne`, `$not` or `$exists`.

        They leave search, history and `get` at once. With a memory go the versions it had replaced, and its edges; what was
        archived for a summary stays archived when that is forgotten (`undo` takes it back, `trace.archived` lists it). Its
        bytes leave the disk with the log at the next checkpoint if it never reached a generation, else by compaction.

        An id that was never given out raises NotFoundError and nothing is forgotten; one forgotten before counts 0.
        Durability as in `remember`.
        """
        self._writer()
        if ids is None and where is None and session is None and not namespace and namespace != "":
            raise InvalidInputError("forget what? give ids, where, session or namespace (where={} is everything)")
        if ids is not None and (where is not None or session is not None or namespace is not None):
            raise InvalidInputError("forget takes ids or filters, not both")
        chosen = None if ids is None else list(dict.fromkeys(intake.check_ids(ids)))
        filters = intake.make_filters(session, namespace, where)
        with self._write_lock:
            wal = self._writer()
            self._apply_pending()
            view = self._view()
            trace = view.engine.trace
            if chosen is None:
                self._require_known_fields(view, filters, all_fields=True)  # one misspelt would be true of every memory
                chosen = [trace.event(index).id for index in select_alive(view, filters)]
            else:
                chosen = [id_ for id_ in chosen if self._is_forgettable(view, wal, id_)]
            if self._transaction is not None:
                chosen = self._transaction.forget(chosen)
            lsn = 0
            if chosen:
                lsn, _ = self._append(encode_forget(np.array(chosen, "<u8").tobytes(), intake.as_timestamp(None)), 0)
        self._finish(lsn)
        return len(chosen)

    def _is_forgettable(self, view: View, wal: Wal, id_: int) -> bool:
        if self._transaction is not None and self._transaction.owns(id_):
            return True
        if id_ >= wal.next_id:
            raise NotFoundError(f"no memory has id {id_}: ids up to {wal.next_id - 1} were given out")
        index = view.engine.trace.index_of(id_)
        return 0 <= index < view.events and is_readable(view.engine.trace.death(index), view.lsn)

    # -- reading ------------------------------------------------------------------------------------------------

    def recall(
        self,
        query: Any,
        k: int = 10,
        *,
        session: str | Sequence[str] | None = None,
        namespace: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        roles: str | Sequence[str] | None = None,
        exact: bool = False,
        recall_target: float | None = None,
        archived: bool = False,
        as_of: Any = None,
        asked_in: str | None = None,
        context: float = 0.0,
        slb: SlbMode | None = None,
    ) -> list[Hit]:
        """Return the `k` memories nearest to `query`, best first; fewer only if fewer match.

        Parameters
        ----------
        query : text, which the store's embedder turns into a vector, or float[dim].
        session, namespace, roles : only these; a namespace matches by prefix, segment by segment.
        where : filter on metadata (`$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not`, dotted paths).
        since, until : since <= timestamp < until; microseconds or datetime.
        exact : score every row that passes the filters.
        recall_target : share of the exact result to find, on average, 0.8 to 0.999; None = as the store was opened with.
        archived : archived memories too (`archive`, `consolidate`).
        as_of : read as the store was after this commit (an LSN), or before the first memory with a timestamp beyond this
            datetime; scores every row. What was forgotten since shows again until a checkpoint or compaction leaves it out:
            NotRetainedError from then on.
        asked_in : the session whose turn this is, for `context` and `slb`; it filters nothing. None = `session`, if that
            is one name.
        context : 0 to 1, how much of the query is replaced by the mean of that session's recent turns.
        slb : "off", "certified", "approximate" or "auto" (see `Options`); None = as the store was opened with. Without a
            session nothing is cached. `Hit.answered` says what answered.

        Filters apply before ranking. `Hit.score` is the cosine; equal scores come in the order they were remembered.
        The first `where` that few memories satisfy reads the metadata of all once (some 2 us each), in this process.
        Raises InvalidInputError, DimensionError, FilterError, EmbedderMissingError. Cost: tens of microseconds
        through the index; linear in the candidates where they are few or the store is small.
        """
        view = self._view()
        if as_of is not None:
            view, exact, slb = reading.view_at(view, as_of), True, "off"
        return self._recall(
            view, query, k, session, namespace, where, since, until, roles, exact, recall_target, archived, asked_in, context,
            self._options.slb if slb is None else check_slb(slb),
        )  # fmt: skip

    def _recall(
        self,
        view: View,
        query: Any,
        k: int,
        session: Any = None,
        namespace: Any = None,
        where: Any = None,
        since: Any = None,
        until: Any = None,
        roles: Any = None,
        exact: bool = False,
        recall_target: float | None = None,
        archived: bool = False,
        asked_in: str | None = None,
        context: float = 0.0,
        slb: SlbMode = "off",
    ) -> list[Hit]:
        count = intake.check_count(k, "k")
        filters = NO_FILTERS
        if archived or not session is namespace is where is since is until is roles is None:
            filters = self._filters(view, session, namespace, where, since, until, roles, archived)
        vector, effort = self._as_query(query), self._effort(exact, recall_target)
        if asked_in is None and type(session) is str:
            asked_in = session
        elif asked_in is not None and type(asked_in) is not str:
            intake.check_name(asked_in, "asked_in")
        ahead = None
        if context:
            share = intake.check_share(context, "context")
            if asked_in is None:
                raise InvalidInputError("context of which session? give asked_in= (or session= to search only there)")
            vector, ahead = self.slb.context(view, asked_in, vector, share)
        cache = self.slb
        if slb == "off" or asked_in is None:
            hits = recall(view, vector, count, filters, effort)
        elif cache.naps > 0 and slb == "auto" and not context and hash(asked_in) & WATCHED:
            # Here, not there: a call behind a search that left nothing in the processor's cache takes 0.2 us.
            cache.naps -= 1
            hits = recall(view, vector, count, filters, effort)
        else:
            hits = cache.recall(view, vector, count, filters, effort, slb, asked_in, ahead)
        if self._wal is not None:
            self._salience.note([hit.id for hit in hits], time.time_ns())
        return hits

    def _filters(
        self, view: View, session: Any, namespace: Any, where: Any, since: Any, until: Any, roles: Any,
        archived: bool = False,
    ) -> Filters:  # fmt: skip
        filters = intake.make_filters(session, namespace, where, since, until, roles, archived)
        self._require_known_fields(view, filters)
        return filters

    def _require_known_fields(self, view: View, filters: Filters, *, all_fields: bool = False) -> None:
        if filters.where is not None and self._options.unknown_fields == "error":
            require_known_fields(view, filters.where, all_fields=all_fields)

    def _effort(self, exact: bool, recall_target: float | None) -> Effort:
        if recall_target is None:
            return self._efforts[bool(exact)]
        return Effort(bool(exact), check_recall_target(recall_target))

    def _as_query(self, query: Any) -> NDArray[np.float32]:
        dim = self._engine.atlas.dim
        if type(query) is np.ndarray and query.dtype is _F32 and query.shape == (dim,) and query.strides == (4,):
            return query
        if isinstance(query, str):
            intake.encode_text(query, "query")
            if self._embed is None:
                raise self._embedder_missing("a vector as the query")
            return embed_texts(self._embed, [query], dim)[0]
        vectors = as_vectors(query, dim, "query")
        if len(vectors) != 1:
            raise InvalidInputError(f"recall takes one query, not {len(vectors)}; atlas.search takes many")
        return vectors[0]

    def _embedder_missing(self, instead: str) -> EmbedderMissingError:
        maker = self._engine.manifest.embedder
        return EmbedderMissingError(
            f"the vectors here were made by {maker!r}: pass embed= to aeon.open, or {instead}"
            if maker
            else f"this store keeps its caller's vectors: pass {instead}"
        )

    def get(self, id_: int) -> Memory:
        """Return a memory by id: a current one, or a version that was replaced. NotFoundError if it was forgotten."""
        return reading.get(self._view(), id_)

    def get_key(self, key: str, namespace: Sequence[str] = ()) -> Memory | None:
        """Return the newest version under a key, or None."""
        self._view()
        encoded = encode_key(intake.check_namespace(namespace), intake.check_name(key, "key"))
        with self._index_lock:  # the table has no versions: between two commits it is the view's
            engine = self._view().engine
            found = engine.keys.get(encoded)
        return None if found is None else Memory(engine, engine.trace.index_of(found[0]), found[0])

    def history(
        self, session: str = "default", limit: int | None = 100, before: int | None = None, *, as_of: Any = None
    ) -> list[Memory]:
        """Return a session's newest `limit` memories in the order they were remembered; with `before`, older than that id.

        A branch goes on from the event it branched off: what came before it, back to the root, is part of its history.
        limit : None = all. as_of : as in `recall`. An unknown session has no history: []. Cost: proportional to what is
        returned.
        """
        view = self._view()
        return reading.history(view if as_of is None else reading.view_at(view, as_of), session, limit, before)

    def memories(
        self,
        *,
        session: str | Sequence[str] | None = None,
        namespace: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        roles: str | Sequence[str] | None = None,
    ) -> Iterator[Memory]:
        """Iterate over all current memories that pass the filters, in the order they were remembered.

        One snapshot: what is remembered or forgotten meanwhile does not show. Filters and errors as in `recall`.
        """
        view = self._view()
        return reading.memories(view, self._filters(view, session, namespace, where, since, until, roles))

    def pin(self) -> Pin:
        """Hold the store as it is now: a snapshot to read from while others write, compact and swap; see `Pin`.

            with store.pin() as pin:
                pin.recall(...), pin.get(...), pin.history(...), list(pin), pin.rows(), pin.text(...)

        Cost: well under a microsecond; no lock.
        """
        if self._unusable:
            raise ClosedError(self._unusable)
        return Pin(self, self._engine)

    def sessions(self) -> list[SessionInfo]:
        """Return the sessions that hold current memories, in the order they were begun. Cost: linear in the sessions."""
        self._view()
        with self._index_lock:  # the counts have no versions: between two commits they are the view's
            view = self._view()
            trace = view.engine.trace
            counts = [(name, number, trace.session_live(number)) for number, name in enumerate(trace.names.sessions)]
        found = []
        for name, number, live in counts:
            newest = next((block[-1] for block in current_events(view, number) if len(block)), None) if live else None
            if newest is not None:
                found.append(SessionInfo(name, live, trace.event(int(newest)).timestamp))
        return found

    def __len__(self) -> int:
        """How many memories are current."""
        self._view()
        with self._index_lock:
            trace = self._view().engine.trace
            return sum(trace.session_live(number) for number in range(len(trace.names.sessions)))

    # -- durability ---------------------------------------------------------------------------------------------

    @property
    def durable_lsn(self) -> int:
        """Every commit up to this one is on disk."""
        return self._engine.view.lsn if self._wal is None else self._wal.durable_lsn

    @property
    def embedder(self) -> str:
        """Name of the embedder that made the vectors; "" if the caller brings them."""
        return self._engine.manifest.embedder

    @property
    def lsn(self) -> int:
        """The newest commit that readers see."""
        return self._view().lsn

    def flush(self) -> int:
        """Wait until everything committed so far is on disk; return `durable_lsn`."""
        wal = self._writer()
        wal.require_healthy()
        wal.sync(wal.appended_lsn)
        return wal.durable_lsn

    def checkpoint(self) -> int:
        """Write everything into a new generation, so that the next open replays nothing; return its number.

        Returns when that is on disk; writers and readers go on meanwhile. CapacityError, with nothing changed, if there is
        no room. Cost: what came since the last checkpoint, plus 12 to 50 bytes a memory of tables.
        """
        self._writer()
        self._require_no_transaction("a checkpoint")
        return self._upkeep.checkpoint(self)

    def _save_salience(self) -> None:
        self._salience.save(self._engine.trace.readable)

    def compact(self, *, purge: bool = False) -> CompactReport:
        """Write what can still be read into a new generation, and give back the space of what was forgotten.

        purge : erase. When this returns, the text, vector, metadata and names of everything that was forgotten before the
            call are in no file of the store: not in the log, not in slack, not in an older generation.

        Returns when that is on disk; writers and readers go on meanwhile (with `purge`, writers wait for two syncs). Results
        and pins that were handed out before stay readable. CapacityError, with nothing changed, if there is no room for
        the new generation beside the old one. Cost: reads and writes what is alive.
        """
        self._writer()
        self._require_no_transaction("a compaction")
        return self._upkeep.compact(self, purge=purge)

    def _require_no_transaction(self, what: str) -> None:
        if self._transaction is not None and self._write_lock._is_owned():  # type: ignore[attr-defined]
            raise InvalidInputError(f"{what} cannot run inside a transaction")

    def refresh(self) -> int:
        """Follow the writer: show what was committed since this read-only store was opened; return the LSN reached.

        Cost: some microseconds if there is nothing new, else that of opening: the log since the last checkpoint is read anew.
        """
        self._view()
        if self._wal is None:
            with self._write_lock:
                engine, replayed = self._engine, self._replayed
                if replayed is None or not is_newest(self._files, self._root, engine.manifest, replayed):
                    engine.atlas.stop_background()
                    self._engine, self._replayed = read_engine(self._files, self._root)
        return self._engine.view.lsn

    # -- inspection ---------------------------------------------------------------------------------------------

    def check(self) -> CheckReport:
        """Verify every byte of the store on disk against every other; changes nothing. Writers wait meanwhile."""
        self._view()
        with self._write_lock:
            if self._wal is not None:
                self.flush()
                self._apply_pending()
            return checks.check(self._files, self._root)

    def backup(self, dest: str | os.PathLike[str]) -> BackupReport:
        """Copy the store to `dest`, where nothing is yet, and verify the copy; writers and readers go on meanwhile.

        The copy holds every commit that was acknowledged before the call. It is a store; to restore it is to copy it back
        (`aeon.backup`, `aeon restore`). Errors, durability and cost as in `aeon.backup`.
        """
        from aeon.backups import backup  # a process that makes no backup need not load it

        self._view()
        return backup(self._root, dest, files=self._files)

    def stats(self) -> Stats:
        """Return figures of the store."""
        view = self._view()
        measured = checks.measure(
            self._files,
            self._root,
            view,
            sessions=len(self.sessions()),
            durability=self._options.durability,
            read_only=self._wal is None,
            durable_lsn=self.durable_lsn,
        )
        return replace(measured, slb=self.slb.stats())

    # -- ending -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync what is not yet on disk and give the lock back; calling it again does nothing.

        Results handed out before stay readable. A store that was never closed loses nothing that was acknowledged.
        """
        if self._unusable:
            return
        self._require_no_transaction("closing")
        self._upkeep.stop()
        with self._write_lock:
            if self._unusable:
                return
            self._unusable = f"{self._root} is closed"
            self._engine.atlas.stop_background()
            self.slb.stop()
            try:
                if self._wal is not None:
                    self._wal.close()
                    if self._wal.poisoned is None:
                        self._save_salience()
            finally:
                if self._lock is not None:
                    self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self._unusable or f"{self._engine.view.events} events, {self._engine.view.rows} vectors"
        return f"<aeon.Store {self._root!r}: {state}>"

    def _abandon_in_child(self) -> None:
        """After a fork the parent goes on writing: the child must not touch its files, and not hold its lock."""
        self._unusable = f"{self._root} was opened by the parent process; a forked child opens it anew"
        if self._lock is not None:
            self._lock.abandon()


def _abandon_stores_in_child() -> None:
    for store in list(_open_stores):
        store._abandon_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_stores_in_child)
