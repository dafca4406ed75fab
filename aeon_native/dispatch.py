"""Which kernels serve: the NumPy twins at first, compiled code from the moment it is loaded.

`kernels` is replaced by one assignment. Both sets give the same bits and share the state of a search, so a caller may
read `dispatch.kernels` once per operation or once per call. Nothing here imports numba before `start`.

`AEON_KERNELS=reference` keeps the twins for ever; with `AEON_KERNELS=compiled` the first `start` returns when all is
loaded.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import types
from typing import Any, Protocol, cast

import numpy as np

from . import reference
from ._check import Array

__all__ = ["Kernels", "kernels", "ready", "start", "status", "wait"]


class Kernels(Protocol):
    """The kernels by name; contracts stand in `reference`."""

    def crc32c(self, data: Any, crc: int = 0) -> int: ...
    def quantize(self, vectors: Array, codes: Array, scales: Array) -> int: ...
    def normalize(self, vectors: Array, rows: Array) -> int: ...
    def prepare_query(self, vector: Array, query: Array) -> float: ...
    def dot_int8(self, row: Array, query: Array) -> int: ...
    def dot_int8_int8(self, row: Array, query: Array) -> int: ...
    def dot_f32(self, row: Array, query: Array) -> float: ...
    def dot_rows_int8(self, rows: Array, query: Array, out: Array) -> None: ...
    def dot_rows_f32(self, rows: Array, query: Array, out: Array) -> None: ...
    def scan_int8(
        self,
        codes: Array,
        scales: Array,
        died: Array,
        lsn: int,
        query: Array,
        q_scale: float,
        allowed: Array,
        first_row: int,
        scores: Array,
        rows: Array,
        count: int,
    ) -> int: ...
    def scan_f32(
        self,
        vectors: Array,
        died: Array,
        lsn: int,
        query: Array,
        allowed: Array,
        first_row: int,
        scores: Array,
        rows: Array,
        count: int,
    ) -> int: ...
    def finish_topk(self, scores: Array, rows: Array, count: int) -> None: ...
    def records_checksum(self, records: Array, at: int, out: Array) -> None: ...
    def rows_checksum(self, codes: Array, ids: Array, scales: Array, out: Array) -> None: ...
    def rows_verify(self, codes: Array, meta: Array) -> int: ...
    def rotate_rows(self, vectors: Array, signs: Array) -> None: ...
    def search_one(
        self,
        ctx: Array,
        query: Array,
        limit: int,
        lsn: int,
        probes: int,
        beam: int,
        eps0: float,
        spread: float,
        k: int,
    ) -> tuple[int, Array, Array]: ...
    def search_pages(
        self,
        ctx: Array,
        queries: Array,
        limit: int,
        lsn: int,
        probes: int,
        beam: int,
        eps0: float,
        spread: float,
        allowed: Array,
        scratch: Array,
        scores: Array,
        rows: Array,
        counts: Array,
        stats: Array,
    ) -> int: ...
    def search_rows(
        self,
        ctx: Array,
        query: Array,
        listed: Array,
        lsn: int,
        scores: Array,
        rows: Array,
        count: int,
        ids: bool = False,
    ) -> int: ...
    def name_rows(self, ctx: Array, rows: Array, counts: Array, scores: Array, ids: Array) -> None: ...
    def nearest_pages(
        self,
        ctx: Array,
        queries: Array,
        beam: int,
        eps0: float,
        scratch: Array,
        scores: Array,
        slots: Array,
        counts: Array,
    ) -> int: ...
    def encode_lanes(
        self,
        vectors: Array,
        scales: Array,
        rows: Array,
        centroid: Array,
        factor: float,
        signs: Array,
        page: int,
        start: int,
        scratch: Array,
    ) -> None: ...
    def copy_lanes(self, source: int, lanes: Array, target: int, start: int, dim: int) -> None: ...
    def clear_lanes(self, page: int, start: int, stop: int, dim: int) -> None: ...
    def insert_rows(
        self,
        ctx: Array,
        vectors: Array,
        scales: Array,
        first_row: int,
        counts: Array,
        capacities: Array,
        scratch: Array,
        out: Array,
    ) -> int: ...
    def closer_rows(
        self, ctx: Array, slots: Array, counts: Array, candidates: Array, margin: float, scratch: Array, out: Array
    ) -> int: ...
    def split_rows(self, vectors: Array, centroids: Array, projections: Array, side: Array) -> int: ...
    def dot_table(self, x: Array, y: Array, out: Array) -> None: ...
    def likeness(self, x: Array, y: Array) -> float: ...
    def nearest(self, ring: Array, query: Array, count: int) -> tuple[int, float]: ...
    def rescore(
        self,
        ctx: Array,
        entry: Array,
        query: Array,
        limit: int,
        lsn: int,
        tau: float,
        depth: int,
        prove: bool,
        scratch: Array,
        scores: Array,
        rows: Array,
        out: Array,
        ids: bool = False,
    ) -> int: ...


kernels: Kernels = cast(Kernels, reference)


class _Abandon(SystemExit):
    """Raised in the loading thread when the process ends; a SystemExit ends a thread without a traceback."""


class _Loading:
    """What is known about the compiled kernels; one per process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.state = "idle"  # then "loading", and at last "ready", "failed" or "disabled"
        self.error: str | None = None
        self.seconds: float | None = None
        self.thread: threading.Thread | None = None
        self.abandoned = False

    def checkpoint(self) -> None:
        """Called in the loading thread wherever it may give up: before each import and each pass of the compiler."""
        if self.abandoned and threading.current_thread() is self.thread:
            raise _Abandon

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """As a finder of modules in front of all others: finds nothing, and hears of every import."""
        self.checkpoint()


_loading = _Loading()


def _disagreement(module: Kernels) -> str | None:
    """Name of a compiled kernel that differs from its twin on a small example, if one does."""
    if module.crc32c(b"123456789") != 0xE3069283:
        return "crc32c"
    vectors = np.sin(np.arange(5 * 70, dtype=np.float32)).reshape(5, 70)
    results = []
    for kernel_set in (cast(Kernels, reference), module):
        codes, scales, query = np.empty((5, 128), np.int8), np.empty(5, np.float32), np.empty(128, np.int16)
        kernel_set.quantize(vectors, codes, scales)
        q_scale = kernel_set.prepare_query(vectors[2], query)
        scores, rows, died, none = (
            np.empty(3, np.float32),
            np.empty(3, np.int64),
            np.zeros(5, np.uint64),
            np.empty(0, np.uint8),
        )
        count = kernel_set.scan_int8(codes, scales, died, 0, query, q_scale, none, 0, scores, rows, 0)
        kernel_set.finish_topk(scores, rows, count)
        results.append([x.tobytes() for x in (codes, query, scores, rows)])
    names = ("quantize", "prepare_query", "scan_int8", "scan_int8")
    twin, compiled = results
    return next((name for j, name in enumerate(names) if twin[j] != compiled[j]), None)


_FIRST = ("crc32c", "records_checksum", "rows_checksum", "rows_verify", "quantize", "normalize", "prepare_query")


def _serving_first(*modules: Any) -> Kernels:
    """The twins, with the kernels of a commit replaced by compiled ones; each set gives the same bits."""
    mixed = types.SimpleNamespace(**{name: getattr(reference, name) for name in reference.__all__})
    for name in _FIRST:
        setattr(mixed, name, next(getattr(module, name) for module in modules if hasattr(module, name)))
    if mixed.crc32c(b"123456789") != 0xE3069283:
        raise RuntimeError("compiled crc32c differs from its twin")
    return cast(Kernels, mixed)


def _load(loading: _Loading) -> None:
    global kernels
    begin = time.perf_counter()
    state, error = "failed", None
    try:
        if sys.byteorder != "little":
            raise RuntimeError("compiled kernels need a little-endian processor")
        sys.meta_path.insert(0, cast(Any, loading))
        try:
            from . import _jit

            _jit.checkpoints.append(loading.checkpoint)
            # In two steps: what a commit needs compiles in a few seconds and serves while the rest takes its time.
            from . import checksum, int8

            kernels = _serving_first(checksum, int8)
            from . import compiled
        finally:
            sys.meta_path.remove(cast(Any, loading))
        wrong = _disagreement(cast(Kernels, compiled))
        if wrong is not None:
            raise RuntimeError(f"compiled {wrong} differs from its twin")
        kernels = cast(Kernels, compiled)
        state = "ready"
    except _Abandon:
        error = "abandoned: the process was ending"
    except BaseException as reason:  # noqa: BLE001 - the twins go on serving, and status tells
        error = f"{type(reason).__name__}: {reason}"
    if state != "ready":
        kernels = cast(Kernels, reference)
    loading.state, loading.error, loading.seconds = state, error, time.perf_counter() - begin
    loading.done.set()


def start() -> None:
    """Begin loading the compiled kernels on a daemon thread; does nothing the second time."""
    loading = _loading
    if loading.state != "idle":
        return
    with loading.lock:
        if loading.state != "idle":
            return
        asked = os.environ.get("AEON_KERNELS", "").strip().lower()
        if asked == "reference":
            loading.state = "disabled"
            loading.done.set()
            return
        loading.state = "loading"
        if asked == "compiled":
            _load(loading)
            return
        if asked:
            loading.error = f"AEON_KERNELS is {asked!r}; expected reference or compiled"
        atexit.register(_stop_at_exit)
        loading.thread = threading.Thread(target=_load, args=(loading,), name="aeon-kernels", daemon=True)
        loading.thread.start()


def ready() -> bool:
    """Whether compiled kernels serve."""
    return _loading.state == "ready"


def wait(timeout: float | None = None) -> bool:
    """Wait until loading has ended, at most `timeout` seconds; False at once if it was never started.

    Returns whether compiled kernels serve.
    """
    if _loading.state != "idle":
        _loading.done.wait(timeout)
    return ready()


def status() -> dict[str, Any]:
    """What serves and why.

    mode ("reference" or "compiled"), state ("idle", "loading", "ready", "failed", "disabled"), simd and crc (the paths
    taken, None before loading), error (None or text), seconds (None, or how long loading took), cache (directory or
    None), cache_error (why compiled code is not kept, or "").
    """
    jit, simd = sys.modules.get(f"{__package__}._jit"), sys.modules.get(f"{__package__}._simd")
    cache = getattr(jit, "cache_directory", None)
    return {
        "mode": "compiled" if ready() else "reference",
        "state": _loading.state,
        "simd": getattr(jit, "simd_path", None),
        "crc": getattr(simd, "CRC_PATH", None),
        "error": _loading.error,
        "seconds": _loading.seconds,
        "cache": str(cache) if cache is not None else None,
        "cache_error": getattr(jit, "cache_error", ""),
    }


# The compiler is C++: were the process to tear down its globals while a daemon thread is inside, it could crash. So the
# exit waits until the thread has come to its next checkpoint, which is one module or one pass away.
_EXIT_PATIENCE_S = 10.0


def _stop_at_exit() -> None:
    loading = _loading
    if loading.thread is not None and loading.thread is not threading.current_thread():
        loading.abandoned = True
        loading.thread.join(_EXIT_PATIENCE_S)


def _after_fork() -> None:
    """The child has no loading thread: nobody would ever finish, and numba's locks may be held."""
    loading = _loading
    loading.lock = threading.Lock()
    loading.thread = None
    if loading.state == "loading":
        loading.done = threading.Event()
        loading.state, loading.error = "failed", "the process was forked while kernels were loading"
        loading.done.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
