"""The SLB: a small cache per session in front of the Atlas that never tells less than the truth it claims.

What was asked in a session serves the same session again, in one of three ways; each hit says which (`Hit.answered`):

    exact        the same query with the same options: the answer is repeated. Without filters it is carried over to what
                 was committed since (later rows are scanned, dead ones dropped; archiving or restoring anything voids it);
                 with filters nothing may have been.
    certified    the query is near one whose working set is known: the set's rows are scored anew, and a bound proves that
                 no other row belongs to the answer. Ids, scores and order are those of `recall(..., exact=True)`.
    approximate  the same without the proof: only at a cosine of tau or more. In "auto" tau is where such answers,
                 measured against exact search, reach the recall target; in "approximate" it is fixed.

An entry serves the views of the engine it came from, from its own LSN on. So an insert, upsert or forget is seen at once,
and a checkpoint or compaction, which makes a new engine, voids what was known; no entry holds an engine.

Working sets are fetched ahead after a turn, on a thread of the SLB's own, and only in sessions whose queries are near one
another: a stream without inertia pays a dictionary, and now and then a cosine. Where hardly any query is answered from here,
"auto" dozes: it watches one session in 1,024, and four queries in a row out of 64, later out of 1,024.

One lock, held for some instructions at a time, guards what has to agree (evictions, bytes, the ring of `lookup`). Asking
takes none: answers and sets are immutable, and one step of the interpreter puts them in place.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon.engine import Engine, View, is_alive
from aeon.errors import ClosedError
from aeon.intake import check_name
from aeon.options import SlbMode
from aeon.probing import RECALL_TARGET
from aeon.recall import NO_FILTERS, Effort, Filters, as_hits, current_events, nearest, recall, search_batch
from aeon.results import Hit
from aeon.rows import as_vectors
from aeon.slb_ahead import Ahead
from aeon.slb_policy import LEAST, Drift, Policy
from aeon.working_sets import WorkingSet, unit
from aeon_native import dispatch

logger = logging.getLogger("aeon.slb")

RING, RING_SHARED = 64, 256  # answers of a session, and of all together if they share
AHEAD_FROM_ROWS = 2048  # below, the Atlas scans all rows in the time a working set takes
APPROXIMATE_TAU = 0.95
_KEY_BYTES = 128  # of a query, by which its answer is found: to hash all of one takes half a microsecond
_K_MAX = 64  # answers of more rows are the Atlas's
_INERTIA = 0.85  # cosine of two turns from which on the next one is expected near by
_STEADY = 2  # so many near turns in a row
_COMPLETE_ROWS_MAX = (
    1 << 18
)  # up to here a set is made by an exact scan (3 ms) and can prove; "certified" always asks for it
_AUDIT_EVERY = 4  # an audit that needs an exact search of its own is done for one turn in so many
_CONTEXT_TURNS, _CONTEXT_DECAY = 16, 7 / 8  # weight of the last 8 turns: two thirds
# "auto" dozes where fewer than one query in six is answered from here: to watch one costs a sixth of what an answer saves.
# Queries that are watched at first, for each answer from here, at most.
_CREDIT_FIRST, _CREDIT, _CREDIT_MAX = 16, 6, 512
_BURST = 4  # dozing, it watches so many queries in a row
_NAP, _NAP_MAX = 60, 4080  # and lets so many pass; eight times as many each time that it saw no turn near another
_BURST_SHARE = 1 / 128  # of the nap before: the first query of a burst takes 30 us more, since its code is in no cache
WATCHED = 8191  # but it watches all queries of one session in 8,192: those whose hash has none of these bits
_TIDY_EVERY, _SCORE_EVERY = 128, 8  # queries
_SCORES = 8  # dozing, drift is looked at when so many were seen: that takes as long as two searches
_ROOM = 64  # a ring is cut to its size when it is so much longer
_PAID_FIRST = 8  # answers that a session's memory is counted with from the start; twice as many when they are exceeded
_BYTES_ANSWER, _BYTES_SESSION = 1500, 2000


class Answer(NamedTuple):
    """What was found for one query, float32[dim] as bytes: ids uint64[1, n], scores float32[1, n], best first.

    listed : both as the lists that hits are made of.
    """

    query: bytes
    serial: int
    lsn: int
    rows: int
    k: int
    effort: Effort
    filters: Filters
    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]
    listed: tuple[list[int], list[float]]
    owner: str


class Nearest(NamedTuple):
    """What `Slb.lookup` found: the cosine of the cached query, and what had answered it (uint64[n], float32[n])."""

    cosine: float
    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]


_new_tuple = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class _Session:
    """A ring of answers, found by the first bytes of their query, and the working set of the last turn."""

    __slots__ = (
        "answers", "bytes", "dropped", "folded", "last", "name", "near", "paid", "queued", "ring", "shown", "size", "slots",
        "steady", "unshown", "wanted",
    )  # fmt: skip

    def __init__(self, name: str, size: int, bytes_: int) -> None:
        self.name = name
        self.size = size
        self.answers: dict[bytes, Answer] = {}  # oldest first
        self.ring: NDArray[np.float32] | None = None  # made by the first lookup
        self.slots: list[Answer | None] = []
        self.folded = 0  # answers that went into the ring so far
        self.shown: Answer | None = None  # the newest of them
        self.unshown = False  # whether there are newer ones
        self.near: WorkingSet | None = None
        self.last: bytes | None = None
        self.steady = 0
        self.wanted: tuple[NDArray[np.float32], NDArray[np.float32], SlbMode] | None = None
        self.queued = self.dropped = False
        self.paid, self.bytes = _PAID_FIRST, bytes_


class Slb:
    """The cache of one store. `Store.recall` asks it; `Store.slb` is there for the paper's own lookup and for figures.

    Parameters
    ----------
    view : bound method that returns the store's newest view; its owner is not kept alive. dim : length of the vectors.
    bytes_max : memory of all sessions. shared : one ring of answers for all sessions, besides their own.
    """

    def __init__(self, view: Callable[[], View], dim: int, *, bytes_max: int, shared: bool) -> None:
        self._view = weakref.WeakMethod(view)
        self._dim = dim
        self._bytes_max = bytes_max
        self._answer_bytes = 4 * dim + _BYTES_ANSWER
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # least recently used first
        self._latest: _Session | None = None  # the one asked last: it stands at the end
        self._shared = _Session("", RING_SHARED, 0) if shared else None
        self._bytes = self._evicted = self._fetched = 0
        self._asked = self._exact = self._certified = self._approximate = 0
        self._credit = _CREDIT_FIRST  # queries until "auto" dozes
        self.naps = 0  # queries in "auto" that are to pass it by; who lets one pass counts it down
        self._nap, self._burst = _NAP, _BURST  # the next ones, and how many are watched then
        self._promising = False  # a turn of this burst was near the one before it
        self._watched = self._passed = 0  # of this burst; passed, with those that are to
        self._noted = (0, 0)  # (asked, hits) that drift knows of
        self._scores: deque[float] = deque(maxlen=_TIDY_EVERY)  # of best rows, that it does not know yet
        self._policy, self._drift = Policy(), Drift()
        myself = weakref.ref(self)

        def fetch(session: _Session) -> None:
            slb = myself()
            if slb is not None:
                slb._fetch(session)

        self._ahead = Ahead(fetch)

    # -- recall -------------------------------------------------------------------------------------------------

    def recall(
        self, view: View, query: NDArray[np.float32], k: int, filters: Filters, effort: Effort, mode: SlbMode, name: str,
        ahead: NDArray[np.float32] | None = None,
    ) -> list[Hit]:  # fmt: skip
        """`recall.recall` for a query asked in the session `name`; what it finds serves that session again.

        ahead : where the next query is expected, float32[dim]; None = near this one if the last ones were near.
        """
        asked = self._asked = self._asked + 1
        session = self._sessions.get(name)
        if session is None:
            session = self._open(name)
        elif session is not self._latest:
            try:  # noqa: SIM105 - `suppress` would take longer than all of this
                self._sessions.move_to_end(name)
            except KeyError:  # evicted meanwhile
                pass
            self._latest = session
        engine = view.engine
        whole = query.tobytes()
        key = whole[:_KEY_BYTES]
        answer = session.answers.get(key)
        if answer is None and self._shared is not None:
            answer = self._shared.answers.get(key)
        if answer is not None and answer.k == k and answer.serial == engine.serial and answer.query == whole:
            if answer.lsn == view.lsn and answer.effort is effort and answer.filters is filters:
                hits: list[Hit] | None = as_hits(engine, *answer.listed, "exact")
            else:
                hits = self._repeat(session, key, answer, view, query, filters, effort)
            if hits is not None:
                self._exact += 1
                if self._credit < _CREDIT_MAX:
                    self._wake(_CREDIT)
                return hits
        tidy, dozing = not asked % _TIDY_EVERY, self._credit <= 0 and mode == "auto"
        if self._credit > 0:
            self._credit -= 1
        elif dozing:
            self._watched += 1
            if self._watched >= self._burst:
                self._watched, tidy = 0, len(self._scores) >= _SCORES
                self._passed += self._nap - self.naps
                self._burst = max(_BURST, int(self._nap * _BURST_SHARE))
                self.naps, self._nap = self._nap, _NAP if self._promising else min(8 * self._nap, _NAP_MAX)
                self._promising = False
        plain = filters is NO_FILTERS
        near = session.near
        if near is not None and plain and k <= _K_MAX:
            hits = self._from(near, session, whole, view, query, k, effort, mode)
            if hits is not None:
                if self._credit < _CREDIT_MAX:
                    self._wake(_CREDIT)
                session.last = whole
                self._expect(session, whole, ahead, mode)
                if tidy:
                    self._tidy(session)
                return hits
        if plain and not engine.trace.graph.archives:
            ids, scores = nearest(view, query, k, effort)
            listed = ids.tolist()[0], scores.tolist()[0]
            hits = as_hits(engine, *listed)
        else:
            hits = recall(view, query, k, filters, effort)
            listed = [hit.id for hit in hits], [hit.score for hit in hits]
            ids, scores = np.array([listed[0]], np.uint64), np.array([listed[1]], np.float32)
        self._put(session, key, whole, view, k, effort, filters, ids, scores, listed)
        if tidy or self._credit <= 0 or not asked % _SCORE_EVERY:
            if hits:
                self._scores.append(hits[0].score)
            if tidy:
                self._tidy(session)
        if plain and view.rows >= AHEAD_FROM_ROWS:
            last = session.last
            session.last = whole
            if ahead is not None:
                self._expect(session, whole, ahead, mode)
            elif last is not None and (session.steady or (self._watched if dozing else asked) & 3 == 2):
                if dispatch.kernels.likeness(np.frombuffer(last, np.float32), query) < _INERTIA:
                    session.steady = 0
                else:
                    session.steady += 1
                    self._promising = True
                    if self._credit < _CREDIT and not self._policy.is_measured:
                        self._credit = _CREDIT  # what such turns could be given is yet to be learned
                    if session.steady >= _STEADY:
                        self._expect(session, whole, None, mode)
        return hits

    def _wake(self, credit: int) -> None:
        """It answered: watch so many queries more."""
        self._credit += credit
        self._passed -= self.naps
        self.naps, self._nap, self._burst = 0, _NAP, _BURST

    @property
    def _asked_for(self) -> int:
        """How many queries there were, those it dozed through included."""
        return self._asked + self._passed - self.naps

    def _repeat(
        self, session: _Session, key: bytes, answer: Answer, view: View, query: NDArray[np.float32], filters: Filters,
        effort: Effort,
    ) -> list[Hit] | None:  # fmt: skip
        """The answer again, carried over to `view`; None if it cannot be."""
        if answer.effort is not effort and answer.effort != effort:
            return None
        if answer.filters is not filters and answer.filters != filters:
            return None
        engine = view.engine
        if answer.lsn != view.lsn:
            k, ids, scores = answer.k, answer.ids[0], answer.scores[0]
            later = view.rows - answer.rows
            if not engine.trace.graph.archives_changed <= answer.lsn <= view.lsn or filters is not NO_FILTERS:
                return None
            if later > RING or len(ids) < k or not ids.item(-1):
                return None
            trace = engine.trace
            if not all(is_alive(trace, trace.index_of(id_), view.lsn) for id_ in ids.tolist()):
                return None
            if later:
                added, values = engine.atlas.search_ids(
                    query[None], k, rows=view.rows, lsn=view.lsn, among=np.arange(answer.rows, view.rows), exact=True
                )
                ids, scores = np.concatenate([ids, added[0]]), np.concatenate([scores, values[0]])
                # Equal scores in the order of remembering, which is that of the ids; what was not found scores -inf.
                order = np.lexsort((ids, -scores))[:k]
                ids, scores = ids[order], scores[order]
            carried = answer._replace(
                lsn=view.lsn, rows=view.rows, ids=ids[None], scores=scores[None], listed=(ids.tolist(), scores.tolist())
            )
            for ring in (session, self._shared):
                if ring is not None and ring.answers.get(key) is answer:
                    ring.answers[key] = carried
            answer = carried
        return as_hits(engine, *answer.listed, "exact")

    def _from(
        self, near: WorkingSet, session: _Session, whole: bytes, view: View, query: NDArray[np.float32], k: int, effort: Effort,
        mode: SlbMode,
    ) -> list[Hit] | None:  # fmt: skip
        """An answer from the working set, if it may be given."""
        if not near.serves(view):
            return None
        policy = self._policy
        tau = 2.0
        if mode != "certified" and not effort.exact:
            tau = policy.tau(effort.recall_target or RECALL_TARGET) if mode == "auto" else APPROXIMATE_TAU
        ids, scores, cosine, proven = near.answer(view, query, k, tau, prove=False)
        if cosine < tau:
            if cosine < LEAST:  # the conversation moved on
                session.near = None
                session.steady = 0
                return None
            # A proof scores up to a thousand rows: more than an ordinary search costs, much less than an exact one.
            if not near.complete or not (effort.exact or mode == "certified") or not policy.worth_proving(cosine):
                return None
            ids, scores, _, proven = near.answer(view, query, k, -1.0, prove=True)
            policy.note_proof(cosine, proven)
            if not proven:
                return None
        listed = ids.tolist(), scores.tolist()
        if proven:
            self._certified += 1
            self._put(session, whole[:_KEY_BYTES], whole, view, k, effort, NO_FILTERS, ids[None], scores[None], listed)
            return as_hits(view.engine, *listed, "certified")
        if len(ids) < k:
            return None
        self._approximate += 1
        return as_hits(view.engine, *listed, "approximate")

    def _put(
        self, session: _Session, key: bytes, whole: bytes, view: View, k: int, effort: Effort, filters: Filters,
        ids: NDArray[np.uint64], scores: NDArray[np.float32], listed: tuple[list[int], list[float]],
    ) -> None:  # fmt: skip
        """Keep an answer for a repetition of its query: one of the Atlas, or one that is proven."""
        answers = session.answers
        if key in answers:
            answers.pop(key, None)  # to its new place at the end
        answer = _new_tuple(
            Answer,
            (whole, view.engine.serial, view.lsn, view.rows, k, effort, filters, ids, scores, listed, session.name),
        )
        answers[key] = answer
        session.unshown = True
        if len(answers) > session.paid:
            self._pay(session)
        shared = self._shared
        if shared is not None:
            with self._lock:
                shared.answers.pop(key, None)
                shared.answers[key] = answer
                shared.unshown = True
                while len(shared.answers) > RING_SHARED:
                    del shared.answers[next(iter(shared.answers))]

    def _pay(self, session: _Session) -> None:
        """Count more memory for a session's answers, or cut its ring to its size."""
        with self._lock:
            if session.paid < RING + _ROOM:
                session.paid *= 2
                self._weigh(session)
                return
            answers = session.answers
            for key in list(answers)[: max(0, len(answers) - RING)]:
                answers.pop(key, None)

    def _tidy(self, session: _Session) -> None:
        """Count a session's memory anew, and see whether the conversation drifts."""
        with self._lock:
            self._weigh(session)
            self._note_drift()
            warning = self._drift.warning()
        if warning:
            logger.warning(warning)

    def _note_drift(self) -> None:
        """Let drift know of the queries since the last time; the caller holds the lock."""
        hits = self._exact + self._certified + self._approximate
        asked, before = self._asked_for, self._noted
        if asked > before[0]:
            self._drift.note(max(0, hits - before[1]), asked - before[0])
            self._noted = (asked, hits)
        while self._scores:
            self._drift.note_best(self._scores.popleft())

    def _weigh(self, session: _Session) -> None:
        """Count a session's memory anew, and keep the budget; the caller holds the lock."""
        bytes_ = _BYTES_SESSION + session.paid * self._answer_bytes
        if session.near is not None:
            bytes_ += session.near.bytes
        if session.ring is not None:
            bytes_ += session.ring.nbytes
        if not session.dropped:
            self._bytes += bytes_ - session.bytes
        session.bytes = bytes_
        if self._bytes > self._bytes_max:
            self._evict(session)

    def _evict(self, session: _Session) -> None:
        """Let go of the sessions asked longest ago, but for this one, until the budget is kept; the caller holds the lock."""
        sessions = self._sessions
        while self._bytes > self._bytes_max and len(sessions) > 1:
            name = next(iter(sessions))
            if sessions[name] is session:
                sessions.move_to_end(name)
                continue
            self._forget_session(name)
            self._evicted += 1

    def _open(self, name: str) -> _Session:
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                check_name(name, "asked_in")
                session = _Session(name, RING, _BYTES_SESSION + _PAID_FIRST * self._answer_bytes)
                self._sessions[name] = session
                self._bytes += session.bytes
                if self._bytes > self._bytes_max:
                    self._evict(session)
            return session

    def _forget_session(self, name: str) -> bool:
        session = self._sessions.pop(name, None)
        if session is None:
            return False
        session.dropped = True
        self._latest = None
        session.near = session.wanted = None
        self._bytes -= session.bytes
        return True

    # -- the conversation's context -----------------------------------------------------------------------------

    def context(
        self, view: View, name: str, query: NDArray[np.float32], share: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """(The query with `share` of the session's context blended in, where the next one is expected: float32[dim]).

        The context is a decayed mean of the vectors of the session's last current memories, read from the Trace: so it
        is the same after reopening, and what was forgotten has left it.
        """
        if not share:
            return query, None
        turns = _turns(view, name)
        own = unit(query)[: self._dim]
        if not len(turns):
            return query, query
        weights = (_CONTEXT_DECAY ** np.arange(len(turns))).astype(np.float32)
        mean = weights @ turns
        length = float(np.linalg.norm(mean))
        if not length > 0:
            return query, query
        blended = (1 - share) * own + (share / length) * mean
        if not np.linalg.norm(blended) > 1e-6:  # they cancel out: the query alone has a direction
            return query, query
        if float(turns[0] @ own) < 0.99:  # the query is a turn that was not remembered yet: the next context has it
            mean = np.float32(_CONTEXT_DECAY) * mean + own
        return blended, mean

    # -- fetching ahead -----------------------------------------------------------------------------------------

    def _expect(self, session: _Session, whole: bytes, ahead: NDArray[np.float32] | None, mode: SlbMode) -> None:
        """Ask for the working set of the likely next query."""
        own = np.frombuffer(whole, np.float32)
        session.wanted = (own, own if ahead is None else ahead, mode)
        if not session.queued:
            session.queued = True
            if not self._ahead.ask(session):
                session.queued = False

    def _fetch(self, session: _Session) -> None:
        """Make the working set a session waits for; on the thread that fetches ahead."""
        session.queued = False
        wanted, session.wanted = session.wanted, None
        get_view = self._view()
        if wanted is None or session.dropped or get_view is None:
            return
        own, center, mode = wanted
        try:
            view = get_view()
        except ClosedError:
            return
        complete = mode == "certified" or view.rows <= _COMPLETE_ROWS_MAX
        made = WorkingSet(view, center, complete=complete)
        self._fetched += 1
        before = session.near
        if mode == "auto" and before is not None and before.serves(view):
            self._audit(before, view, own, made if center is own and complete else None)
        with self._lock:
            if not session.dropped:
                session.near = made
                self._weigh(session)

    def _audit(self, near: WorkingSet, view: View, query: NDArray[np.float32], truth: WorkingSet | None) -> None:
        """Measure what a working set would have answered to a query, or did, against exact search."""
        k = 10
        if truth is not None:
            best = truth.scores[:k]
        elif self._fetched % _AUDIT_EVERY:
            return
        else:
            [best] = search_batch(view, query[None], k, NO_FILTERS, Effort(exact=True))[1]
        _, scores, cosine, _ = near.answer(view, query, k, LEAST, prove=False)
        if len(best) == k and cosine >= LEAST:
            self._policy.note_recall(cosine, float(np.count_nonzero(scores >= best[-1])) / k)

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being fetched ahead, at most `timeout` seconds; whether that is so. For benchmarks."""
        return self._ahead.settle(timeout)

    def stop(self) -> None:
        """Fetch nothing ahead any more."""
        self._ahead.stop()

    # -- the paper's own lookup, and figures --------------------------------------------------------------------

    def lookup(self, session: str, vector: Any, threshold: float = 0.85) -> Nearest | None:
        """Return the cached query nearest to `vector` in a session, with its answer, if its cosine reaches `threshold`.

        The primitive of the paper: an answer to another query, not rescored and not proven; at a cosine of 0.85 most of it
        is wrong for this one. Ids that were forgotten, replaced or archived since are left out. None if nothing is near enough.
        Raises DimensionError, InvalidInputError. Cost: a few microseconds (a scan of 64 float32 vectors).
        """
        if type(vector) is not np.ndarray or vector.dtype != np.float32 or vector.shape != (self._dim,):
            vector = as_vectors(vector, self._dim)[0]
        state = self._sessions.get(session)
        found = self._look(state, vector, threshold) if state is not None else None
        if found is None and self._shared is not None:
            found = self._look(self._shared, vector, threshold)
        return found

    def _look(self, state: _Session, vector: NDArray[np.float32], threshold: float) -> Nearest | None:
        ring = state.ring
        if ring is None or state.unshown:
            ring = self._fold(state)
        kernels = dispatch.kernels
        slot, cosine = kernels.nearest(ring, vector, min(state.folded, state.size))
        if slot < 0 or cosine < threshold:
            return None
        shown = state.slots[slot]
        answer = state.answers.get(shown.query[:_KEY_BYTES]) if shown is not None else None
        if answer is None:
            return None
        cosine = kernels.likeness(np.frombuffer(answer.query, np.float32), vector)  # the slot may have another by now
        get_view = self._view()
        view = get_view() if get_view is not None else None
        if cosine < threshold or view is None or view.engine.serial != answer.serial or answer.lsn > view.lsn:
            return None
        ids, scores = answer.ids[0], answer.scores[0]
        if view.lsn != answer.lsn or (len(ids) and not ids.item(-1)):
            there = _alive(view.engine, ids, view.lsn) & ~view.engine.trace.graph.archived_mask(ids, view.lsn)
            ids, scores = ids[there], scores[there]
        return Nearest(cosine, ids, scores)

    def _fold(self, state: _Session) -> NDArray[np.float32]:
        """Show the queries since the last lookup in the ring: those behind the newest that it shows."""
        with self._lock:
            if state.ring is None:
                state.ring = np.zeros((state.size, -(-self._dim // 16) * 16), np.float32)
                state.slots = [None] * state.size
                if state is not self._shared:
                    self._weigh(state)
            state.unshown = False  # before it is looked: what comes meanwhile says so again
            answers = list(state.answers.values())[-state.size :]  # oldest first; one step of the interpreter
            known = [n for n, answer in enumerate(answers) if answer is state.shown]
            for answer in answers[known[0] + 1 if known else 0 :]:
                slot = state.folded % state.size
                state.ring[slot] = unit(np.frombuffer(answer.query, np.float32))[: state.ring.shape[1]]
                state.slots[slot] = state.shown = answer
                state.folded += 1
            return state.ring

    def drop_session(self, session: str) -> bool:
        """Let go of all that was cached for a session, also of what it shared; whether there was anything."""
        with self._lock:
            shared = self._shared
            if shared is not None:
                for key in [key for key, answer in shared.answers.items() if answer.owner == session]:
                    del shared.answers[key]
                shared.ring = shared.shown = None  # made anew without them
                shared.folded = 0
            return self._forget_session(session)

    def clear(self) -> None:
        """Let go of everything."""
        for name in list(self._sessions):
            self.drop_session(name)
        self._credit = 0
        self._wake(_CREDIT_FIRST)

    def stats(self) -> dict[str, Any]:
        """Return figures.

        atlas, exact, certified, approximate : queries answered so. hit_rate : share of the last three. sessions, answers,
        working_sets, bytes, bytes_max, evicted_sessions, fetched_ahead, fetch_error : what is held and what was done.
        tau : cosine from which on "auto" answers; recall_measured : recall@10 of such answers against exact search (NaN
        before any was measured); audits : how many were. drift : rolling hit_rate and usual_hit_rate, best and usual_best
        (mean cosine of the best row found), shift = usual_best - best.
        """
        with self._lock:
            self._note_drift()
            sessions, drift = list(self._sessions.values()), self._drift
        hits = self._exact + self._certified + self._approximate
        tau, asked = self._policy.tau(RECALL_TARGET), self._asked_for
        return {
            "atlas": asked - hits,
            "exact": self._exact,
            "certified": self._certified,
            "approximate": self._approximate,
            "hit_rate": hits / asked if asked else 0.0,
            "sessions": len(sessions),
            "answers": sum(len(session.answers) for session in sessions),
            "working_sets": sum(session.near is not None for session in sessions),
            "bytes": self._bytes,
            "bytes_max": self._bytes_max,
            "evicted_sessions": self._evicted,
            "fetched_ahead": self._fetched,
            "fetch_error": self._ahead.error,
            "tau": tau,
            "recall_measured": self._policy.measured(tau) if tau <= 1 else math.nan,
            "audits": self._policy.audits,
            "drift": {
                "hit_rate": drift.hit_rate,
                "usual_hit_rate": drift.usual_hit_rate,
                "best": drift.best,
                "usual_best": drift.usual_best,
                "shift": drift.shift,
            },
        }


def _alive(engine: Engine, ids: NDArray[np.uint64], lsn: int) -> NDArray[np.bool_]:
    trace = engine.trace
    return np.array([id_ != 0 and is_alive(trace, trace.index_of(id_), lsn) for id_ in ids.tolist()], bool)


def _turns(view: View, name: str) -> NDArray[np.float32]:
    """Vectors of a session's last current memories, newest first: float32[n, dim]."""
    trace, atlas = view.engine.trace, view.engine.atlas
    number = trace.names.session_numbers.get(name)
    if number is None:
        return np.empty((0, atlas.dim), np.float32)
    rows: list[int] = []
    for indexes in current_events(view, number):
        found = trace.take(indexes, "row").astype(np.int64) - 1
        rows += found[found >= 0][::-1].tolist()
        if len(rows) >= _CONTEXT_TURNS:
            break
    vectors, _ = atlas.unit_rows(np.array(rows[:_CONTEXT_TURNS], np.int64))
    return vectors[:, : atlas.dim]
