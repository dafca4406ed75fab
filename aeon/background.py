"""Work off the caller's path: one daemon thread a piece, asked to leave when its owner or the process ends."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable

Stopping = Callable[[], bool]
_EXIT_PATIENCE_S = 10.0
_all: weakref.WeakSet[Background] = weakref.WeakSet()


class Background:
    """Runs at most one piece of work at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.error = ""  # what ended the last piece of work, if not its own return
        _all.add(self)

    @property
    def busy(self) -> bool:
        """Whether work is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def start(self, work: Callable[[Stopping], None], name: str) -> bool:
        """Run `work(stopping)` on a thread; it returns soon after stopping() says so. False if other work is under way."""
        with self._lock:
            if self.busy or self._stop.is_set():
                return False

            def run() -> None:
                try:
                    work(self._stop.is_set)
                    self.error = ""
                except Exception as error:  # noqa: BLE001 - nobody waits for it; the owner tells it in its stats
                    self.error = f"{type(error).__name__}: {error}"

            self._thread = threading.Thread(target=run, name=name, daemon=True)
            self._thread.start()
            return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the work under way, at most `timeout` seconds; whether none is left."""
        with self._lock:  # a thread that is being started cannot be waited for yet
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        return not self.busy

    def stop(self) -> None:
        """Ask the work under way to leave, and take no more."""
        self._stop.set()


def in_two(work: Callable[[], None]) -> None:
    """Run `work` on this thread and on one more, and wait for both; the first error of either is raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
            failures.append(error)

    other = threading.Thread(target=run, name="aeon-second", daemon=True)
    other.start()
    run()
    other.join()
    if failures:
        raise failures[0]


def _leave() -> None:
    for background in list(_all):
        background.stop()
    for background in list(_all):
        background.wait(_EXIT_PATIENCE_S)


atexit.register(_leave)
