"""The list of mutants fits the code. `python -m tests.crash.mutate` runs the suite on each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.crash.mutants import MUTANTS, Mutant

AEON = Path(__file__).resolve().parents[2] / "aeon"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_changes_exactly_one_place_and_still_parses(mutant: Mutant) -> None:
    source = (AEON / f"{mutant.file}.py").read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    changed = source.replace(mutant.old, mutant.new)
    assert changed != source
    ast.parse(changed)


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
