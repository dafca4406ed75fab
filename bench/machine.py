"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def describe() -> dict[str, Any]:
    """CPU, cores, memory, versions, commit: stands beside every result."""
    from importlib.metadata import version

    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "argv": sys.argv[1:],
    }


@contextmanager
def pinned() -> Iterator[None]:
    """The calling thread on one core, so that it is not moved while it is timed; threads that exist stay where they are."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    model = line.split(":", 1)[1].strip()
                    break
            else:
                return platform.processor()
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = file.read()
        return model + (" (AVX-512 VNNI)" if "avx512_vnni" in flags else " (AVX2)" if "avx2" in flags else "")
    except OSError:
        return platform.processor() or "unknown"


def _commit() -> str:
    try:
        run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        return run.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def fdatasync_us(folder: str, bytes_: int = 600, count: int = 200) -> float:
    """Median time of pwrite + fdatasync of a small record into reserved space: what one durable commit costs at least."""
    path = os.path.join(folder, "fdatasync.probe")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, 1 << 20)
        os.fsync(fd)
        times = []
        for n in range(count):
            start = time.perf_counter()
            os.pwrite(fd, bytes(bytes_), n * bytes_)
            os.fdatasync(fd)
            times.append(time.perf_counter() - start)
        return float(np.median(times)) * 1e6
    finally:
        os.close(fd)
        os.unlink(path)
