"""Consolidation: one summary takes the place of many memories, in one commit, and can be undone. Part of `Store`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aeon import dreams, intake, traversal
from aeon.engine import View, find, is_readable
from aeon.episodes import Episodes
from aeon.errors import InvalidInputError
from aeon.format import EdgeKind
from aeon.recall import recall, select_alive
from aeon.results import DreamReport, Duplicates, Memory
from aeon.rows import as_vectors
from aeon.summarise import extract
from aeon.traversal import ACYCLIC
from aeon.versions import versions_of

if TYPE_CHECKING:
    from aeon.salience import Salience

Summarise = Callable[[list[Memory]], str]
_STAYS = frozenset({EdgeKind.REPLACES, EdgeKind.PARENT, EdgeKind.SUMMARISES, EdgeKind.REPEATS, EdgeKind.NEXT})


class Consolidation(Episodes):
    """The part of `Store` that replaces many memories by one."""

    if TYPE_CHECKING:
        _embed: Any
        _salience: Salience
        forget: Any
        transaction: Any

        def _as_query(self, query: Any) -> Any: ...

    def consolidate(
        self,
        ids: Iterable[int] | None = None,
        *,
        query: Any = None,
        session: str | None = None,
        k: int = 20,
        summarise: Summarise | None = None,
        originals: Literal["archive", "forget"] = "archive",
        vector: Any = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
        timestamp: Any = None,
    ) -> int:
        """Let one summary take the place of memories, in one commit; return its id.

        Parameters
        ----------
        ids, query, session : which memories, by exactly one of them: these; the `k` nearest to a query; all of a session.
            Archived ones, concepts and earlier summaries are only taken if named by id.
        summarise : from the memories, in the order they were remembered, to a text; None = the medoid sentences. It runs
            without a lock: if one of the memories was forgotten or archived meanwhile, nothing changes. What it raises is
            passed on.
        originals : "archive": out of recall, still in the history and in `get`, and `undo` takes them back; if the summary is
            forgotten they stay archived (`trace.archived`, `restore`). "forget": gone.
        vector : of the summary; None = the embedder's, or the mean of the originals' in a store of the caller's vectors.
        metadata, key, timestamp : of the summary; as in `remember`.

        The summary has the role "summary" and stands in the session of the original remembered last. Edges between an
        original and others are made for the summary too, unless they would close a circle; `summarises` leads from it to the
        originals.
        Raises InvalidInputError (no or more than one way to choose, nothing to summarise, a summary that is no text or blank),
        NotFoundError; nothing is changed then. Durability as in `remember`.
        """
        self._writer()
        if originals not in ("archive", "forget"):
            raise InvalidInputError(f"originals is 'archive' or 'forget', not {originals!r}")
        if summarise is not None and not callable(summarise):
            raise InvalidInputError(f"summarise is a function from memories to a text, not {summarise!r}")
        view = self._view()
        chosen = self._choose(view, ids, query, session, k)
        memories = [Memory(view.engine, find(view, id_), id_) for id_ in chosen]
        summary = self._summarise(memories, summarise)
        if vector is None and self._embed is None:
            vectors = [memory.vector for memory in memories]
            mean = np.sum([one for one in vectors if one is not None], axis=0)
            vector = mean if np.any(mean) else None
        with self._joined_transaction():
            view = self._settled()
            for id_ in chosen:
                self._require_here(view, id_, "memory")
                if self._is_archived(view, id_):
                    raise InvalidInputError(f"memory {id_} is archived: restore it first, or undo its summary")
            sparse = vector is None and self._embed is None  # no original has a vector either
            newest = memories[-1]
            [made] = self.remember_many(
                [summary], [None] if sparse else None if vector is None else as_vectors(vector, view.engine.atlas.dim),
                session=newest.session, role="summary", namespace=newest.namespace, metadata=[metadata],
                timestamps=[timestamp], keys=[key],
            )  # fmt: skip
            self.link(made, chosen, "summarises")
            for src, dst, kind in self._rewired(view, made, chosen):
                self.link(src, dst, kind, acyclic=False)
            if originals == "archive":
                self.archive(chosen, by=made)
            else:
                self.forget(chosen)
        return made

    def _choose(self, view: View, ids: Any, query: Any, session: Any, k: int) -> list[int]:
        if sum(one is not None for one in (ids, query, session)) != 1:
            raise InvalidInputError("consolidate what? give exactly one of ids, query and session")
        if ids is not None:
            chosen = sorted(set(intake.check_ids(ids)))
            for id_ in chosen:
                find(view, id_)
                if view.engine.trace.graph.archived_by(id_, view.lsn) is not None:
                    raise InvalidInputError(f"memory {id_} is archived: restore it first, or undo its summary")
        elif query is not None:
            roles = intake.make_filters(roles=list(dreams.PLAIN_ROLES))
            chosen = sorted(hit.id for hit in recall(view, self._as_query(query), intake.check_count(k, "k"), roles))
        else:
            filters = intake.make_filters(intake.check_name(session, "session"), roles=list(dreams.PLAIN_ROLES))
            trace = view.engine.trace
            found = np.array([trace.event(index).id for index in select_alive(view, filters)], np.uint64)
            chosen = found[~trace.graph.archived_mask(found, view.lsn)].tolist()
        if not chosen:
            raise InvalidInputError("there is nothing to consolidate")
        return chosen

    def _summarise(self, memories: list[Memory], summarise: Summarise | None) -> str:
        summary = extract(memories, embed=self._embed) if summarise is None else summarise(memories)
        if not isinstance(summary, str) or not summary.strip():
            raise InvalidInputError(f"a summary is a text that says something, not {summary!r}")
        return summary

    @contextmanager
    def _joined_transaction(self) -> Iterator[None]:
        """This thread's transaction, or one of its own."""
        with self._write_lock:
            if self._transaction is not None:
                yield
            else:
                with self.transaction():
                    yield

    def _rewired(self, view: View, made: int, chosen: list[int]) -> list[tuple[int, int, str]]:
        """The edges that the summary takes over, as (src, dst, kind): those that would close a circle are left out."""
        inside = np.array([id_ for id_ in chosen if view.engine.trace.index_of(id_) >= 0], np.uint64)
        edges = traversal.both(view, np.sort(inside))
        members = set(chosen)
        names = view.engine.trace.names
        taken: dict[tuple[int, int, int], None] = {}
        for src, dst, kind in zip(edges.src.tolist(), edges.dst.tolist(), edges.kind.tolist(), strict=True):
            if kind in _STAYS or (src in members and dst in members):
                continue
            taken[made if src in members else src, made if dst in members else dst, kind] = None
        links: list[tuple[int, int, str]] = []
        outgoing: dict[int, dict[int, set[int]]] = {}
        for src, dst, kind in taken:
            same = outgoing.setdefault(kind, {})
            if kind not in ACYCLIC or not traversal.closes_circle(view, src, dst, kind, same):
                same.setdefault(src, set()).add(dst)
                links.append((src, dst, names.kind_name(kind)))
        return links

    def undo(self, summary: int) -> list[int]:
        """Undo a consolidation: its originals are back in recall, and it is out; return the ids of what is back.

        The summary is forgotten. If it replaced an older version under its key, to forget it would take that along: then
        the older version is remembered again under the key (with a new id, which is among those returned, and its edges) if
        the summary is still the current one, and the summary stays as a version in between.
        InvalidInputError if no memory is archived for it (they were forgotten, or restored). NotFoundError if it is gone.
        One commit; durability as in `remember`.
        """
        self._writer()
        id_ = intake.check_id(summary, "summary")
        with self._joined_transaction():
            view = self._settled()
            find(view, id_)
            edges = traversal.out_of(view, np.array([id_], np.uint64), frozenset({EdgeKind.SUMMARISES}))
            graph = view.engine.trace.graph
            back = {one for one in edges.dst.tolist() if graph.archived_by(one, view.lsn) == id_}
            if not back:
                raise InvalidInputError(
                    f"memory {id_} summarises nothing that is archived for it: there is nothing to undo"
                )
            self.restore(back)
            versions = versions_of(view, id_)
            at = versions.index(id_)
            if not at:
                self.forget(id_)
            elif versions[-1] == id_:
                older = versions[at - 1]
                again = self._remember_again(view, older)
                by = graph.archived_by(older, view.lsn)
                if by is None or older in back:
                    back = back - {older} | {again}
                else:  # it was out of recall before the summary was made
                    self.archive(again, by=by or None)
        return sorted(back)

    def _remember_again(self, view: View, id_: int) -> int:
        """Make a version of a key its current one again, as a new memory with the same content and edges; return its id."""
        index = find(view, id_)
        older, expires = Memory(view.engine, index, id_), view.engine.extra(index).expires
        above = -1 if older.parent is None else view.engine.trace.index_of(older.parent)
        parent = older.parent if above >= 0 and is_readable(view.engine.trace.death(above), view.lsn) else None
        [again] = self.remember_many(
            [older.text], [older.vector], session=older.session, role=older.role, namespace=older.namespace,
            keys=[older.key], metadata=[older.metadata or None], timestamps=[older.timestamp], parents=[parent],
            ttl=None if expires is None else (expires - older.timestamp) / 1e6,
        )  # fmt: skip
        for src, dst, kind in self._rewired(view, again, [id_]):
            self.link(src, dst, kind, acyclic=False)
        return again

    # -- repeats ------------------------------------------------------------------------------------------------

    def fold(self, duplicates: Iterable[Duplicates]) -> int:
        """Archive exact repeats: of each group the first memory stays, the others are archived for it and linked to it as
        `repeats`; return how many. Groups of near duplicates are refused: what differs is for you to judge.

        duplicates : from `store.trace.duplicates()`. One commit; `restore` undoes it.
        """
        self._writer()
        if isinstance(duplicates, (str, bytes)) or not isinstance(duplicates, Iterable):
            raise InvalidInputError(f"duplicates are what store.trace.duplicates() returns, not {duplicates!r}")
        groups = list(duplicates)
        count = 0
        with self._joined_transaction():
            view = self._settled()
            for group in groups:
                if not isinstance(group, Duplicates) or not group.exact:
                    raise InvalidInputError(f"only groups of exact duplicates are folded, not {group!r}")
                texts = {view.engine.text(find(view, id_)) for id_ in group.ids}
                if len(texts) > 1:
                    raise InvalidInputError(f"memories {group.ids} do not say the same")
                first, *rest = [id_ for id_ in group.ids if not self._is_archived(view, id_)] or [0]
                for id_ in rest:
                    self.link(id_, first, "repeats")
                if rest:
                    count += self.archive(rest, by=first)
        return count

    # -- dreaming -----------------------------------------------------------------------------------------------

    def dream(
        self,
        *,
        dry_run: bool = False,
        session: str | Sequence[str] | None = None,
        older_than: timedelta = timedelta(days=30),
        retention_below: float = 0.3,
        stability: timedelta = timedelta(days=7),
        redundancy: float = 0.0,
        gap: timedelta = timedelta(hours=6),
        size_min: int = 4,
        size_max: int = 64,
        fold: bool = False,
        summarise: Summarise | None = None,
        originals: Literal["archive", "forget"] = "archive",
        now: Any = None,
    ) -> DreamReport:
        """Consolidate what is old, cold and redundant, episode by episode; return what was done, or would be (`dry_run`).

        Parameters
        ----------
        session : only these. older_than, retention_below : a memory is cold if it is older, and its retention (see
            `TraceView.retention`, with `stability`) lower. Those with a key, concepts and summaries are left alone.
        redundancy : only episodes whose memories are on average so near (cosine) to their mean; 0 = all.
        gap, size_min, size_max : cold memories of a session that follow each other without a longer pause are an episode;
            shorter ones are left, longer ones cut.
        fold : archive exact repeats first. summarise, originals : as in `consolidate`.

        One commit for each episode: an error or a crash leaves those before it done and those after it as they were.
        """
        if not dry_run:
            self._writer()
        if originals not in ("archive", "forget"):
            raise InvalidInputError(f"originals is 'archive' or 'forget', not {originals!r}")
        for name, value in (("older_than", older_than), ("stability", stability), ("gap", gap)):
            if not isinstance(value, timedelta) or value < timedelta(0) or (name == "stability" and not value):
                raise InvalidInputError(f"{name} is a timedelta that is not negative, not {value!r}")
        for name, share in (("retention_below", retention_below), ("redundancy", redundancy)):
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
                raise InvalidInputError(f"{name} is a number from 0 to 1, not {share!r}")
        least, most = intake.check_count(size_min, "size_min"), intake.check_count(size_max, "size_max")
        if most < least:
            raise InvalidInputError(f"size_max {most} is less than size_min {least}")
        moment = intake.as_timestamp(now, "now")
        filters = intake.make_filters(session)
        repeats = dreams.exact_duplicates(self._view(), filters) if fold else []
        folded = {id_ for group in repeats for id_ in group.ids[1:]}
        if fold and not dry_run:
            self.fold(repeats)
        microsecond = timedelta(microseconds=1)
        episodes = dreams.cold_episodes(
            self._view(), filters, self._salience, now=moment, older_than=older_than // microsecond,
            retention_below=retention_below, stability=stability // microsecond, redundancy=redundancy,
            gap=gap // microsecond, size_min=least, size_max=most, without=folded,
        )  # fmt: skip
        done = []
        for episode in episodes:
            if dry_run:
                view = self._view()
                memories = [Memory(view.engine, find(view, id_), id_) for id_ in episode.ids]
                done.append(episode.told(self._summarise(memories, summarise), None))
                continue
            made = self.consolidate(episode.ids, summarise=summarise, originals=originals)
            done.append(episode.told(self._view().engine.text(find(self._view(), made)), made))
        return DreamReport(bool(dry_run), tuple(done), tuple(repeats))
