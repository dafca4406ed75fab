"""What a Store does to its episode graph: links, branches, versions, concepts, archives. The calls of `Store` that write it.

Each call is one commit, or joins this thread's transaction. Decisions (is it there already, would it close a circle) are
made under the write lock on a state that holds every commit appended before, so that no other writer can come between.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from aeon import intake
from aeon.engine import View, find
from aeon.errors import InvalidInputError, NotFoundError
from aeon.format import EdgeKind
from aeon.graph import encode_archive, encode_branch, encode_link, encode_restore
from aeon.key_table import encode_key
from aeon.results import Memory
from aeon.traversal import ACYCLIC, closes_circle
from aeon.versions import versions_of

if TYPE_CHECKING:
    from aeon.transaction import Transaction
    from aeon.wal import Wal

CONCEPTS = "concepts"
"""Session and first segment of the namespace that concepts are kept in."""
_MANAGED = {"replaces": "upserts make it", "parent": "`remember` makes it", "next": "it is the order of a session"}


class Episodes:
    """The part of `Store` that knows of edges, branches and versions."""

    _write_lock: threading.RLock
    _index_lock: threading.Lock
    _transaction: Transaction | None

    if TYPE_CHECKING:

        def _view(self) -> View: ...
        def _writer(self) -> Wal: ...
        def _apply_pending(self) -> None: ...
        def _append(self, body: bytes, ids: int) -> tuple[int, int]: ...
        def _finish(self, lsn: int) -> None: ...

        remember_many: Any
        history: Any

    def _settled(self) -> View:
        """A view of every commit that was appended, on disk or not; the caller holds the write lock."""
        wal = self._writer()
        if self._view().lsn < wal.appended_lsn:
            wal.sync(wal.appended_lsn)
            self._apply_pending()
        return self._view()

    def _require_here(self, view: View, id_: int, what: str) -> None:
        transaction = self._transaction
        if transaction is not None:
            if id_ in transaction.forgotten:
                raise NotFoundError(f"{what} {id_} is forgotten by this transaction")
            if transaction.owns(id_):
                return
        find(view, id_)

    # -- edges --------------------------------------------------------------------------------------------------

    def link(self, src: int, dst: int | Iterable[int], kind: str, *, acyclic: bool | None = None) -> int:
        """Make edges of a kind from `src` to `dst`, one id or several (a hyperedge); return how many are new.

        Parameters
        ----------
        kind : causes, derived_from, summarises, contains, contradicts, ref, repeats, or a name of your own. An edge reads
            "src kind dst"; a user's own kind points, as `ref` does, to what it rests on.
        acyclic : refuse what would close a circle of this kind; None = as the kind says (causes, derived_from, summarises,
            contains and repeats may not; contradicts, ref and a user's own may).

        An edge lives as long as both its ends can be read: a `forget` takes it away in the same commit.
        Raises NotFoundError (an id that was never given out, or was forgotten), InvalidInputError (a self link, a circle, a
        kind that only the store makes), each before anything is written; all edges of a call are made, or none.
        Durability as in `remember`. Cost: one log record for the call; with `acyclic`, a walk over the edges of that kind.
        """
        self._writer()
        start, ends, name = self._check_edges(src, dst, kind)
        with self._write_lock:
            view = self._settled()
            for id_ in (start, *ends):
                self._require_here(view, id_, "memory")
            number = view.engine.trace.names.known_kind(name)
            refuse = number in ACYCLIC if acyclic is None else acyclic
            made = {} if self._transaction is None else self._transaction.outgoing.get(name, {})
            new = [end for end in dict.fromkeys(ends) if not self._is_linked(view, start, end, name, number)]
            if number == EdgeKind.REF:
                born = view.engine.trace.edges_from(start)  # refs that were given to `remember`
                new = [end for end in new if (end, EdgeKind.REF) not in born]
            if refuse:
                for end in new:
                    if closes_circle(view, start, end, number or 0, made):
                        raise InvalidInputError(
                            f"{start} {name} {end} would close a circle: {end} leads to {start} already"
                        )
            lsn = 0
            if new:
                pairs = [(start, end) for end in new]
                lsn, _ = self._append(encode_link(pairs, name, intake.as_timestamp(None)), 0)
                if self._transaction is not None:
                    self._transaction.note_links(pairs, name, made=True)
        self._finish(lsn)
        return len(new)

    def unlink(self, src: int, dst: int | Iterable[int], kind: str) -> int:
        """End edges that `link` made; return how many there were. Errors and durability as in `link`.

        A ref that was given to `remember` is part of that memory and ends with it: InvalidInputError.
        """
        self._writer()
        start, ends, name = self._check_edges(src, dst, kind)
        with self._write_lock:
            view = self._settled()
            for id_ in (start, *ends):
                self._require_here(view, id_, "memory")
            number = view.engine.trace.names.known_kind(name)
            gone = [end for end in dict.fromkeys(ends) if self._is_linked(view, start, end, name, number)]
            if number == EdgeKind.REF:
                born = {dst for dst, kind_ in view.engine.trace.edges_from(start) if kind_ == EdgeKind.REF}
                for end in ends:
                    if end in born and end not in gone:
                        raise InvalidInputError(f"memory {start} was remembered with the ref to {end}: it ends with it")
            lsn = 0
            if gone:
                pairs = [(start, end) for end in gone]
                lsn, _ = self._append(encode_link(pairs, name, intake.as_timestamp(None), ends=True), 0)
                if self._transaction is not None:
                    self._transaction.note_links(pairs, name, made=False)
        self._finish(lsn)
        return len(gone)

    def _check_edges(self, src: Any, dst: Any, kind: Any) -> tuple[int, list[int], str]:
        start, ends = intake.check_id(src, "src"), intake.check_ids(dst, "dst")
        name = intake.check_name(kind, "kind")
        if name in _MANAGED:
            raise InvalidInputError(f"an edge of kind {name!r} is not made by hand: {_MANAGED[name]}")
        if start in ends:
            raise InvalidInputError(f"memory {start} cannot be linked to itself")
        return start, ends, name

    def _is_linked(self, view: View, src: int, dst: int, name: str, number: int | None) -> bool:
        if self._transaction is not None and (src, dst, name) in self._transaction.links:
            return self._transaction.links[src, dst, name]
        return number is not None and view.engine.trace.graph.has_link(src, dst, number, view.lsn)

    # -- sessions that branch -----------------------------------------------------------------------------------

    def branch(self, event_id: int, new_session: str) -> str:
        """Begin a session that continues from an earlier event of any session; return its name.

        Its history is its own memories after those up to that event, and so on to the root. What the other session remembers
        later is not in it. NotFoundError if there is no such event (yet); InvalidInputError if the session was already begun.
        Durability as in `remember`.
        """
        self._writer()
        id_, name = intake.check_id(event_id, "event_id"), intake.check_name(new_session, "new_session")
        with self._write_lock:
            view = self._settled()
            self._require_here(view, id_, "event")
            transaction = self._transaction
            if transaction is not None and transaction.owns(id_):
                trunk = transaction.sessions[id_ - transaction.first_id]
            else:
                trace = view.engine.trace
                trunk = trace.names.sessions[trace.event(trace.index_of(id_)).session]
            begun = name in view.engine.trace.names.session_numbers
            begun = begun or (transaction is not None and name in (*transaction.branches, *transaction.sessions))
            if begun:
                raise InvalidInputError(f"session {name!r} was already begun; a branch needs a new name")
            lsn, _ = self._append(encode_branch(name, id_, trunk, intake.as_timestamp(None)), 0)
            if transaction is not None:
                transaction.branches.add(name)
        self._finish(lsn)
        return name

    def backtrack(self, session: str = "default", n: int = 1) -> Memory:
        """Return the memory `n` steps before a session's newest one, over branches to the root: where to `branch` from.

        NotFoundError if the session's history is not that long.
        """
        steps = intake.check_count(n, "n")
        past = self.history(session, steps + 1)
        if len(past) <= steps:
            raise NotFoundError(
                f"session {session!r} has {len(past)} memories: there is none {steps} before the newest"
            )
        return past[0]

    def diff(self, a: str, b: str) -> tuple[Memory | None, list[Memory], list[Memory]]:
        """Show where two sessions part: (the last memory they share or None, what only a has, what only b has).

        NotFoundError if there was never such a session.
        """
        numbers = self._view().engine.trace.names.session_numbers
        for session in (a, b):
            if intake.check_name(session, "session") not in numbers:
                raise NotFoundError(f"there is no session {session!r}")
        pasts = [self.history(intake.check_name(session, "session"), None) for session in (a, b)]
        shared = 0
        for one, other in zip(*pasts, strict=False):
            if one.id != other.id:
                break
            shared += 1
        return (pasts[0][shared - 1] if shared else None), pasts[0][shared:], pasts[1][shared:]

    # -- versions -----------------------------------------------------------------------------------------------

    def history_of(self, what: int | str, namespace: Sequence[str] = ()) -> list[Memory]:
        """Return every version that is kept of a memory, oldest first; what : an id of any of them, or a key.

        An unknown key gives []; an id that was never given out or was forgotten raises NotFoundError.
        """
        view = self._view()
        if isinstance(what, str):
            encoded = encode_key(intake.check_namespace(namespace), intake.check_name(what, "key"))
            with self._index_lock:  # the table has no versions: between two commits it is the view's
                view = self._view()
                named = view.engine.keys.get(encoded)
            if named is None:
                return []
            id_ = named[0]
        else:
            id_ = intake.check_id(what)
        find(view, id_)
        return [Memory(view.engine, view.engine.trace.index_of(one), one) for one in versions_of(view, id_)]

    # -- concepts -----------------------------------------------------------------------------------------------

    def concept(self, name: str, vector: Any = None, *, namespace: Sequence[str] = ()) -> int:
        """Return the id of the concept with this name, which is made if it is new: what `refs` of memories point to.

        A concept is an event with role "concept", kept under the name as its key in the namespace ("concepts", *namespace).
        With a vector it can be recalled; without, it is reached over the graph only, with an embedder too.
        """
        self._writer()
        key, space = intake.check_name(name, "name"), (CONCEPTS, *intake.check_namespace(namespace))
        with self._write_lock:
            view = self._settled()
            transaction = self._transaction
            if transaction is not None and (space, key) in transaction.concepts:
                return transaction.concepts[space, key]
            with self._index_lock:
                named = view.engine.keys.get(encode_key(space, key))
            if named is not None and (transaction is None or named[0] not in transaction.forgotten):
                return named[0]
            [id_] = self.remember_many([name], [vector], keys=[key], namespace=space, role="concept", session=CONCEPTS)
            if transaction is not None:
                transaction.concepts[space, key] = id_
            return id_

    # -- archives -----------------------------------------------------------------------------------------------

    def archive(self, ids: int | Iterable[int], *, by: int | None = None) -> int:
        """Take memories out of recall; return how many were in. They stay in the history and in `get`; `restore` undoes it.

        by : the summary that stands for them. NotFoundError for an unknown or forgotten id; nothing is changed then.
        """
        self._writer()
        chosen = list(dict.fromkeys(intake.check_ids(ids)))
        stands = 0 if by is None else intake.check_id(by, "by")
        return self._change_archive(chosen, stands, archive=True)

    def restore(self, ids: int | Iterable[int]) -> int:
        """Take archived memories back into recall; return how many were out. Errors as in `archive`."""
        self._writer()
        return self._change_archive(list(dict.fromkeys(intake.check_ids(ids))), 0, archive=False)

    def _change_archive(self, chosen: list[int], by: int, *, archive: bool) -> int:
        with self._write_lock:
            view = self._settled()
            for id_ in (*chosen, *([by] if by else [])):
                self._require_here(view, id_, "memory")
            chosen = [id_ for id_ in chosen if self._is_archived(view, id_) != archive]
            lsn = 0
            if chosen:
                now = intake.as_timestamp(None)
                operation = encode_archive(chosen, by, now) if archive else encode_restore(chosen, now)
                lsn, _ = self._append(operation, 0)
                if self._transaction is not None:
                    self._transaction.archived.update(dict.fromkeys(chosen, archive))
        self._finish(lsn)
        return len(chosen)

    def _is_archived(self, view: View, id_: int) -> bool:
        if self._transaction is not None and id_ in self._transaction.archived:
            return self._transaction.archived[id_]
        return view.engine.trace.graph.archived_by(id_, view.lsn) is not None
