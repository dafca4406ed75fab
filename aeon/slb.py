"""The SLB: a small cache per session in front of the Atlas that never tells less than the truth it claims.

What was asked in a session serves the same session again, in one of three ways; each hit says which (`Hit.answered`):

    exact        the same query with the same options: the answer is repeated. Without filters it is carried over to what
                 was committed since (later rows are scanned, dead ones dropped); with filters nothing may have been.
    certified    the query is near one whose working set is known: the set's rows are scored anew, and a bound proves that
                 no other row belongs to the answer. Ids, scores and order are those of `recall(..., exact=True)`.
    approximate  the same without the proof: only at a cosine of tau or more. In "auto" tau is where such answers,
                 measured against exact search, reach the recall target; in "approximate" it is fixed.

An entry serves the views of the engine it came from, from its own LSN on. So an insert, upsert or forget is seen at once,
and a checkpoint or compaction, which makes a new engine, voids what was known; no entry holds an engine.

Working sets are fetched ahead after a turn, on a thread of the SLB's own, and only in sessions whose queries are near one
another: a stream without inertia pays a dictionary and one cosine.

Locks: `_lock` guards the tables of sessions and answers, for some instructions at a time, and nothing is called while it
is held. Reading takes none: entries are immutable and published by one assignment.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeon.atlas import as_vectors
from aeon.background import Background, Stopping
from aeon.engine import View, is_alive
from aeon.errors import ClosedError
from aeon.options import SlbMode
from aeon.probing import RECALL_TARGET
from aeon.recall import NO_FILTERS, Effort, Filters, as_hits, current_events, recall
from aeon.results import Answered, Hit
from aeon.slb_policy import Drift, Policy
from aeon.working_sets import WorkingSet, unit
from aeon_native import dispatch

logger = logging.getLogger("aeon.slb")

RING, RING_SHARED = 64, 256  # answers of a session, and of all if they share (paper, section 4.3)
AHEAD_FROM_ROWS = 2048  # below, the Atlas scans all rows in the time a working set takes
APPROXIMATE_TAU = 0.95
_SETS = 4  # working sets of a session: those of its last turns
_K_MAX = 64  # answers of more rows are the Atlas's
_INERTIA = 0.8  # cosine of two turns from which on the next one is expected near by
_COMPLETE_ROWS_MAX = (
    1 << 18
)  # up to here a set is made by an exact scan (3 ms) and can prove; "certified" always asks for it
_QUEUE_MAX = 256
_IDLE_S = 2.0
_AUDIT_EVERY = 4  # sets that are not complete, or lie where nobody asked, tell nothing of recall by themselves
_CONTEXT_TURNS, _CONTEXT_DECAY = 16, 7 / 8  # weight of the last 8 turns: two thirds
_BYTES_ANSWER, _BYTES_SESSION = 600, 2000


class Answer(NamedTuple):
    """What was found for one query. `events` are (index, id, score), known once it was repeated."""

    serial: int
    lsn: int
    rows: int
    k: int
    effort: Effort
    filters: Filters
    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]
    slot: int
    owner: str
    events: tuple[tuple[int, int, float], ...] | None = None


class Nearest(NamedTuple):
    """What `Slb.lookup` found: the cosine of the cached query, and what had answered it (uint64[n], float32[n])."""

    cosine: float
    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]


class _Sets(NamedTuple):
    centers: NDArray[np.float32]  # [n, stride]
    sets: tuple[WorkingSet, ...]


_NO_SETS = _Sets(np.empty((0, 16), np.float32), ())


class _Session:
    """A ring of answers, found by the bytes of their query, and the working sets of the last turns."""

    __slots__ = (
        "answers", "bytes", "dropped", "folded", "keys", "last", "name", "queued", "ring", "sets", "used", "wanted",
    )  # fmt: skip

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.answers: dict[bytes, Answer] = {}
        self.keys: list[bytes | None] = [None] * size  # by slot
        self.used = 0  # slots given out so far; the next one is used % size
        self.ring: NDArray[np.float32] | None = None  # made by the first lookup
        self.folded = 0  # slots given out that the ring shows
        self.sets = _NO_SETS
        self.last: NDArray[np.float32] | None = None
        self.wanted: tuple[NDArray[np.float32], NDArray[np.float32], SlbMode] | None = None
        self.queued = self.dropped = False
        self.bytes = _BYTES_SESSION


class Slb:
    """The cache of one store. `Store.recall` asks it; `Store.slb` is there for the paper's own lookup and for figures.

    Parameters
    ----------
    view : the store's newest view; not kept alive. dim : length of the vectors.
    bytes_max : memory of all sessions. shared : one ring of answers for all sessions, besides their own.
    """

    def __init__(self, view: Callable[[], View], dim: int, *, bytes_max: int, shared: bool) -> None:
        self._view = weakref.WeakMethod(view) if hasattr(view, "__self__") else lambda: view
        self._dim = dim
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # least recently used first
        self._shared = _Session("", RING_SHARED) if shared else None
        self._bytes = 0
        self._counts = {"atlas": 0, "exact": 0, "certified": 0, "approximate": 0}
        self._evicted = self._fetched = 0
        self._policy, self._drift = Policy(), Drift()
        self._ahead = _Ahead()
        self._answer_bytes = 4 * dim + _BYTES_ANSWER

    # -- recall -------------------------------------------------------------------------------------------------

    def recall(
        self, view: View, query: NDArray[np.float32], k: int, filters: Filters, effort: Effort, mode: SlbMode, name: str,
        ahead: NDArray[np.float32] | None = None,
    ) -> list[Hit]:  # fmt: skip
        """`recall.recall` for a query asked in the session `name`; what it finds serves that session again.

        ahead : where the next query is expected, float32[dim]; None = near this one if the last two were near.
        """
        session = self._sessions.get(name) or self._open(name)
        key = query.tobytes()
        answer = session.answers.get(key)
        if answer is None and self._shared is not None:
            answer = self._shared.answers.get(key)
        if answer is not None and answer.k == k and answer.serial == view.engine.serial:
            hits = self._repeat(session, key, answer, view, query, k, filters, effort)
            if hits is not None:
                self._note(name, "exact")
                return hits
        usable = filters is NO_FILTERS and k <= _K_MAX
        if usable and session.sets.sets:
            hits = self._near(session, view, query, k, effort, mode)
            if hits is not None:
                self._note(name, hits[0].answered if hits else "certified")
                self._expect(session, view, query, key, mode, ahead)
                return hits
        if filters is NO_FILTERS:
            ids, scores = view.engine.atlas.search_ids(
                query[None], min(k, view.rows), rows=view.rows, lsn=view.lsn, exact=effort.exact,
                recall_target=effort.recall_target,
            )  # fmt: skip
            found, best = ids[0], scores[0]
            if len(found) and not found.item(-1):  # fewer than k are there
                found, best = found[found != 0], best[found != 0]
            hits = as_hits(view.engine, found, best)
        else:
            hits = recall(view, query, k, filters, effort)
            if filters.where is not None:  # compared by identity: a repetition would not be recognised
                self._note(name, "atlas")
                return hits
            found = np.array([hit.id for hit in hits], np.uint64)
            best = np.array([hit.score for hit in hits], np.float32)
        self._keep(session, key, view, k, effort, filters, found, best)
        if usable:
            self._expect(session, view, query, key, mode, ahead)
        return hits

    def _repeat(
        self, session: _Session, key: bytes, answer: Answer, view: View, query: NDArray[np.float32], k: int, filters: Filters,
        effort: Effort,
    ) -> list[Hit] | None:  # fmt: skip
        """The answer again, carried over to `view`; None if it cannot be."""
        if (answer.effort is not effort and answer.effort != effort) or (
            answer.filters is not filters and answer.filters != filters
        ):
            return None
        engine = view.engine
        events = answer.events
        if events is None:
            hits = as_hits(engine, answer.ids, answer.scores)
            events = tuple((hit._index, hit.id, hit.score) for hit in hits)
            if answer.lsn == view.lsn:
                self._replace(session, key, answer, answer._replace(events=events))
        if answer.lsn != view.lsn:
            if filters is not NO_FILTERS or answer.lsn > view.lsn or len(events) < k:
                return None
            death = engine.trace.death
            if not all(is_alive(death(index), view.lsn) for index, _, _ in events):
                return None
            if view.rows > answer.rows:
                later = np.arange(answer.rows, view.rows)
                if len(later) > RING:
                    return None
                ids, scores = engine.atlas.search_ids(
                    query[None], k, rows=view.rows, lsn=view.lsn, among=later, exact=True
                )
                fresh = [(hit._index, hit.id, hit.score) for hit in as_hits(engine, ids[0], scores[0])]
                # Equal scores in the order of remembering, which is that of the ids.
                events = tuple(sorted((*events, *fresh), key=lambda event: (-event[2], event[1]))[:k])
            carried = answer._replace(
                lsn=view.lsn, rows=view.rows, events=events, ids=np.array([e[1] for e in events], np.uint64),
                scores=np.array([e[2] for e in events], np.float32),
            )  # fmt: skip
            self._replace(session, key, answer, carried)
        return [_hit(engine, index, id_, score, "exact") for index, id_, score in events]

    def _near(
        self, session: _Session, view: View, query: NDArray[np.float32], k: int, effort: Effort, mode: SlbMode
    ) -> list[Hit] | None:
        """An answer from the nearest working set, if it may be given."""
        centers, sets = session.sets
        slot, cosine = dispatch.kernels.nearest(centers, query, len(sets))
        if slot < 0:
            return None
        near = sets[slot]
        if not near.serves(view):
            return None
        enough = mode != "certified" and not effort.exact and cosine >= self._tau(mode, effort)
        if not enough and not (near.complete and self._policy.worth_proving(cosine)):
            return None
        ids, scores, _, proven = near.answer(view, query, k, prove=not enough)
        if not enough:
            self._policy.note_proof(cosine, proven)
        if not proven and (not enough or len(ids) < k):
            return None
        engine = view.engine
        how: Answered = "certified" if proven else "approximate"
        index_of = engine.trace.index_of
        return [
            _hit(engine, index_of(id_), id_, score, how)
            for id_, score in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def _tau(self, mode: SlbMode, effort: Effort) -> float:
        if mode == "approximate":
            return APPROXIMATE_TAU
        return self._policy.tau(effort.recall_target or RECALL_TARGET)

    def _keep(
        self, session: _Session, key: bytes, view: View, k: int, effort: Effort, filters: Filters, ids: NDArray[np.uint64],
        scores: NDArray[np.float32],
    ) -> None:  # fmt: skip
        """Put an answer of the Atlas into the ring, and let go of what is over the budget."""
        with self._lock:
            self._counts["atlas"] += 1
            for ring in (session,) if self._shared is None else (session, self._shared):
                slot = ring.used % len(ring.keys)
                ring.used += 1
                old = ring.keys[slot]
                if old is None:
                    ring.bytes += self._answer_bytes
                    if not ring.dropped:
                        self._bytes += self._answer_bytes
                elif (there := ring.answers.get(old)) is not None and there.slot == slot:
                    del ring.answers[old]
                ring.keys[slot] = key
                ring.answers[key] = Answer(
                    view.engine.serial, view.lsn, view.rows, k, effort, filters, ids, scores, slot, session.name
                )
            if not session.dropped:
                self._sessions.move_to_end(session.name)
            if self._bytes > self._bytes_max:
                self._trim(session)
            drift = self._drift
            drift.note(False)
            if len(scores) and not self._counts["atlas"] & 3:
                drift.note_best(scores.item(0))
                warning = drift.warning()
            else:
                warning = ""
        if warning:
            logger.warning(warning)

    def _replace(self, session: _Session, key: bytes, old: Answer, new: Answer) -> None:
        with self._lock:
            for ring in (session,) if self._shared is None else (session, self._shared):
                if ring.answers.get(key) is old:
                    ring.answers[key] = new

    def _note(self, name: str, kind: str) -> None:
        with self._lock:
            self._counts[kind] += 1
            self._drift.note(kind != "atlas")
            if name in self._sessions:
                self._sessions.move_to_end(name)

    def _open(self, name: str) -> _Session:
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                session = self._sessions[name] = _Session(name, RING)
                self._bytes += session.bytes
            return session

    def _trim(self, spared: _Session) -> None:
        """Let the sessions go that were not used for the longest time; the caller holds the lock."""
        while self._bytes > self._bytes_max and len(self._sessions) > 1:
            name = next(iter(self._sessions))
            if self._sessions[name] is spared:
                break
            self._forget_session(name)
            self._evicted += 1

    def _forget_session(self, name: str) -> bool:
        session = self._sessions.pop(name, None)
        if session is None:
            return False
        session.dropped = True
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

    def _expect(
        self, session: _Session, view: View, query: NDArray[np.float32], key: bytes, mode: SlbMode,
        ahead: NDArray[np.float32] | None,
    ) -> None:  # fmt: skip
        """Ask for the working set of the likely next query, if the session shows that it will be near."""
        if view.rows < AHEAD_FROM_ROWS:
            return
        last = session.last
        session.last = own = np.frombuffer(key, np.float32)
        if ahead is None:
            if last is None or dispatch.kernels.likeness(last, own) < _INERTIA:
                return
            ahead = own
        session.wanted = (own, ahead, mode)
        if not session.queued:
            session.queued = True
            if not self._ahead.ask(self, session):
                session.queued = False

    def _fetch(self, session: _Session) -> None:
        """Make the working set a session waits for; on the SLB's own thread."""
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
        if mode == "auto":
            self._audit(session, view, own, made if center is own and complete else None)
        kept = (*session.sets.sets, made)[-_SETS:]
        sets = _Sets(np.stack([one.center for one in kept]), kept)
        with self._lock:
            change = sum(one.bytes for one in kept) - sum(one.bytes for one in session.sets.sets)
            session.sets = sets
            session.bytes += change
            if not session.dropped:
                self._bytes += change
                self._trim(session)

    def _audit(self, session: _Session, view: View, query: NDArray[np.float32], truth: WorkingSet | None) -> None:
        """Measure what the working sets there were would have answered to the last query, or did."""
        centers, sets = session.sets
        if not sets:
            return
        slot, cosine = dispatch.kernels.nearest(centers, query, len(sets))
        if slot < 0 or not sets[slot].serves(view):
            return
        k = 10
        if truth is not None:
            best = truth.scores[:k]
        elif self._fetched % _AUDIT_EVERY:
            return
        else:
            best = view.engine.atlas.search(query, k, rows=view.rows, lsn=view.lsn, exact=True)[1]
        if len(best) == k:
            _, scores, _, _ = sets[slot].answer(view, query, k, prove=False)
            self._policy.note_recall(cosine, float(np.count_nonzero(scores >= best[-1])) / k)

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being fetched ahead, at most `timeout` seconds; whether that is so. For benchmarks."""
        return self._ahead.settle(timeout)

    def stop(self) -> None:
        """Fetch nothing ahead any more; what is under way is left."""
        self._ahead.stop()

    # -- the paper's own lookup, and figures --------------------------------------------------------------------

    def lookup(self, session: str, vector: Any, threshold: float = 0.85) -> Nearest | None:
        """Return the cached query nearest to `vector` in a session, with its answer, if its cosine reaches `threshold`.

        The primitive of the paper: an answer to another query, not rescored and not proven; at a cosine of 0.85 most of it
        is wrong for this one. Ids that were forgotten or replaced since are left out. None if nothing is near enough.
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
        if ring is None or state.folded != state.used:
            ring = self._fold(state)
        slot, cosine = dispatch.kernels.nearest(ring, vector, min(state.folded, len(ring)))
        if slot < 0 or cosine < threshold:
            return None
        key = state.keys[slot]
        answer = state.answers.get(key) if key is not None else None
        if answer is None:
            return None
        get_view = self._view()
        view = get_view() if get_view is not None else None
        if view is None or view.engine.serial != answer.serial:
            return None
        if view.lsn == answer.lsn:
            return Nearest(cosine, answer.ids, answer.scores)
        trace = view.engine.trace
        alive = np.array([is_alive(trace.death(trace.index_of(i)), view.lsn) for i in answer.ids.tolist() if i], bool)
        return Nearest(cosine, answer.ids[: len(alive)][alive], answer.scores[: len(alive)][alive])

    def _fold(self, state: _Session) -> NDArray[np.float32]:
        """Show the queries since the last lookup in the ring."""
        with self._lock:
            ring = state.ring
            if ring is None:
                ring = np.zeros((len(state.keys), -(-self._dim // 16) * 16), np.float32)
                state.bytes += ring.nbytes
                if not state.dropped:
                    self._bytes += ring.nbytes
            for n in range(max(state.folded, state.used - len(ring)), state.used):
                key = state.keys[n % len(ring)]
                if key is not None:
                    ring[n % len(ring)] = unit(np.frombuffer(key, np.float32))
            state.ring, state.folded = ring, state.used
            return ring

    def drop_session(self, session: str) -> bool:
        """Let go of all that was cached for a session, also of what it shared; whether there was anything."""
        with self._lock:
            shared = self._shared
            if shared is not None:
                for key in [key for key, answer in shared.answers.items() if answer.owner == session]:
                    slot = shared.answers.pop(key).slot
                    shared.keys[slot] = None
                    if shared.ring is not None:
                        shared.ring[slot] = 0
            return self._forget_session(session)

    def clear(self) -> None:
        """Let go of everything."""
        for name in list(self._sessions):
            self.drop_session(name)

    def stats(self) -> dict[str, Any]:
        """Return figures.

        atlas, exact, certified, approximate : queries answered so. hit_rate : share of the three. sessions, answers,
        working_sets, bytes, bytes_max, evicted_sessions, fetched_ahead : what is held and what was done. tau : cosine
        from which on "auto" answers; recall_measured : recall@10 of such answers against exact search (NaN before any was
        measured), audits : how many were measured. drift : rolling hit_rate and usual_hit_rate, best and usual_best (mean
        cosine of the best row found), shift = usual_best - best.
        """
        with self._lock:
            counts, drift = dict(self._counts), self._drift
            sessions = list(self._sessions.values())
        asked = sum(counts.values())
        tau = self._policy.tau(RECALL_TARGET)
        return {
            **counts,
            "hit_rate": (asked - counts["atlas"]) / asked if asked else 0.0,
            "sessions": len(sessions),
            "answers": sum(len(session.answers) for session in sessions),
            "working_sets": sum(len(session.sets.sets) for session in sessions),
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


def _hit(engine: Any, index: int, id_: int, score: float, how: Answered) -> Hit:
    hit = Hit(engine, index, id_, score)
    hit.answered = how
    return hit


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


class _Ahead(Background):
    """The thread that fetches ahead: begun by the first request, gone when nothing was asked for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: queue.SimpleQueue[tuple[weakref.ref[Slb], _Session] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._waiting = 0  # requests that are not done
        self._running = False

    def ask(self, slb: Slb, session: _Session) -> bool:
        """Have `slb._fetch(session)` called; False if too many wait already."""
        with self._changed:
            if self._waiting >= _QUEUE_MAX or self._stop.is_set():
                return False
            self._waiting += 1
            begin = not self._running
            self._running = True
        self._requests.put((weakref.ref(slb), session))
        if begin:
            self._thread = threading.Thread(target=self._run, args=(self._stop.is_set,), name="aeon-ahead", daemon=True)
            self._thread.start()
        return True

    def _run(self, stopping: Stopping) -> None:
        while not stopping():
            try:
                request = self._requests.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._changed:
                    if not self._waiting:
                        self._running = False
                        return
                continue
            if request is None:
                break
            slb = request[0]()
            try:
                if slb is not None and not stopping():
                    slb._fetch(request[1])
            except Exception as error:  # noqa: BLE001 - nobody waits for it; the stats tell
                self.error = f"{type(error).__name__}: {error}"
            finally:
                del slb, request
                with self._changed:
                    self._waiting -= 1
                    self._changed.notify_all()
        with self._changed:
            self._waiting, self._running = 0, False
            self._changed.notify_all()

    def settle(self, timeout: float | None) -> bool:
        """Wait until no request is left."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._waiting and self._running:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def stop(self) -> None:
        super().stop()
        self._requests.put(None)
