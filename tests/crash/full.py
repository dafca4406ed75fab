"""The full set of crash images, faults and damage, in one command.

    python -m tests.crash.full --images 1000000 --workloads 20 --jobs 2 --json summary.json

Workloads are made from seeds, `--seed` on; every violation names its seed and image, so that it can be built again. Ends with
exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections import Counter
from typing import Any

from aeon_native import dispatch
from tests.crash.conditions import Judge, Violation, judge_all, record
from tests.crash.damage import Findings, flips, judge_damage, make_specimen, swaps, truncations
from tests.crash.errors import faults, judge_fault
from tests.crash.repairs import Repairs, deletions, judge_files, judge_repair, several
from tests.crash.workloads import make_workload, plan, short_texts_inline, small_index

_PASSES_MAX = 60  # of family C with new seeds, before a workload has nothing new to offer
DAMAGE_PARTS = 8


def crash_task(seed: int, share: int) -> dict[str, Any]:
    """All families over one workload, then more of family C until `share` distinct images were judged."""
    workload = make_workload(seed)
    history, states = record(workload)
    judge = Judge(workload, states)
    # Three in five images differ from each other, and some thousand of those after a kill at one point: half and half.
    wanted, total = share, sum(1 for _ in history.images("ABCDEF", 50, seed))
    images = (
        image
        for n, image in enumerate(history.images("ABCDEF", 50, seed))
        if n * wanted // total < (n + 1) * wanted // total
    )
    kill_every = max(1, len(history.log) // max(1, share // 3500))
    violations = judge_all(judge, history, images, crash_in_recovery_every=40, kill_every=kill_every)
    for again in range(1, _PASSES_MAX):
        before = judge.distinct
        if before >= share:
            break
        violations += judge_all(judge, history, history.images("C", 100, seed + 1000 * again))
        if judge.distinct - before < 200:
            break
    return {
        "tested": judge.tested, "distinct": judge.distinct, "recovered": judge.recovered, "families": judge.by_family,
        "commits": len(states) - 1, "operations": len(history.log), "durability": workload.durability, "violations": violations,
    }  # fmt: skip


def fault_task(seed: int, every: int) -> dict[str, Any]:
    """Every (or every so many-th) fault of one workload."""
    workload = make_workload(seed)
    judge = Judge(workload, plan(workload))
    violations, count = [], 0
    for fault in itertools.islice(faults(workload), seed % every, None, every):
        count += 1
        try:
            judge_fault(judge, fault)
        except Violation as violation:
            violations.append(str(violation))
    return {
        "tested": judge.tested, "distinct": judge.distinct, "recovered": judge.recovered, "families": judge.by_family,
        "faults": count, "violations": violations,
    }  # fmt: skip


def damage_task(rows: str, part: int, every: int) -> dict[str, Any]:
    """One part of the damage sweep."""
    specimen = make_specimen(rows)
    findings = Findings()
    damages = itertools.chain(flips(specimen), truncations(specimen), swaps(specimen))
    for damage, data in itertools.islice(damages, part, None, DAMAGE_PARTS * every):
        judge_damage(specimen, damage, data, findings)
    return {
        "damaged": findings.tested, "refused": findings.refused, "reported": findings.reported,
        "padding": len(findings.unnoticed), "violations": findings.violations,
    }  # fmt: skip


def repair_task(rows: str, part: int, every: int) -> dict[str, Any]:
    """One part of the repairs: after the same damage, each file gone, and several files damaged at once."""
    specimen = make_specimen(rows)
    repairs = Repairs()
    gone = ((damage, None) for damage in deletions(specimen))
    damages = itertools.chain(flips(specimen), truncations(specimen), swaps(specimen))
    for damage, data in itertools.islice(itertools.chain(gone, damages), part, None, DAMAGE_PARTS * every):
        judge_repair(specimen, damage, data, repairs)
    for seed in range(part, 20_000 // every, DAMAGE_PARTS):
        files, what = several(specimen, seed)
        judge_files(specimen, files, what, repairs, None)
    return {
        "repaired": repairs.tested, "repaired whole": repairs.whole, "repaired with losses": repairs.lossy,
        "violations": repairs.violations,
    }  # fmt: skip


def run_task(task: tuple[str, tuple[Any, ...]]) -> tuple[str, tuple[Any, ...], float, dict[str, Any]]:
    """Carry out one task in a worker."""
    name, arguments = task
    begin = time.perf_counter()
    with short_texts_inline(), small_index():
        found = {"crash": crash_task, "faults": fault_task, "damage": damage_task, "repair": repair_task}[name](
            *arguments
        )
    return name, arguments, time.perf_counter() - begin, found


def start_worker() -> None:
    """Each worker waits for its own compiled kernels."""
    dispatch.start()
    dispatch.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run everything; print a summary; 0 if there is no violation."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.full", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000, help="distinct crash images to judge, at least")
    parser.add_argument("--workloads", type=int, default=20, help="seeded workloads, at least")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--fault-workloads", type=int, default=6, help="workloads whose every fault is injected")
    parser.add_argument("--every", type=int, default=1, help="of faults and damage, take every so many-th only")
    parser.add_argument(
        "--only", default="", choices=("", "crash", "faults", "damage", "repair"), help="only these tasks"
    )
    parser.add_argument("--json", default="", help="write the summary here as well")
    chosen = parser.parse_args(arguments)
    share = -(-chosen.images // chosen.workloads)
    begin = time.perf_counter()
    tasks: list[tuple[str, tuple[Any, ...]]] = [("crash", (chosen.seed + n, share)) for n in range(chosen.workloads)]
    tasks += [("faults", (chosen.seed + n, chosen.every)) for n in range(chosen.fault_workloads)]
    tasks += [("damage", (rows, part, chosen.every)) for rows in ("int8", "float32") for part in range(DAMAGE_PARTS)]
    tasks += [("repair", (rows, part, chosen.every)) for rows in ("int8", "float32") for part in range(DAMAGE_PARTS)]
    if chosen.only:
        tasks = [task for task in tasks if task[0] == chosen.only]
    totals: Counter[str] = Counter()
    families: Counter[str] = Counter()
    violations: list[str] = []
    seeds: list[int] = []
    context = multiprocessing.get_context("spawn")

    def count(name: str, given: tuple[Any, ...], seconds: float, found: dict[str, Any]) -> None:
        violations.extend(found.pop("violations"))
        families.update(found.pop("families", {}))
        totals.update({key: value for key, value in found.items() if isinstance(value, int)})
        totals[f"{name} tasks"] += 1
        if name == "crash":
            seeds.append(given[0])
        print(
            f"{time.perf_counter() - begin:7.0f} s  {name} {given}: {found} in {seconds:.0f} s; "
            f"so far {totals['distinct']:,} distinct images, {len(violations)} violations",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    with context.Pool(chosen.jobs, start_worker) as pool:
        for result in pool.imap_unordered(run_task, tasks):
            count(*result)
        extra = chosen.seed + chosen.workloads
        while totals["distinct"] < chosen.images and chosen.only in (
            "",
            "crash",
        ):  # some workloads have fewer states than their share
            more = [("crash", (extra + n, share)) for n in range(chosen.jobs)]
            extra += chosen.jobs
            for result in pool.imap_unordered(run_task, more):
                count(*result)
    seconds = time.perf_counter() - begin
    summary = {
        "images": totals["tested"], "distinct images": totals["distinct"], "recovered stores": totals["recovered"],
        "families": dict(sorted(families.items())), "workloads": len(seeds), "seeds": sorted(seeds),
        "faults injected": totals["faults"], "files damaged": totals["damaged"], "damage refused at open": totals["refused"],
        "repaired": totals["repaired"], "repaired whole": totals["repaired whole"],
        "repaired with losses": totals["repaired with losses"], "damage reported": totals["reported"],
        "damage in padding": totals["padding"], "seconds": round(seconds),
        "images per second": round(totals["tested"] / seconds), "violations": violations,
    }  # fmt: skip
    if chosen.json:
        with open(chosen.json, "w", encoding="utf-8") as file:
            json.dump(summary, file, indent=1)
    for name, value in summary.items():
        if name != "violations":
            print(f"| {name} | {value} |")
    for violation in violations[:20]:
        print(f"VIOLATION {violation[:2000]}")
    print(f"{len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
