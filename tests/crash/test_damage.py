"""Family I on a sample: bytes changed, files cut short, neighbours swapped. `python -m tests.crash.full` does every byte."""

from __future__ import annotations

import numpy as np
import pytest

import aeon
from aeon.format import FileKind
from aeon_native import dispatch
from tests.crash.backends import STORE, MemoryFileSystem
from tests.crash.damage import Findings, Specimen, flips, judge_damage, make_specimen, swaps, truncations


@pytest.fixture(scope="module", params=["int8", "float32"])
def specimen(request: pytest.FixtureRequest) -> Specimen:
    from tests.crash.workloads import short_texts_inline, small_index

    with short_texts_inline(), small_index():
        return make_specimen(request.param)


def test_the_specimen_has_every_kind_of_file(specimen: Specimen) -> None:
    names = {path.rpartition("/")[2].partition(".")[0] for path in specimen.contents}
    without = set() if dispatch.status()["mode"] == "compiled" else {"pages"}  # the twins make none
    kinds = {kind.name.lower().replace("_", "-") for kind in FileKind if kind != FileKind.SALIENCE} - without
    assert names >= {"MANIFEST", "SALIENCE", *kinds} and sum(path.endswith(".wal") for path in specimen.contents) >= 2
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


def test_damage_found_at_run_time_is_an_error_and_the_rest_stays_readable() -> None:
    """A row, a blob and the pages, damaged behind the back of a store that has been checkpointed (docs/decisions/0007)."""
    files = MemoryFileSystem()
    vectors = [[1.0, n - 20.0, (n * 7) % 5 - 2.0, (n * 3) % 7 - 3.0] for n in range(40)]
    with aeon.open(STORE, 4, files=files) as store:
        store.remember_many([f"memory {n}" for n in range(40)], vectors)
        store.atlas.settle()
        store.checkpoint()
    pages = f"{STORE}/gen-000001/pages.tbl"
    indexed = files.exists(pages)
    for name, offset in (("codes.arena", 4096 + 64 * 17), ("blobs.arena", 64 + 17 * 80 + 70), ("pages.tbl", 900)):
        path = f"{STORE}/gen-000001/{name}"
        if not files.exists(path):
            continue
        damaged = files.clone()
        data = bytearray(files.read_file(path))
        data[offset] ^= 0x40
        damaged.write_file(path, bytes(data))
        with aeon.open(STORE, 4, files=damaged) as store:
            assert store.atlas.settle() == indexed
            refused = set()
            for n in range(40):
                try:
                    ids, scores = store.atlas.search(vectors[n], 2)
                    texts = [store.get(int(id_)).text for id_ in ids[0]]
                except aeon.CorruptionError as error:
                    assert error.path.endswith(name)
                    refused.add(n)
                else:
                    assert texts == [f"memory {id_ - 1}" for id_ in ids[0]]
                    for id_, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True):
                        cosine = np.dot(vectors[id_ - 1], vectors[n]) / np.linalg.norm(vectors[id_ - 1])
                        assert abs(cosine / np.linalg.norm(vectors[n]) - score) < 0.01
            assert len(refused) < 12, "the rest stays readable"
            if name == "codes.arena":
                with pytest.raises(aeon.CorruptionError):
                    store.atlas.search(vectors[0], 2, exact=True)
            assert not store.check().ok
