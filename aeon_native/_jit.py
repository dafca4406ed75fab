"""Every numba option in one place: how kernels are compiled, and where compiled code is kept.

Numba's own cache is keyed by the file a function lives in and misses an edited helper in another file. Here the cache
directory's name is a hash of all kernel sources, the versions of numba, llvmlite, NumPy and Python, the processor and
the SIMD path, so code from another source tree or machine is never found at all.

Two processes may fill the cache at the same time. Files appear by rename, and a function is compiled for exactly one
signature, so whoever comes second replaces a file by one that means the same.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
# Numba types the functions it compiles.
from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba import njit, types
from numba.core import config as _config
from numba.core import event
from numba.core.caching import Cache, CompileResultCacheImpl, _CacheLocator
from numba.core.registry import cpu_target
from numba.extending import overload

config: Any = _config
Function = TypeVar("Function", bound=Callable[..., Any])

# No fastmath: a score must be the same bits in twin and kernel, on every processor.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False, "fastmath": False}
_HELPER_OPTIONS: Any = {**OPTIONS, "_nrt": False}

triple, cpu_name, _feature_text = cpu_target.target_context.codegen().magic_tuple()
cpu_features: frozenset[str] = frozenset(f[1:] for f in _feature_text.split(",") if f.startswith("+"))


def _simd_path() -> str:
    x86 = triple.startswith(("x86_64", "amd64"))
    best = "portable"
    if x86 and {"avx2", "sse4.2"} <= cpu_features:
        best = "avx2"
        if {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"} <= cpu_features:
            best = "avx512"
    order = ("portable", "avx2", "avx512")
    asked = os.environ.get("AEON_SIMD", "").strip().lower()
    if not asked:
        return best
    if asked not in order:
        raise ValueError(f"AEON_SIMD is {asked!r}; expected one of {', '.join(order)}")
    return min(asked, best, key=order.index)  # never above what the processor has


simd_path: str = _simd_path()


def user_cache_directory() -> Path:
    """The directory that holds compiled kernels of all versions; `AEON_CACHE_DIR` overrides it."""
    asked = os.environ.get("AEON_CACHE_DIR")
    if asked:
        return Path(asked).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "aeon" / "cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aeon"


def _source_key() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version, triple, cpu_name, _feature_text)
    parts = (*versions, ".".join(map(str, llvm.llvm_version_info)), simd_path, config.OPT)
    digest.update("\0".join(map(str, parts)).encode())
    return digest.hexdigest()[:20]


def _open_cache() -> tuple[Path | None, str]:
    """The cache directory in use, or None and the reason why compiled code is not kept.

    There is no fallback to a shared temporary directory: cached code is executed, so it must lie where only this user
    writes.
    """
    try:
        directory = user_cache_directory() / f"kernels-{_source_key()}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except (OSError, RuntimeError) as error:
        return None, f"{type(error).__name__}: {error}"
    return directory, ""


cache_directory, cache_error = _open_cache()


class _Locator(_CacheLocator):  # type: ignore[misc]
    """Points numba at `cache_directory`; freshness is in the directory's name."""

    def __init__(self, py_file: str) -> None:
        self._py_file = py_file

    def get_cache_path(self) -> str:
        return str(cache_directory)

    def get_source_stamp(self) -> str:
        return "in the directory's name"

    def get_disambiguator(self) -> str:
        return "aeon"

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_file)


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # type: ignore[assignment, list-item]  # noqa: RUF012

    def __init__(self, py_func: Any) -> None:
        override, config.CACHE_LOCATOR_CLASSES = getattr(config, "CACHE_LOCATOR_CLASSES", ""), ""
        try:
            super().__init__(py_func)
        finally:
            config.CACHE_LOCATOR_CLASSES = override


class _KernelCache(Cache):  # type: ignore[misc]
    """A cache that can only help: a file that is damaged, locked or does not fit on the disk means compiling."""

    _impl_class = _CacheImpl  # type: ignore[assignment]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001 - whatever a damaged pickle raises
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        global cache_error
        try:
            try:
                super().save_overload(sig, data)
            except Exception:  # noqa: BLE001 - a damaged index fails here again; begin a new one
                self.flush()
                super().save_overload(sig, data)
        except Exception as error:  # noqa: BLE001
            cache_error = f"{type(error).__name__}: {error}"


compiled: list[tuple[str, float, bool]] = []  # kernel name, seconds, taken from the cache
observers: list[Callable[[str, float], None]] = []
checkpoints: list[Callable[[], None]] = []  # called between two steps of compiling; may raise to give up
_dispatchers: list[Any] = []  # an entry point borrows its dispatcher's code


class _Steps(event.Listener):  # type: ignore[misc]
    """Calls the checkpoints before every pass of numba's pipeline."""

    def on_start(self, event: Any) -> None:
        for checkpoint in checkpoints:
            checkpoint()

    def on_end(self, event: Any) -> None:
        pass


def helper(function: Function) -> Function:
    """A function called from kernels only; compiled into each of them. It borrows its arrays: it makes none and returns none.

    Without numba's counting of references, which is two locked instructions an array and call: a tenth of a search.
    """
    return njit(**_HELPER_OPTIONS)(function)


@helper
def packed_1d(array, itemsize):
    """C-contiguous; the strides of an axis of length 0 or 1 mean nothing."""
    return array.shape[0] < 2 or array.strides[0] == itemsize


@helper
def packed_2d(array, itemsize):
    n, width = array.shape
    return (
        n == 0
        or width == 0
        or ((width == 1 or array.strides[1] == itemsize) and (n == 1 or array.strides[0] == width * itemsize))
    )


def overload_helper(function: Any) -> Callable[[Function], Function]:
    """`function` is replaced, by the types of its arguments, by what the decorated function returns."""
    return overload(function, jit_options=OPTIONS)  # type: ignore[arg-type]


def kernel(signature: Any, nogil: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for one signature at once and return the C entry point.

    The entry point skips numba's type dispatch (a quarter of a microsecond on four arrays). It checks neither dtype,
    layout nor writability of an array; the wrapper and the first lines of the kernel do.

    `nogil=False` is for calls shorter than a microsecond or so: who lets go of the GIL while another thread wants it
    may wait a whole switch interval (5 ms) to get it back.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        begin = time.perf_counter()
        name = function.__name__.strip("_")
        # Under a name of its own: numba's cache does not distinguish functions by their options.
        function = FunctionType(function.__code__, function.__globals__, function.__name__ + ("" if nogil else "_gil"))
        function.__qualname__ = function.__name__
        dispatcher = njit(nogil=nogil, **OPTIONS)(function)
        if cache_directory is not None:
            dispatcher._cache = _KernelCache(function)
        with event.install_listener("numba:run_pass", steps := _Steps()):
            steps.on_start(None)
            dispatcher.compile(signature)
        dispatcher.disable_compile()
        _dispatchers.append(dispatcher)
        (result,) = dispatcher.overloads.values()
        seconds = time.perf_counter() - begin
        compiled.append((name, seconds, bool(sum(dispatcher.stats.cache_hits.values()))))
        for observer in observers:
            observer(name, seconds)
        return result.entry_point

    return decorate


def array(dtype: Any, ndim: int, writable: bool = False) -> types.Array:
    """The type of an array argument: any layout, so that the kernel itself can look at the strides."""
    return types.Array(dtype, ndim, "A", readonly=not writable)
