"""Loading in the background, its end at any moment, the cache, and what happens without a compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_CACHE = os.devnull + "/nowhere"  # cannot be made: every kernel is compiled


def run(code: str, path: Path = ROOT, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(path), **environment}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=env, cwd=path, capture_output=True, text=True, timeout=timeout)


def told(code: str, path: Path = ROOT, **environment: str) -> dict[str, object]:
    """What a quiet process prints as JSON on its last line."""
    done = run(code, path, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    return dict(json.loads(done.stdout.splitlines()[-1]))


STATUS = """
import json
from aeon_native import dispatch
dispatch.start()
dispatch.wait()
print(json.dumps(dispatch.status()))
"""


def test_importing_does_not_import_numba() -> None:
    code = """
import sys, json
import aeon_native
from aeon_native import dispatch, reference
assert dispatch.kernels is reference and not dispatch.ready() and not dispatch.wait(), "the twins serve at first"
assert dispatch.kernels.crc32c(b"123456789") == 0xE3069283
assert dispatch.status()["state"] == "idle"
print(json.dumps({"numba": any(m.split(".")[0] in ("numba", "llvmlite") for m in sys.modules)}))
"""
    assert told(code) == {"numba": False}


def test_compiled_code_takes_over() -> None:
    code = """
import json, time
from aeon_native import dispatch, reference
dispatch.start(); dispatch.start()
while not dispatch.ready():
    assert dispatch.kernels.crc32c(b"123456789") == 0xE3069283
    time.sleep(0.01)  # the compiler needs the interpreter's lock
from aeon_native import compiled
assert dispatch.wait() and dispatch.kernels is compiled
print(json.dumps(dispatch.status()))
"""
    status = told(code)
    assert (status["mode"], status["state"], status["error"]) == ("compiled", "ready", None)
    assert status["simd"] in ("portable", "avx2", "avx512") and status["cache"] and not status["cache_error"]


def test_the_environment_decides() -> None:
    forced = told(STATUS.replace("dispatch.wait()", "assert dispatch.ready()"), AEON_KERNELS="compiled")
    assert forced["mode"] == "compiled"
    never = told("import sys" + STATUS + "assert 'numba' not in sys.modules", AEON_KERNELS="reference")
    assert (never["mode"], never["state"], never["error"]) == ("reference", "disabled", None)
    wrong = told(STATUS, AEON_SIMD="mmx")
    assert wrong["mode"] == "reference" and "AEON_SIMD is 'mmx'" in str(wrong["error"])


@pytest.mark.parametrize("reason", ("ImportError('no numba here')", "OSError('libLLVM is broken')"))
def test_without_a_compiler_the_twins_serve(tmp_path: Path, reason: str) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(f"raise {reason}")
    (tmp_path / "aeon_native").symlink_to(ROOT / "aeon_native")
    code = STATUS + "assert dispatch.kernels.crc32c(b'123456789') == 0xE3069283"
    for forced in ("", "compiled"):
        status = told(code, tmp_path, AEON_KERNELS=forced)
        assert (status["mode"], status["state"]) == ("reference", "failed")
        assert reason.split("'")[1] in str(status["error"])


# The moments: before numba is imported, within its import, and within the compilation or the loading of each kernel.
@pytest.mark.parametrize(
    ("cache", "moments"),
    [
        (NO_CACHE, (0, 0.03, 0.1, 0.2, 0.35, 0.6, 0.9, 1.3, 1.9, 2.6, 3.5)),
        ("", (0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)),
    ],
    ids=("compiling", "loading"),
)
def test_a_process_may_end_at_any_moment(cache: str, moments: tuple[float, ...]) -> None:
    environment = {"AEON_CACHE_DIR": cache} if cache else {}
    for moment in moments:
        code = (
            f"import time; from aeon_native import dispatch; dispatch.start(); time.sleep({moment}); print(time.time())"
        )
        done = run(code, **environment)
        assert (done.returncode, done.stderr) == (0, ""), (moment, done)
        waited = time.time() - float(done.stdout)
        assert waited < 4, "the exit waits for one pass of the compiler at most"


def test_an_error_in_the_program_stays_its_own() -> None:
    done = run("from aeon_native import dispatch; dispatch.start(); raise SystemExit(7)", AEON_CACHE_DIR=NO_CACHE)
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_loading_is_served_by_the_twins() -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from aeon_native import dispatch
dispatch.start()
child = os.fork()
if child == 0:
    dispatch.start()
    good = not dispatch.wait(20) and dispatch.kernels.crc32c(b"123456789") == 0xE3069283
    os._exit(0 if good and "forked" in dispatch.status()["error"] else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code, AEON_CACHE_DIR=NO_CACHE).returncode == 0


# --- the cache -----------------------------------------------------------------------------------------------------

LOADED = """
import json
from aeon_native import _jit, compiled
print(json.dumps({"cached": sum(c for _, _, c in _jit.compiled), "all": len(_jit.compiled), "error": _jit.cache_error,
                  "directory": str(_jit.cache_directory)}))
"""


def test_two_processes_fill_one_cache_and_damage_costs_only_time(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AEON_CACHE_DIR": str(tmp_path)}
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", LOADED], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in pair:
        out, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, b"") and json.loads(out)["error"] == ""
    third = told(LOADED, AEON_CACHE_DIR=str(tmp_path))
    assert third["cached"] == third["all"]
    directory = Path(str(third["directory"]))
    assert directory.parent == tmp_path and not list(directory.glob("*.tmp.*"))
    if os.name == "posix":
        assert directory.stat().st_mode & 0o077 == 0, "only the owner writes where code is loaded from"

    for pattern, damage in (
        ("*normalize*.nbi", b""),
        ("*dot_f32*.nbi", b"garbage"),
        ("*dot_int8_gil*.nbc", b"\x80\x04garbage"),
    ):
        (file,) = [f for f in directory.glob(pattern) if "rows" not in f.name]
        file.write_bytes(damage)
    (directory / "gone").touch()
    next(iter(directory.glob("*prepare_query*.nbc"))).unlink()
    after = told(LOADED, AEON_CACHE_DIR=str(tmp_path))
    assert after["cached"] == int(str(after["all"])) - 4
    assert told(LOADED, AEON_CACHE_DIR=str(tmp_path))["cached"] == third["all"], "what was damaged has been replaced"


def test_an_edit_in_any_file_is_another_cache(tmp_path: Path) -> None:
    copy = tmp_path / "aeon_native"
    shutil.copytree(ROOT / "aeon_native", copy, ignore=shutil.ignore_patterns("__pycache__"))
    where = "import json; from aeon_native import _jit; print(json.dumps({'d': str(_jit.cache_directory)}))"
    environment = {"AEON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    names = [told(where, tmp_path, **environment)["d"]]
    assert told(where, tmp_path, **environment)["d"] == names[0]
    for file in ("_simd.py", "_jit.py", "scan.py", "reference.py"):
        with (copy / file).open("a") as f:
            f.write("# edited\n")
        names.append(told(where, tmp_path, **environment)["d"])
    names.append(told(where, tmp_path, AEON_SIMD="portable", **environment)["d"])
    assert len(set(names[:-1])) == len(names) - 1
    assert names[-1] not in names[:-1] or told(STATUS)["simd"] == "portable"


def test_where_the_cache_lies(tmp_path: Path) -> None:
    where = "import json; from aeon_native import _jit; print(json.dumps({'d': str(_jit.user_cache_directory())}))"
    assert told(where, AEON_CACHE_DIR=str(tmp_path / "mine"))["d"] == str(tmp_path / "mine")
    if sys.platform != "win32":
        assert told(where, AEON_CACHE_DIR="", XDG_CACHE_HOME=str(tmp_path))["d"] == str(tmp_path / "aeon")
        assert told(where, AEON_CACHE_DIR="", XDG_CACHE_HOME="", HOME=str(tmp_path))["d"] == str(
            tmp_path / ".cache/aeon"
        )


def test_a_cache_that_cannot_be_written_is_no_cache() -> None:
    code = """
import json
from aeon_native import _jit
print(json.dumps({"directory": _jit.cache_directory, "error": _jit.cache_error}))
"""
    found = told(code, AEON_CACHE_DIR=NO_CACHE)
    assert found["directory"] is None and "Error" in str(found["error"])


# --- in this process -----------------------------------------------------------------------------------------------


def test_warm_up_lists_every_kernel() -> None:
    from aeon_native import compiled
    from aeon_native.warm_up import warm_up

    heard: list[tuple[str, float]] = []
    listed = warm_up(lambda name, seconds: heard.append((name, seconds)))
    assert listed == heard and {name for name, _ in listed} == set(compiled.__all__)


def test_threads_do_not_share_scratch_memory() -> None:
    from aeon_native import compiled, reference

    rng = np.random.default_rng(5)
    codes = rng.integers(-127, 128, (3000, 384), dtype=np.int8)
    scales, died, none = np.ones(3000, np.float32), np.zeros(3000, np.uint64), np.empty(0, np.uint8)
    queries = [np.empty(384, np.int16) for _ in range(8)]
    expected = []
    for query in queries:
        assert reference.prepare_query(rng.standard_normal(384).astype(np.float32), query) > 0
        scores, rows = np.empty(10, np.float32), np.empty(10, np.int64)
        count = reference.scan_int8(codes, scales, died, 0, query, 1.0, none, 0, scores, rows, 0)
        reference.finish_topk(scores, rows, count)
        expected.append(rows.tolist())
    wrong: list[int] = []

    def search(j: int) -> None:
        scores, rows = np.empty(10, np.float32), np.empty(10, np.int64)
        for _ in range(100):
            count = compiled.scan_int8(codes, scales, died, 0, queries[j], 1.0, none, 0, scores, rows, 0)
            compiled.finish_topk(scores, rows, count)
            if rows.tolist() != expected[j]:
                wrong.append(j)

    threads = [threading.Thread(target=search, args=(j,)) for j in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
