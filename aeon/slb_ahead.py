"""The thread that fetches ahead for the SLB: begun by the first request, gone when nothing was asked for a while.

It looks for requests every two milliseconds, so asking costs its caller an append and wakes nobody: the turns of a
conversation are tens of milliseconds apart at least.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aeon.background import Background

T = TypeVar("T")
_EVERY_S = 0.002
_IDLE_S = 2.0
_WAITING_MAX = 256
_LEAVE_S = 1.0  # how long `stop` waits for what is under way


class Ahead(Background, Generic[T]):
    """Calls `work(request)` for each request, one after the other. `work` must keep its owner alive by weak reference only."""

    def __init__(self, work: Callable[[T], None]) -> None:
        super().__init__()
        self._work = work
        self._requests: deque[T] = deque()
        self._guard = threading.Lock()
        self._running = self._working = False

    def ask(self, request: T) -> bool:
        """Have a request worked on; False if too many wait already."""
        with self._guard:
            if len(self._requests) >= _WAITING_MAX or self._stop.is_set():
                return False
            self._requests.append(request)
            if not self._running:
                self._running = True
                self._thread = threading.Thread(target=self._run, name="aeon-ahead", daemon=True)
                self._thread.start()
        return True

    def _run(self) -> None:
        quiet_since = time.monotonic()
        while not self._stop.is_set():
            self._working = True
            try:
                request = self._requests.popleft()
            except IndexError:
                self._working = False
                if time.monotonic() - quiet_since > _IDLE_S:
                    with self._guard:
                        if not self._requests:
                            self._running = False
                            return
                time.sleep(_EVERY_S)
                continue
            try:
                self._work(request)
            except Exception as error:  # noqa: BLE001 - nobody waits for it; the stats tell
                self.error = f"{type(error).__name__}: {error}"
            del request
            quiet_since = time.monotonic()
        self._requests.clear()
        self._working = self._running = False

    def settle(self, timeout: float | None) -> bool:
        """Wait until no request is left, at most `timeout` seconds; whether that is so."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._requests or self._working:
            if end is not None and time.monotonic() > end:
                return False
            time.sleep(_EVERY_S / 8)
        return True

    def stop(self) -> None:
        """Drop what waits and take no more; what is under way is waited for, a second at most."""
        super().stop()
        self._requests.clear()
        self.wait(_LEAVE_S)
