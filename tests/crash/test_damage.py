"""Family I on a sample: bytes changed, files cut short, neighbours swapped. `python -m tests.crash.full` does every byte."""

from __future__ import annotations

import pytest

from aeon.format import FileKind
from aeon_native import dispatch
from tests.crash.damage import Findings, Specimen, flips, judge_damage, make_specimen, swaps, truncations


@pytest.fixture(scope="module", params=["int8", "float32"])
def specimen(request: pytest.FixtureRequest) -> Specimen:
    from tests.crash.workloads import short_texts_inline, small_index

    with short_texts_inline(), small_index():
        return make_specimen(request.param)


def test_the_specimen_has_every_kind_of_file(specimen: Specimen) -> None:
    names = {path.rpartition("/")[2].partition(".")[0] for path in specimen.contents}
    without = {"time-blocks", "salience"}  # those come with thousands of rows, and with recalls
    without |= set() if dispatch.status()["mode"] == "compiled" else {"pages"}  # the twins make none
    kinds = {kind.name.lower().replace("_", "-") for kind in FileKind} - without
    assert names >= {"MANIFEST", *kinds} and sum(path.endswith(".wal") for path in specimen.contents) >= 2
    assert sum(len(data) for data in specimen.contents.values()) < 30_000


def test_no_changed_byte_gives_a_wrong_answer(specimen: Specimen) -> None:
    findings = Findings()
    for damage, data in flips(specimen, step=17, first=5):
        judge_damage(specimen, damage, data, findings)
    assert findings.violations == []
    assert findings.refused and findings.reported


def test_no_changed_byte_of_the_manifest_goes_unnoticed(specimen: Specimen) -> None:
    findings = Findings()
    for damage, data in flips(specimen):
        if damage.path.endswith("MANIFEST") and damage.kind == "xor 01":
            judge_damage(specimen, damage, data, findings)
    assert findings.violations == []
    assert findings.refused == findings.tested > 300


def test_no_shorter_file_gives_a_wrong_answer(specimen: Specimen) -> None:
    findings = Findings()
    for damage, data in truncations(specimen, step=19, first=3):
        judge_damage(specimen, damage, data, findings)
    assert findings.violations == []
    assert findings.refused and findings.reported


def test_no_swapped_neighbours_give_a_wrong_answer(specimen: Specimen) -> None:
    findings = Findings()
    for damage, data in swaps(specimen):
        judge_damage(specimen, damage, data, findings)
    assert findings.violations == []
    assert findings.refused and findings.reported
