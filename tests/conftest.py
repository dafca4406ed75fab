"""What every test may use: vectors from a seed, stores in a fresh directory, a file system with hooks, byte snapshots."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

import aeon
from aeon.files import OsFile, OsFileSystem
from aeon.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY.parent / "shared" / "data"

settings.register_profile(
    "aeon", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.register_profile("aeon-long", parent=settings.get_profile("aeon"), max_examples=1000, stateful_step_count=60)
settings.load_profile(os.environ.get("AEON_HYPOTHESIS", "aeon"))

# Other processes that a test starts are to use the same packages, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys(
        [
            str(Path(aeon.__file__).resolve().parents[1]),
            *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
    )
)

Hook = Callable[[str, str], None]


class HookedFile(OsFile):
    """A real file that calls `hook(operation, path)` before each operation that changes or syncs it."""

    __slots__ = ("_hook",)

    def __init__(self, file: OsFile, hook: Hook) -> None:
        super().__init__(file.path, file._fd)
        file._fd = -1  # the descriptor is this one's now
        self._hook = hook

    def pwrite(self, data: Any, offset: int) -> int:
        self._hook("pwrite", self.path)
        return super().pwrite(data, offset)

    def truncate(self, size: int) -> None:
        self._hook("truncate", self.path)
        super().truncate(size)

    def allocate(self, offset: int, count: int) -> None:
        self._hook("allocate", self.path)
        super().allocate(offset, count)

    def fsync(self) -> None:
        self._hook("fsync", self.path)
        super().fsync()

    def fdatasync(self) -> None:
        self._hook("fdatasync", self.path)
        super().fdatasync()

    def close(self) -> None:
        self._hook("close", self.path)
        super().close()


class HookedFiles(OsFileSystem):
    """The operating system's files; `hook(operation, path)` is called before each operation and may raise or wait.

    counts : how often each operation was called.
    """

    def __init__(self, hook: Hook | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.hook = hook

    def _call(self, operation: str, path: str) -> None:
        self.counts[operation] += 1
        if self.hook is not None:
            self.hook(operation, path)

    def open(self, path: str, *, writable: bool = False, create: bool = False) -> OsFile:
        self._call("create" if create else "open_writable" if writable else "open", path)
        return HookedFile(super().open(path, writable=writable, create=create), self._call)

    def listdir(self, path: str) -> list[str]:
        self._call("listdir", path)
        return super().listdir(path)

    def mkdir(self, path: str) -> None:
        self._call("mkdir", path)
        super().mkdir(path)

    def rename(self, source: str, target: str) -> None:
        self._call("rename", target)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._call("unlink", path)
        super().unlink(path)

    def rmdir(self, path: str) -> None:
        self._call("rmdir", path)
        super().rmdir(path)

    def fsync_dir(self, path: str) -> None:
        self._call("fsync_dir", path)
        super().fsync_dir(path)

    def lock(self, path: str, holder: str) -> Any:
        self._call("lock", path)
        return super().lock(path, holder)


def unit_vectors(count: int, dim: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Random directions, float32[count, dim]."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def read_bytes(root: Path | str) -> dict[str, bytes]:
    """Every file below `root` with its bytes, and every directory."""
    root = Path(root)
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"<directory>"
        for path in sorted(root.rglob("*"))
    }


def state_of(store: Store) -> dict[str, Any]:
    """All that a caller can see of a store, without scores: for comparing a store before and after."""
    memories = {}
    for id_ in range(1, store._engine.trace.tail_first_id + store.stats().events + 1):
        try:
            memory = store.get(id_)
        except aeon.NotFoundError:
            continue
        vector = memory.vector
        memories[id_] = (memory.to_dict(), memory.previous, None if vector is None else vector.tobytes())
    sessions = store.sessions()
    return {
        "memories": memories,
        "sessions": sessions,
        "history": {info.name: [memory.id for memory in store.history(info.name, limit=None)] for info in sessions},
        "count": len(store),
    }


@pytest.fixture
def vectors() -> Callable[..., NDArray[np.float32]]:
    """`unit_vectors(count, dim=8, seed=0)`."""
    return unit_vectors


@pytest.fixture
def disk() -> Callable[[Path | str], dict[str, bytes]]:
    """`read_bytes(root)`."""
    return read_bytes


@pytest.fixture
def state() -> Callable[[Store], dict[str, Any]]:
    """`state_of(store)`."""
    return state_of


@pytest.fixture
def hooked_files() -> type[HookedFiles]:
    """The class `HookedFiles`."""
    return HookedFiles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be made; nothing is there yet."""
    return tmp_path / "agent.aeon"


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[..., Store]]:
    """`open_store(dim=8, **options)` opens the store at `path`; whatever is left open is closed, and was sound."""
    opened: list[Store] = []

    def open_(dim: int | None = 8, **options: Any) -> Store:
        options.setdefault("durability", "normal")
        store = aeon.open(path, dim, **options)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        if not store._unusable and store._wal is not None and store._wal.poisoned is None:
            assert store.check().problems == ()
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """A new store of 8 dims for the caller's vectors; checked at the end of the test."""
    return open_store()


@pytest.fixture
def data_folder() -> Path:
    """../shared/data, beside the repository; the test is skipped where it is missing."""
    if not DATA.is_dir():
        pytest.skip(
            f"the conversations are not here: no folder {DATA.name} in {DATA.parent.name}/ beside the repository"
        )
    return DATA


@pytest.fixture
def compiled_kernels() -> None:
    """Wait until compiled kernels serve, if they can."""
    from aeon_native import dispatch

    dispatch.start()
    dispatch.wait()


@pytest.fixture
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


@pytest.fixture
def switch_often() -> Iterator[None]:
    """Let threads take turns after a few bytecodes, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)
