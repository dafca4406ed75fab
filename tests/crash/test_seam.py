"""Nothing reaches the store's directory but through `aeon.files`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import aeon
from tests.crash.backends import STORE, RecordingFileSystem
from tests.crash.workloads import DIM, Runner, make_workload, short_texts_inline

REPOSITORY = Path(__file__).resolve().parents[2]
_WATCHED = (
    "open",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
    "mmap.__new__",
)
_SCRIPT = """
import sys
from aeon.files import OsFileSystem
from tests.crash import workloads
from tests.crash.workloads import Runner, make_workload, short_texts_inline, small_index
workloads.STORE = sys.argv[1]
with short_texts_inline(), small_index():
    runner = Runner(make_workload(0), OsFileSystem())
    runner.run()
    runner.store.close()
"""


@contextmanager
def watched(folder: str, seen: list[tuple[str, str]]) -> Iterator[None]:
    """Note each operation on a path in `folder` with the source file that did it: the nearest frame of Python code."""
    thread = threading.get_ident()
    active = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not active[0] or threading.get_ident() != thread or event not in _WATCHED:
            return
        paths = [os.fspath(a) for a in arguments[:2] if isinstance(a, (str, os.PathLike))]
        if any(str(path).startswith(folder) for path in paths):
            frame: FrameType | None = sys._getframe(1)
            seen.append((event, frame.f_code.co_filename if frame is not None else ""))

    sys.addaudithook(hook)  # hooks cannot be taken away again: this one goes to sleep
    try:
        yield
    finally:
        active[0] = False


def test_every_operation_on_the_directory_comes_from_the_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aeon.files import OsFileSystem
    from tests.crash import workloads

    store = str(tmp_path / "agent.aeon")
    monkeypatch.setattr(workloads, "STORE", store)
    seen: list[tuple[str, str]] = []
    with watched(store, seen):
        runner = Runner(make_workload(0), OsFileSystem())
        runner.run()
        assert runner.store is not None
        runner.store.check()
        runner.store.close()
    assert {event for event, _ in seen} >= {"open", "os.rename", "os.remove", "os.mkdir"}
    seam = str(REPOSITORY / "aeon" / "files.py")
    assert {source for _, source in seen} == {seam}


def test_a_store_in_memory_leaves_no_file_anywhere(tmp_path: Path) -> None:
    """With another file system behind the seam the operating system's files see nothing of a store."""
    seen: list[tuple[str, str]] = []
    with watched(STORE, seen):
        runner = Runner(make_workload(1), RecordingFileSystem())
        runner.run()
        assert runner.store is not None
        runner.store.close()
    assert seen == [] and not os.path.exists(STORE)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_under_strace_each_change_of_the_directory_is_one_that_the_seam_was_asked_for(tmp_path: Path) -> None:
    """Counts of writes, truncations, renames and unlinks on the store's files equal those that a recording seam logs."""
    trace, store = tmp_path / "trace", tmp_path / "agent.aeon"
    calls = "openat,open,creat,write,writev,pwrite64,pwritev,truncate,ftruncate,rename,renameat,renameat2,unlink,unlinkat,rmdir"
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"strace cannot trace here: {probe.stderr.decode(errors='replace').strip()[:100]}")
    subprocess.run(
        ["strace", "-f", "-yy", "-s", "0", "-e", f"trace={calls}", "-o", str(trace), sys.executable, "-c", _SCRIPT, str(store)],
        cwd=REPOSITORY, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    lines = [line for line in trace.read_text(errors="replace").splitlines() if str(store) in line]
    counted = {
        "write": sum(1 for line in lines if re.search(r"\bp?writev?(64)?\(", line) and "/LOCK>" not in line),
        "truncate": sum(1 for line in lines if re.search(r"\bf?truncate\(", line) and "/LOCK>" not in line),
        "rename": sum(1 for line in lines if re.search(r"\brename(at2?)?\(", line)),
        "unlink": sum(1 for line in lines if re.search(r"\b(unlink(at)?|rmdir)\(", line)),
    }
    files = RecordingFileSystem()
    with short_texts_inline():
        runner = Runner(make_workload(0), files)
        runner.run()
        assert runner.store is not None
        runner.store.close()
    expected = {kind: sum(1 for entry in files.log if entry.kind == kind) for kind in counted}
    assert counted == expected


def test_the_watch_sees_what_goes_past_the_seam(tmp_path: Path) -> None:
    """A watch that cannot see proves nothing."""
    path = tmp_path / "agent.aeon"
    seen: list[tuple[str, str]] = []
    with watched(str(path), seen), aeon.open(path, DIM):
        with open(path / "stray", "w") as file:
            file.write("past the seam")
        os.remove(path / "stray")
    assert {event for event, source in seen if source == __file__} == {"open", "os.remove"}
