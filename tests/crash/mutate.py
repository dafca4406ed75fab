"""Put each mutant into a copy of aeon and run the crash suite on it: a mutant that passes is a hole in the suite.

    python -m tests.crash.mutate [--only TEXT] [--jobs 2] [--json FILE]

Exit code 1 if one survives.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.crash.mutants import MUTANTS, Mutant

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = (
    "test_defects.py",
    "test_crash_states.py",
    "test_damage.py",
    "test_copies.py",
    "test_repair.py",
    "test_repair_graph.py",
)
_LIKELIEST = {  # the file that most likely sees a mutant of a module comes first; all of them run if none does
    **dict.fromkeys(("backups", "staging"), "test_copies.py"),
    **dict.fromkeys(("repairing", "salvage", "salvage_blobs", "salvage_log"), "test_repair_graph.py"),
    **dict.fromkeys(("blob_arena", "check", "graph", "salience", "time_blocks", "trace"), "test_damage.py"),
}
_SECONDS_MAX = 900  # a mutant that hangs is caught


def run_suite(folder: Path, first: str = SUITE[0]) -> tuple[bool, str]:
    """Run the crash suite of the copy in `folder`; (whether it passed, the line that says what failed)."""
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "timeout=0", "--tb=no",
        *(str(folder / "tests" / "crash" / name) for name in sorted(SUITE, key=first.__ne__)),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True,
            timeout=_SECONDS_MAX, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, "it hung"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, failed[0].split(" - ")[0] if failed else done.stdout[-200:]


def copy_repository(folder: Path) -> None:
    """Copy what the suite needs."""
    for name in ("aeon", "aeon_native", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


def judge(mutant: Mutant) -> tuple[Mutant, bool, str, float]:
    """Whether the suite catches the mutant, by what, in how many seconds."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_repository(folder)
        path = folder / "aeon" / f"{mutant.file}.py"
        source = path.read_text(encoding="utf-8")
        if source.count(mutant.old) != 1:
            return mutant, False, f"its old text stands {source.count(mutant.old)} times in {path.name}", 0.0
        path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
        passed, why = run_suite(folder, _LIKELIEST.get(mutant.file, SUITE[0]))
    return mutant, not passed, why, time.perf_counter() - begin


def main(arguments: list[str] | None = None) -> int:
    """Run the mutants; print a table; 0 if each was caught."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.mutate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutants whose name or file holds this text")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", default="")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:  # a suite that fails without any mutant would "catch" them all
        copy_repository(Path(name))
        passed, why = run_suite(Path(name))
    if not passed:
        print(f"the suite fails on aeon as it is: {why}")
        return 2
    mutants = [mutant for mutant in MUTANTS if chosen.only in mutant.name or chosen.only == mutant.file]
    rows = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for mutant, caught, why, seconds in pool.map(judge, mutants):
            rows.append(
                {"mutant": mutant.name, "file": mutant.file, "caught": caught, "by": why, "seconds": round(seconds)}
            )
            print(
                f"{'caught  ' if caught else 'SURVIVED'} {mutant.file:16} {mutant.name} ({why}, {seconds:.0f} s)",
                flush=True,
            )
    caught = sum(1 for row in rows if row["caught"])
    print(f"{caught} of {len(rows)} mutants caught")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
