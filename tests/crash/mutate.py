"""Put each mutant into a copy of aeon and run the crash suite on it: a mutant that passes is a hole in the suite.

    python -m tests.crash.mutate [--only TEXT] [--jobs 2]

`caught.json` says which test caught each mutant last; it is run first, alone, and the whole suite if it passes this time.
The file is written anew by every pass. Exit code 1 if a mutant survives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.crash.mutants import MUTANTS, Mutant

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = (
    "unit/test_atlas.py::test_a_checkpoint_hands_the_index_over_unless_rows_were_renumbered",
    "unit/test_atlas.py::test_an_index_that_is_being_made_goes_along_to_the_next_generation",
    "crash/test_defects.py",
    "crash/test_crash_states.py",
    "crash/test_damage.py",
    "crash/test_copies.py",
    "crash/test_repair.py",
    "crash/test_repair_graph.py",
    "concurrency/test_upkeep_threads.py",
    "unit/test_log_follower.py",
)
CAUGHT = Path(__file__).with_name("caught.json")
_LIKELIEST = {  # for a mutant that is new: the file that most likely sees it comes first; all of them run if none does
    **dict.fromkeys(("backups", "staging"), "crash/test_copies.py"),
    **dict.fromkeys(("repairing", "salvage", "salvage_blobs", "salvage_log"), "crash/test_repair_graph.py"),
    **dict.fromkeys(("blob_arena", "check", "graph", "salience", "time_blocks", "trace"), "crash/test_damage.py"),
    "log_follower": "unit/test_log_follower.py",
    **dict.fromkeys(("generation_files", "manifest", "rows"), "crash/test_damage.py"),
}
_SECONDS_MAX = 900  # a mutant that hangs is caught


def run_suite(folder: Path, tests: Sequence[str] = SUITE) -> tuple[bool, str]:
    """Run `tests` of the copy in `folder`; (whether they passed, the one that failed, or how pytest ended)."""
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", "-o", "timeout=0", "--tb=no",
        *(str(folder / "tests" / name) for name in tests),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True,
            timeout=_SECONDS_MAX, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, "it hung"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    why = failed[0].split(" - ")[0].partition("tests/")[2] if failed else done.stdout[-200:]
    return done.returncode == 0, why


def copy_repository(folder: Path) -> None:
    """Copy what the suite needs."""
    for name in ("aeon", "aeon_native", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


def judge(mutant: Mutant, last: str) -> tuple[Mutant, bool, str, float]:
    """Whether the suite catches the mutant, by what, in how many seconds; `last` is the test that did it before, if any."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_repository(folder)
        path = folder / "aeon" / f"{mutant.file}.py"
        source = path.read_text(encoding="utf-8")
        if source.count(mutant.old) != 1:
            return mutant, False, f"its old text stands {source.count(mutant.old)} times in {path.name}", 0.0
        path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
        passed, why = run_suite(folder, [last]) if last else (True, "")
        if passed or "::" not in why:  # not by that test, or there is none of that name any more
            first = _LIKELIEST.get(mutant.file, SUITE[0])
            passed, why = run_suite(folder, sorted(SUITE, key=first.__ne__))
    return mutant, not passed, why, time.perf_counter() - begin


def main(arguments: list[str] | None = None) -> int:
    """Run the mutants; print a table; 0 if each was caught."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.mutate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutants whose name or file holds this text")
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:  # a suite that fails without any mutant would "catch" them all
        copy_repository(Path(name))
        passed, why = run_suite(Path(name))
    if not passed:
        print(f"the suite fails on aeon as it is: {why}")
        return 2
    mutants = [mutant for mutant in MUTANTS if chosen.only in mutant.name or chosen.only == mutant.file]
    by = json.loads(CAUGHT.read_text(encoding="utf-8")) if CAUGHT.exists() else {}
    survived = 0
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for mutant, caught, why, seconds in pool.map(lambda mutant: judge(mutant, by.get(mutant.name, "")), mutants):
            verdict = "caught  " if caught else "SURVIVED"
            print(f"{verdict} {mutant.file:16} {mutant.name} ({why}, {seconds:.0f} s)", flush=True)
            survived += not caught
            by[mutant.name] = why if caught else ""
            lasting = {mutant.name: by[mutant.name] for mutant in MUTANTS if "::" in by.get(mutant.name, "")}
            CAUGHT.write_text(json.dumps(lasting, indent=1) + "\n", encoding="utf-8")
    print(f"{len(mutants) - survived} of {len(mutants)} mutants caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
