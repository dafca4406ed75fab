"""Upkeep: checkpoints and compactions, written beside writers and readers, and swapped in by one assignment.

    freeze   note the LSN and the counts of what was applied: no copy, no disk (Engine.freeze)
    write    a generation from what was frozen, without locks (checkpoint.write_generation)
    build    an engine of the new generation; apply to it what was committed since, until it is a few commits behind
    swap     replace the MANIFEST; then, under the index lock, apply the rest, hand the page index over, and publish the
             engine by one assignment
    retire   delete the old generation's files; its mappings go with the last reader that holds them

Until the swap the old generation and the whole log hold, so a run may be given up, or cut short, anywhere.
One run at a time; locks are taken in the order upkeep lock, write lock, log lock, index lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from aeon import manifest as manifests
from aeon.background import Background
from aeon.checkpoint import write_generation
from aeon.engine import Engine, Frozen
from aeon.errors import AeonError, CapacityError, ClosedError
from aeon.files import NoSpaceError
from aeon.format import SUPERSEDED, FileKind
from aeon.log_follower import LogFollower
from aeon.recovery import remove_leftovers
from aeon.results import CompactReport
from aeon.retention import is_limited, overdue

if TYPE_CHECKING:
    from aeon.manifest import Manifest
    from aeon.store import Store
    from aeon.wal import LogPosition, Wal

PAUSE_S = 50e-6  # given to others between two pieces of work: a thread that never sleeps keeps the interpreter for 5 ms
_WORK_S = 100e-6  # pieces of work between two pauses, at least
_BEHIND_MAX = 4  # commits that may be left for the swap: each holds up writers for as long as it took them to apply
_GIVE_WAY_S = 200e-6  # after each commit while there is more to catch up with: some five small ones are applied in it
_GIVE_WAY_BYTE_S = 25e-9  # and for a large one so much a byte: twice what it takes to apply
_ROUNDS_MAX = 100  # then the swap takes what is left: writers are faster than this thread
_COMPACT_EVENTS_MIN = 1000  # a compaction by itself is not worth its syncs below
_SWEEP_IDS = 4096  # ids that a sweep forgets in one commit: some milliseconds of applying
_LOG_SHARE = 8  # of the bytes on disk: a log as long as that makes a checkpoint due; what is in it is in memory, too
_BACKLOG = 4  # writers wait for a run under way when so many times the log that makes one due has come since


_Done = tuple[int, list[str]]  # memories left out, files removed


class _GivenUp(Exception):
    """The store is being closed, or was rebuilt after an interrupt."""


class Upkeep:
    """The runs of one store. Holds no reference to it."""

    def __init__(self) -> None:
        self._run_lock = threading.Lock()
        self._background = Background()
        self._freeze_lsn = -1  # no run under way
        self._frozen: Frozen | None = None
        self._newest = (0, 0)  # LSN and bytes of the newest commit that was applied meanwhile
        self._caught_up = 0  # LSN up to which the new engine has them; 0 = there is none
        self._follower: LogFollower | None = None  # reads them from the log
        self._paused_at = 0.0
        self._work_s = _WORK_S
        self._sweeping = False
        self._mapped: list[tuple[str, Callable[[], object]]] = []  # (path, alive) of files of older generations
        self._pauses = [0.0, 0.0]  # seconds for which the last run held up writers, at the freeze and at the swap
        self.error = ""  # why the last run by itself ended without a generation

    # -- what the store tells (under the index lock) ------------------------------------------------------------

    @property
    def writing(self) -> bool:
        """Whether a generation is being written: then long texts go into the log, not ahead into the arena."""
        return self._freeze_lsn >= 0

    def note_applying(self, engine: Engine, lsn: int) -> None:
        """A commit is about to be applied: the first one that a run under way does not hold finds the state frozen."""
        if self._freeze_lsn == lsn - 1 and self._frozen is None:
            self._frozen = engine.freeze()

    def note_applied(self, lsn: int, size: int) -> None:
        """A commit of so many bytes was applied."""
        self._newest = (lsn, size)

    def give_way(self) -> None:
        """After a commit, without a lock: let a run that catches up with the writers come nearer, or they run away from it."""
        lsn, size = self._newest
        if 0 < self._caught_up < lsn - _BEHIND_MAX:
            time.sleep(max(_GIVE_WAY_S, size * _GIVE_WAY_BYTE_S))

    # -- asking for runs ----------------------------------------------------------------------------------------

    def checkpoint(self, store: Store) -> int:
        """Write everything into a generation, unless one holds it; return its number."""
        with self._run_lock:
            if not self._is_covered(store):
                self._run_again(store, compacting=False, purging=False)
            return store._engine.manifest.generation

    def compact(self, store: Store, *, purge: bool) -> CompactReport:
        """Write what can be read into a generation of its own; return what that did."""
        begin = time.perf_counter()
        self._sweep(store)
        with self._run_lock:
            before = _disk_bytes(store._engine)
            gone, removed = self._run_again(store, compacting=True, purging=purge)
            new = store._engine
            return CompactReport(
                generation=new.manifest.generation, memories=new.manifest.files[FileKind.EVENTS].count, dropped=gone,
                bytes_before=before, bytes_after=_disk_bytes(new), seconds=time.perf_counter() - begin,
                pauses=(self._pauses[0], self._pauses[1]), files_removed=tuple(removed), purged=purge,
                held_by_readers=self._is_held(new),
            )  # fmt: skip

    def _is_held(self, engine: Engine) -> bool:
        """Whether this process still maps a file of an older generation that is not `engine`'s too."""
        paths = {entry.path for entry in engine.manifest.files.values()}
        self._mapped = [(path, mapping) for path, mapping in self._mapped if mapping() is not None]
        return any(path not in paths for path, _ in self._mapped)

    def run_if_due(self, store: Store) -> None:
        """Begin a checkpoint or a compaction if the log, or what was forgotten, has grown beyond the store's options."""
        wal, options = store._wal, store._options
        assert wal is not None
        if self._sweeping:
            return
        if self._background.busy:
            limit = _BACKLOG * max(options.checkpoint_log_bytes, _disk_bytes(store._engine) // _LOG_SHARE)
            if options.checkpoint_log_bytes and wal.bytes_since_checkpoint > limit:
                self._background.wait()
            return
        compacting = self._is_compaction_due(store)
        if not compacting and not self._is_checkpoint_due(store, wal):
            return

        if options.background:
            self._background.start(lambda stopping: self._run_alone(store, compacting), "aeon-upkeep")
            return
        with suppress(ClosedError):  # closed meanwhile: the commit that brought us here stands, and `close` synced it
            self._sweep(store)
            if compacting or self._is_compaction_due(store):
                self.compact(store, purge=False)
            else:
                self.checkpoint(store)

    def _sweep(self, store: Store) -> None:
        """Forget what the rules of retention say, in commits of their own."""
        view = store._engine.view
        if not is_limited(store._options) and not view.engine.may_expire:
            return
        self._sweeping = True
        try:
            ids = overdue(view, store._options, time.time_ns() // 1000)
            for first in range(0, len(ids), _SWEEP_IDS):
                store.forget(ids[first : first + _SWEEP_IDS])
                self._breathe()
        finally:
            self._sweeping = False

    def _run_alone(self, store: Store, compacting: bool) -> None:
        try:
            self._sweep(store)
            compacting |= self._is_compaction_due(store)
            with self._run_lock:
                if compacting or not self._is_covered(store):
                    self._run(store, compacting=compacting, purging=False)
            self.error = ""
        except _GivenUp:
            pass
        except Exception as error:  # noqa: BLE001 - nobody waits for it: a poisoned log tells the next writer
            self.error = f"{type(error).__name__}: {error}"

    def _is_checkpoint_due(self, store: Store, wal: Wal) -> bool:
        least = store._options.checkpoint_log_bytes
        if not least or wal.bytes_since_checkpoint <= least:
            return False
        return wal.bytes_since_checkpoint > _disk_bytes(store._engine) // _LOG_SHARE

    def _is_compaction_due(self, store: Store) -> bool:
        options, engine = store._options, store._engine
        share = options.compact_share
        if share and engine.forgotten > max(_COMPACT_EVENTS_MIN, share * engine.view.events):
            return True
        # Over the budget by an eighth: a sweep forgets as much, so that one is not due again at once.
        since = 0 if store._wal is None else store._wal.bytes_since_checkpoint
        return bool(options.max_bytes) and 8 * (_disk_bytes(engine) + since) > 9 * options.max_bytes

    def _is_covered(self, store: Store) -> bool:
        wal = store._wal
        assert wal is not None
        wal.require_healthy()
        return wal.appended_lsn <= store._engine.manifest.lsn

    def stop(self) -> None:
        """Let a run under way be given up, and begin none any more; returns when none is left."""
        self._background.stop()
        self._background.wait()

    def _run_again(self, store: Store, *, compacting: bool, purging: bool) -> _Done:
        """One run for a caller who waits for it, and another if an interrupt elsewhere cut it short."""
        while True:
            try:
                return self._run(store, compacting=compacting, purging=purging)
            except _GivenUp:
                if self._background.stopping:
                    raise ClosedError(f"{store._root} was closed meanwhile") from None

    # -- one run ------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        """Let others have the interpreter; give up if the store is being closed."""
        if self._background.stopping:
            raise _GivenUp
        self._breathe()

    def _breathe(self) -> None:
        now = time.perf_counter()
        if now - self._paused_at > self._work_s:
            time.sleep(PAUSE_S)
            self._paused_at = time.perf_counter()
            # Beside a thread that computes in Python a pause takes 5 ms: then fewer of them, or this one would hardly get on.
            self._work_s = max(_WORK_S, (self._paused_at - now) / 4)

    def _run(self, store: Store, *, compacting: bool, purging: bool) -> _Done:
        """Carry out one run; returns (how many memories were left out, which files were removed)."""
        wal = store._wal
        assert wal is not None
        counted = wal.bytes_since_checkpoint
        try:
            frozen, position = self._freeze(store, wal, rotate=purging)
            old = frozen.view.engine
            if old is not store._engine:
                raise _GivenUp("the state was rebuilt after an interrupt")
            gone = _forgotten(frozen)
            remove_leftovers(store._files, store._root, old)  # of a run that was given up and could not clear away
            manifest = write_generation(
                store._files, store._root, frozen, position, compacting=compacting, purging=purging, pause=self._pause
            )
            self._follower = LogFollower(store._files, store._root, manifest.uuid, position)
            new = self._build(store, frozen, manifest)
        except BaseException as error:
            # Nothing was changed that counts: what was written goes, and the log goes on as it was.
            self._end()
            if isinstance(error, Exception) and not isinstance(error, (_GivenUp, NoSpaceError, AeonError)):
                raise wal.poison(error) from error
            wal.bytes_since_checkpoint += counted
            if wal.poisoned is None:
                with suppress(OSError):  # the next run begins with it
                    remove_leftovers(store._files, store._root, store._engine)
            if isinstance(error, NoSpaceError):
                raise CapacityError(f"no space left on the device for a generation of {store._root}") from error
            raise
        try:
            # The generation first, then the engine: what readers see afterwards is what an open would find.
            manifests.store(store._files, store._root, manifest)
            with old.atlas.unscanned():
                old.let_go(self._breathe)
                self._publish(store, wal, frozen, new)
                old.let_go(self._breathe)  # what commits have read since
            store._engine.atlas.start_index()
            removed = remove_leftovers(store._files, store._root, store._engine)
            store._save_salience()
            self._mapped = [(path, mapping) for path, mapping in self._mapped if mapping() is not None]
            self._mapped += [(file.entry.path, file.alive) for file in old.mapped.values()]
        except Exception as error:
            raise wal.poison(error) from error
        except BaseException:  # Ctrl-C: which MANIFEST holds is known once it is on disk
            with store._index_lock:
                store._files.fsync_dir(store._root)
                store._rebuild(wal)
            raise
        finally:
            self._end()
        return gone, removed

    def _end(self) -> None:
        self._caught_up = 0
        self._freeze_lsn = -1
        self._frozen = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def _freeze(self, store: Store, wal: Wal, *, rotate: bool) -> tuple[Frozen, LogPosition]:
        """Note where the log stands, and freeze the state there when all before it is on disk and applied.

        Writers wait for the first alone: whoever applies the first commit behind it freezes the state, or this thread does.
        """
        with store._index_lock:
            self._end()  # Ctrl-C may have kept the run before from ending, and its frozen state is not this one's
        wal.sync(wal.appended_lsn)
        wal.prepare_checkpoint()
        with store._write_lock:  # no text is being written ahead, and none is from here on
            began = time.perf_counter()
            position = wal.begin_checkpoint(rotate=rotate)
            lsn = self._freeze_lsn = position.lsn - 1
            held = time.perf_counter() - began
        wal.discard_prepared()
        wal.sync(lsn)
        store._apply_pending()
        with store._index_lock:
            began = time.perf_counter()
            if self._frozen is None:
                if store._engine.view.lsn != lsn:
                    raise _GivenUp("the state was rebuilt after an interrupt")
                self._frozen = store._engine.freeze()
            self._pauses[0] = held + time.perf_counter() - began
        return self._frozen, position

    def _build(self, store: Store, frozen: Frozen, manifest: Manifest) -> Engine:
        """Map the new generation, verify it, and apply what came since, until it is a few commits behind."""
        new = Engine(store._files, store._root, manifest)
        new.atlas.is_held = True
        new.warm(self._pause)
        new.take_over(frozen, self._pause, lambda: self._background.stopping)
        for _ in range(_ROUNDS_MAX):
            self._pause()
            newest = frozen.view.engine.view.lsn
            if newest - new.view.lsn <= _BEHIND_MAX:
                break
            self._catch_up(new, newest, pausing=True)
        return new

    def _catch_up(self, new: Engine, newest: int, *, pausing: bool) -> None:
        """Apply the commits up to the LSN `newest` of those that came since the freeze."""
        follower = self._follower
        assert follower is not None
        self._caught_up = new.view.lsn
        while new.view.lsn < newest:
            frame = follower.read()
            new.apply(frame.lsn, frame.first_id, frame.payload)
            self._caught_up = frame.lsn
            if pausing:
                self._breathe()

    def _publish(self, store: Store, wal: Wal, frozen: Frozen, new: Engine) -> None:
        old = frozen.view.engine
        if new.is_renumbered(frozen):
            old.atlas.stop_background()
        self._catch_up(new, old.view.lsn, pausing=True)
        self._catch_up(new, old.view.lsn, pausing=False)
        with store._index_lock:
            began = time.perf_counter()
            if store._engine is not old:  # rebuilt after an interrupt, meanwhile
                store._rebuild(wal)
                return
            self._catch_up(new, old.view.lsn, pausing=False)
            new.atlas.learn_from(old.atlas)
            if not new.is_renumbered(frozen):
                new.atlas.take_over(old.atlas)
            new.atlas.is_held, old.atlas.is_held = False, True
            store._engine = new
            self._pauses[1] = time.perf_counter() - began


def _forgotten(frozen: Frozen) -> int:
    """How many memories a view holds that can no longer be read."""
    deaths = frozen.view.engine.trace.deaths
    return sum(
        int(np.count_nonzero((run["lsn"] != 0) & (run["lsn"] < SUPERSEDED)))
        for _, run in deaths.runs(frozen.view.events)
    )


def _disk_bytes(engine: Engine) -> int:
    """Bytes of the generation."""
    return sum(entry.bytes for entry in engine.manifest.files.values())
