"""One store, several parties: embedders and their identity, reopening, read-only followers, other processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeon
from aeon.embedding import embedder_name
from aeon.store import Store

ONES = np.ones(8)


class Letters:
    """An embedder of 26 dims that counts letters; `calls` holds what it was asked."""

    def __init__(self, name: str | None = None) -> None:
        self.calls: list[list[str]] = []
        if name is not None:
            self.name = name

    def __call__(self, texts: list[str]) -> list[list[int]]:
        self.calls.append(texts)
        return [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


# -- embedders --------------------------------------------------------------------------------------------------------


def test_text_in_text_out_with_nothing_installed(path: Path) -> None:
    with aeon.open(path) as store:
        store.remember("Tess moved to Trieste in April.")
        store.remember_many(["The cat sleeps.", "Bread needs flour, water and salt."])
        assert store.recall("where does Tess live since April?", 1)[0].text == "Tess moved to Trieste in April."
        assert store.stats().embedder == aeon.HashEmbedder.name
    with aeon.open(path) as store:
        assert store.recall("flour for bread", 1)[0].id == 3
    with aeon.open(path, read_only=True) as reader:
        assert reader.recall("sleeping cat", 1)[0].id == 2


def test_any_text_has_a_direction_for_the_built_in_embedder(path: Path) -> None:
    with aeon.open(path) as store:
        for text in ("", " ", "\0", "🙂", "ﷺ", "the", "x" * 100_000):
            id_ = store.remember(text)
            assert store.recall(text, 20)[0].score > 0.9
            assert id_ in [hit.id for hit in store.recall(text, 20)]


def test_a_callable_makes_the_vectors(path: Path) -> None:
    letters = Letters("letters-1")
    with aeon.open(path, embed=letters) as store:
        assert (store.atlas.dim, store.stats().embedder) == (26, "letters-1")
        ids = store.remember_many(["banana", "cherry"])
        assert letters.calls[-1] == ["banana", "cherry"], "one call for the batch"
        assert store.recall("nab an", 1)[0].id == ids[0]
        own = store.remember("no call for this one", np.eye(26)[25])
        assert letters.calls[-1] == ["nab an"]
        assert store.recall("zz", 1)[0].id == own
        assert store.remember_many(["no vector"], [None]) == [4]
        assert letters.calls[-1] == ["zz"]


def test_the_embedder_is_told_by_its_name(path: Path, disk: Any) -> None:
    aeon.open(path, embed=Letters("letters-1")).close()
    before = disk(path)
    for other in (Letters("letters-2"), Letters(), lambda texts: np.ones((len(texts), 26)), aeon.HashEmbedder()):
        with pytest.raises(aeon.EmbedderMismatchError, match="made by the embedder 'letters-1'"):
            aeon.open(path, embed=other)
        with pytest.raises(aeon.EmbedderMismatchError, match="made by the embedder 'letters-1'"):
            aeon.open(path, embed=other, read_only=True)
    assert {**disk(path), "LOCK": b""} == {**before, "LOCK": b""}
    aeon.open(path, embed=Letters("letters-1")).close()


def test_an_embedder_for_a_store_of_the_callers_vectors(path: Path) -> None:
    aeon.open(path, 26).close()
    with pytest.raises(aeon.EmbedderMismatchError, match="its caller, who passes them along"):
        aeon.open(path, embed=Letters())


def test_without_its_embedder_a_store_takes_no_bare_text(path: Path) -> None:
    with aeon.open(path, embed=Letters("letters-1")) as store:
        store.remember("banana")
    with aeon.open(path) as store:
        for call in (
            lambda: store.recall("nab"),
            lambda: store.remember("cherry"),
            lambda: store.remember_many(["cherry", "date"]),
        ):
            with pytest.raises(aeon.EmbedderMissingError, match=r"made by 'letters-1': pass embed= to aeon\.open"):
                call()
        assert len(store) == 1
        assert store.recall(np.ones(26), 1)[0].text == "banana"
        store.remember("cherry", np.eye(26)[3])
        store.remember_many(["history only"], [None])
        assert len(store) == 3


def test_an_embedder_that_fails_leaves_the_store_as_it_was(path: Path, state: Any, disk: Any) -> None:
    letters = Letters("letters-1")
    with aeon.open(path, embed=letters, durability="normal") as store:
        store.remember("banana", key="k")
        before, bytes_before = state(store), disk(path)
        answers = {
            "raises": (ConnectionError, None),
            "too few": (aeon.InvalidInputError, lambda n: np.ones((n - 1, 26))),
            "other dims": (aeon.DimensionError, lambda n: np.ones((n, 25))),
            "NaN": (aeon.InvalidInputError, lambda n: np.full((n, 26), np.nan)),
            "zeros": (aeon.InvalidInputError, lambda n: np.zeros((n, 26))),
            "text": (aeon.InvalidInputError, lambda n: ["a"] * n),
            "nothing": (aeon.InvalidInputError, lambda n: None),
            "ragged": (aeon.InvalidInputError, lambda n: [[1.0], [1.0, 2.0]]),
            "beyond float32": (aeon.InvalidInputError, lambda n: np.full((n, 26), 1e300)),
        }
        for name, (error, answer) in answers.items():

            def embed(texts: list[str], name: str = name, answer: Any = answer) -> Any:
                if name == "raises":
                    raise ConnectionError("no model server")
                return answer(len(texts))

            store._embed = embed
            with pytest.raises(error):
                store.remember_many(["cherry", "date"], keys=["k", None])
            with pytest.raises(error):
                store.recall("cherry")
        assert (state(store), disk(path)) == (before, bytes_before)


def test_names_of_embedders() -> None:
    class Unnamed:
        def __call__(self, texts: list[str]) -> Any: ...

    assert embedder_name(Letters("x")) == "x"
    assert embedder_name(Unnamed()).endswith("test_names_of_embedders.<locals>.Unnamed")
    assert embedder_name(Letters("")).endswith(".Letters"), "an empty name is none: it would stand for the caller"
    assert embedder_name(np.linalg.norm) == "numpy.linalg.norm"
    assert embedder_name(aeon.HashEmbedder()) == aeon.HashEmbedder.name


# -- reopening --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("rows", ["int8", "float32"])
def test_a_store_reopens_without_being_told_its_dim(path: Path, state: Any, checkpoint: bool, rows: Any) -> None:
    with aeon.open(path, 8, rows=rows) as store:
        store.remember_many(["a", "b"], np.eye(2, 8), keys=["k", None], session=["x", "y"], metadata={"n": 1})
        store.remember("c", ONES, key="k", refs=[2], parent=2)
        if checkpoint:
            store.checkpoint()
        before = state(store)
    for options in ({}, {"dim": 8}, {"create": False}, {"read_only": True}, {"durability": "normal"}):
        with aeon.open(path, **options) as store:
            assert state(store) == before
            assert (store.stats().rows, store.atlas.dim) == (rows, 8)
            assert store.get_key("k").id == 3


def test_opening_twice_writes_nothing(path: Path, disk: Any) -> None:
    with aeon.open(path, 8) as store:
        store.remember("a", ONES)
        store.checkpoint()
        store.remember("b", ONES)
    before = disk(path)
    for _ in range(2):
        aeon.open(path).close()
        assert {**disk(path), "LOCK": b""} == {**before, "LOCK": b""}


def test_a_relative_path_stays_right_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with aeon.open("agent.aeon", 8) as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.remember("a", ONES)
        store.checkpoint()
        assert store.recall(ONES)[0].text == "a"
    assert (tmp_path / "agent.aeon" / "gen-000001").is_dir()


def test_settings_may_change_from_one_open_to_the_next(path: Path) -> None:
    for n, options in enumerate(
        [
            {"segment_bytes_max": 1024, "segment_growth_bytes": 512},
            {},
            {"segment_bytes_max": 2048},
            {"durability": "off"},
        ]
    ):
        with aeon.open(path, 8, **options) as store:
            assert len(store) == 20 * n
            for m in range(20):
                store.remember(f"{n} {m} " + "x" * 40, ONES)
    with aeon.open(path) as store:
        assert len(store.recall(ONES, 100)) == 80


def test_removing_what_an_interrupted_checkpoint_left_is_reported(path: Path) -> None:
    with aeon.open(path, 8) as store:
        store.remember("a")
        store.checkpoint()
    (path / "gen-000007").mkdir()
    (path / "gen-000007" / "keys.tbl").write_bytes(b"half a table")
    (path / "MANIFEST.new").write_bytes(b"half a manifest")
    with aeon.open(path) as store:
        assert set(store.recovery.files_removed) == {"MANIFEST.new", "gen-000007/keys.tbl"}
        assert store.get(1).text == "a"
    assert not (path / "gen-000007").exists()
    with aeon.open(path) as store:
        assert store.recovery == aeon.Recovery()


def test_a_torn_tail_is_cut_off_and_reported(path: Path) -> None:
    with aeon.open(path, 8) as store:
        store.remember("kept")
        end = store._wal._offset
    log = path / "wal" / "00000001.wal"
    data = bytearray(log.read_bytes())
    data[end : end + 30] = b"half a frame that was written."
    log.write_bytes(data)
    with aeon.open(path, read_only=True) as reader:
        assert reader.recovery.bytes_dropped == 30, "a reader tells, and leaves it"
        assert not reader.check().ok
    with aeon.open(path) as store:
        recovery = store.recovery
        assert (recovery.bytes_dropped, recovery.offset, recovery.memories_replayed) == (30, end, 1)
        assert recovery.segment.endswith("wal/00000001.wal") and "magic" in recovery.reason
        assert store.check().ok
        assert store.remember("next") == 2
    with aeon.open(path) as store:
        assert store.recovery.bytes_dropped == 0
        assert [memory.text for memory in store.history()] == ["kept", "next"]


# -- readers that follow ----------------------------------------------------------------------------------------------


def test_a_reader_sees_what_was_there_and_follows_on_refresh(store: Store, path: Path) -> None:
    store.remember("a", ONES, key="k")
    with aeon.open(path, read_only=True) as reader:
        store.remember("b", ONES, key="k")
        store.remember("c", ONES, session="new")
        assert ([m.text for m in reader.history()], reader.lsn) == (["a"], 1)
        assert reader.get_key("k").text == "a"
        assert reader.refresh() == reader.lsn == reader.durable_lsn == 3
        assert [m.text for m in reader.history()] == ["b"]
        assert [info.name for info in reader.sessions()] == ["default", "new"]
        held = reader.history() + reader.recall(ONES)
        store.forget([2, 3])
        store.checkpoint()
        assert len(reader.recall(ONES)) == 2, "until it is asked to follow"
        assert reader.refresh() == 4
        assert (reader.recall(ONES), len(reader), reader.get_key("k")) == ([], 0, None)
        assert [m.text for m in held] == ["b", "b", "c"]
        assert reader.stats().read_only


def test_a_reader_follows_over_many_checkpoints(store: Store, path: Path, state: Any) -> None:
    with aeon.open(path, read_only=True) as reader:
        for n in range(8):
            store.remember_many([f"{n} a", f"{n} b"], np.eye(2, 8), keys=["k", None])
            if n % 2:
                store.checkpoint()
            if n % 3 == 0:
                store.remember("x" * (1 << 20) + "long")
            reader.refresh()
            assert state(reader) == state(store)
            assert reader.check().ok


def test_a_reader_that_meets_a_checkpoint_starts_over(store: Store, path: Path, hooked_files: Any, state: Any) -> None:
    """The manifest is read, then a checkpoint deletes what it names, then the reader opens that."""
    store.remember("a", ONES)
    store.checkpoint()
    store.remember("b", ONES)
    met = []

    def hook(operation: str, where: str) -> None:
        if operation == "open" and where.endswith("event-deaths.tbl") and len(met) < 3:
            met.append(where)
            store.remember("more", ONES)
            store.checkpoint()

    with aeon.open(path, read_only=True, files=hooked_files(hook)) as reader:
        assert len(met) == 3
        assert state(reader) == state(store)


def test_a_reader_does_not_keep_the_writer_out(path: Path) -> None:
    aeon.open(path, 8).close()
    with aeon.open(path, read_only=True) as one, aeon.open(path, read_only=True) as two, aeon.open(path) as writer:
        writer.remember("a")
        assert (one.refresh(), two.refresh()) == (1, 1)


# -- other processes --------------------------------------------------------------------------------------------------


def run(code: str, *arguments: Any) -> str:
    """Run `code` in another process and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_process_reads_what_this_one_wrote(store: Store, path: Path) -> None:
    store.remember("Grüße aus Triest", ONES, key="k")
    store.checkpoint()
    store.remember("and more", ONES)
    said = run(
        """
        import sys, aeon, numpy
        with aeon.open(sys.argv[1], read_only=True) as reader:
            hits = reader.recall(numpy.ones(8))
            print(ascii([hit.text for hit in hits]), reader.get_key("k").id)
        """,
        path,
    )
    assert said == "['Gr\\xfc\\xdfe aus Triest', 'and more'] 1"


def test_this_process_follows_a_writer_in_another(path: Path) -> None:
    aeon.open(path, 8).close()
    with aeon.open(path, read_only=True) as reader:
        run(
            """
            import sys, aeon, numpy
            with aeon.open(sys.argv[1], segment_bytes_max=1024, segment_growth_bytes=512) as store:
                for n in range(30):
                    store.remember(f"text {n}", numpy.ones(8), session="other process")
                    if n == 20: store.checkpoint()
            """,
            path,
        )
        reader.refresh()
        assert [m.text for m in reader.history("other process")] == [f"text {n}" for n in range(30)]
    with aeon.open(path) as store:
        assert len(store) == 30


def test_a_writer_that_ends_without_close_loses_nothing(path: Path) -> None:
    run(
        """
        import os, sys, aeon, numpy
        store = aeon.open(sys.argv[1], 8, durability="normal")
        for n in range(20):
            store.remember(f"text {n}", numpy.ones(8))
        os._exit(0)
        """,
        path,
    )
    with aeon.open(path) as store:
        assert [m.text for m in store.history()] == [f"text {n}" for n in range(20)]
        assert store.recovery.memories_replayed == 20
        assert store.check().ok


def test_leaving_the_interpreter_with_an_open_store_is_quiet(path: Path) -> None:
    run("import sys, aeon; store = aeon.open(sys.argv[1]); store.remember('a'); store.recall('a')", path)
    with aeon.open(path) as store:
        assert store.recall("a")[0].text == "a"


def test_refreshing_without_news_reads_nothing_anew(tmp_path: Path) -> None:
    path = tmp_path / "agent.aeon"
    with aeon.open(path, segment_bytes_max=1 << 16, background=False) as writer:
        writer.remember("one")
        with aeon.open(path, read_only=True) as reader:
            for change in (
                lambda: writer.remember("two"),
                lambda: writer.checkpoint(),
                lambda: writer.remember("x" * 70_000),
                lambda: [writer.remember("three"), writer.remember("four")],
                lambda: writer.compact(),
            ):
                reader.refresh()
                engine = reader._engine
                assert reader.refresh() == writer.lsn and reader._engine is engine
                change()
                assert reader.refresh() == writer.lsn and reader._engine is not engine
                assert [m.text for m in reader.history()] == [m.text for m in writer.history()]
