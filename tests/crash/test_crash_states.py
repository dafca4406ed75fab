"""Families A to K on a few workloads: a sample of what `python -m tests.crash.full` does with a million images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.crash.conditions import Judge, judge_all, record
from tests.crash.errors import faults, judge_fault
from tests.crash.images import History, Image
from tests.crash.workloads import make_workload, plan

SEEDS = (0, 1, 2, 3)  # full, normal, off, and float32 rows
IMAGES = 700  # per workload


def spread(history: History, images: int, seed: int) -> Iterator[Image]:
    """About `images` of a history's images, evenly spread over families and points."""
    found = list(history.images("ABCDEF", subsets=6, seed=seed))
    step = max(1, len(found) // images)
    return itertools.islice(found, seed % step, None, step)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_crash_state_recovers_to_a_prefix_of_the_commits(seed: int) -> None:
    workload = make_workload(seed)
    history, states = record(workload)
    judge = Judge(workload, states)
    images = spread(history, IMAGES, seed)
    violations = judge_all(judge, history, images, crash_in_recovery_every=250, kill_every=150)
    assert violations == []
    assert judge.distinct > 400 and set(judge.by_family) == set("ABCDEFGK")


@pytest.mark.parametrize("seed", SEEDS)
def test_every_failing_operation_is_survived(seed: int) -> None:
    workload = make_workload(seed)
    judge = Judge(workload, plan(workload))
    for fault in itertools.islice(faults(workload), seed, None, 41):
        judge_fault(judge, fault)
    assert judge.distinct > 20
