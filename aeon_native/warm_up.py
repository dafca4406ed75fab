"""Compile all kernels ahead: `python -m aeon_native.warm_up`, or `warm_up()`."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]


def warm_up(progress: Progress | None = None) -> list[tuple[str, float]]:
    """Compile every kernel that is not in the cache, load the others.

    progress(kernel name, seconds) is called after each. Returns all names with the seconds each took, in order; a
    kernel compiled in two forms appears twice. What was loaded earlier in this process is listed, and not done again.
    Raises ImportError without numba.
    """
    from . import _jit

    if progress is not None:
        for name, seconds, _ in _jit.compiled:
            progress(name, seconds)
        _jit.observers.append(progress)
    try:
        from . import compiled  # noqa: F401
    finally:
        if progress is not None:
            _jit.observers.remove(progress)
    return [(name, seconds) for name, seconds, _ in _jit.compiled]


def main() -> None:
    total = sum(seconds for _, seconds in warm_up(lambda name, seconds: print(f"{name:16s} {seconds:7.3f} s")))
    from . import _jit

    where = str(_jit.cache_directory) if _jit.cache_directory else f"nowhere ({_jit.cache_error})"
    print(f"{'total':16s} {total:7.3f} s, {_jit.simd_path}, kept in {where}")


if __name__ == "__main__":
    main()
