"""Documents tell the truth: names exist, the sample runs, links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aeon
import aeon_native

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHITECTURE = REPOSITORY / "docs" / "ARCHITECTURE.md"
README = REPOSITORY / "README.md"
_FILES = (".md", ".py", ".tbl", ".arena", ".wal", ".jsonl", ".toml")


def modules() -> dict[str, Any]:
    """Every module of both packages by its dotted name."""
    found: dict[str, Any] = {"aeon": aeon, "aeon_native": aeon_native}
    for package in (aeon, aeon_native):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if info.name not in ("aeon_native.compiled", "aeon.__main__"):  # numba; runs the command line
                found[info.name] = importlib.import_module(info.name)
            else:
                found[info.name] = importlib.util.find_spec(info.name)
    return found


MODULES = modules()


def resolve(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of a module or class of either package, by its last part."""
    if name in MODULES:
        return True
    first, *rest = name.split(".")
    owners = [module for full, module in MODULES.items() if full.rpartition(".")[2] == first or full == first]
    owners += [
        getattr(module, first)
        for full, module in MODULES.items()
        if isinstance(getattr(module, first, None), type) and getattr(module, first).__module__ == full
    ]
    for owner in owners:
        for part in rest:
            annotated = getattr(owner, "__annotations__", {})
            made = isinstance(owner, type) and f"self.{part} =" in inspect.getsource(owner)  # in its __init__
            owner = getattr(owner, part, None) or (object() if part in annotated or made else None)
        if owner is not None:
            return True
    return False


def names_in(document: str) -> list[str]:
    """Dotted code names: in backticks, and in the diagrams of calls."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", document, flags=re.DOTALL))
    for diagram in re.findall(r"```\n(.*?)```", document, re.DOTALL):
        spans += re.findall(r"^\s*([\w.]+)", diagram, re.MULTILINE)
    names = []
    for span in spans:
        names += [
            name
            for name in re.findall(r"(?<![\w/.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", span)
            if not name.endswith(_FILES)
        ]
    return names


def test_every_dotted_name_of_the_architecture_exists() -> None:
    names = names_in(ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(set(names)) > 50
    suites = {name for name in names if name.startswith("tests.")}
    assert all(importlib.util.find_spec(name) for name in suites), suites
    assert [name for name in names if name not in suites and not resolve(name)] == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    assert names_in("`Store.forget_me_not` and\n```\nWal.append   x\n  files.nothing y\n```") == [
        "Store.forget_me_not", "Wal.append", "files.nothing",
    ]  # fmt: skip
    assert not resolve("Store.forget_me_not")
    assert not resolve("files.nothing")
    assert not resolve("nowhere.at_all")
    assert resolve("Wal.append") and resolve("aeon.files.FileSystem") and resolve("Options.checkpoint_log_bytes")


def test_every_class_named_alone_exists() -> None:
    text = re.sub(r"```.*?```", "", ARCHITECTURE.read_text(encoding="utf-8"), flags=re.DOTALL)
    classes = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", text))
    assert {"Engine", "View", "Trace", "Atlas"} <= classes
    assert [
        name for name in classes if not any(isinstance(getattr(m, name, None), type) for m in MODULES.values())
    ] == []


def test_the_two_paths_are_the_calls_that_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hop of the diagrams is really taken, in that order, inside the one before."""
    import numpy as np

    from aeon import atlas, files, recall, store, wal
    from aeon_native import dispatch, reference

    calls: list[str] = []

    def watch(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(label)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    monkeypatch.setattr(dispatch, "kernels", reference)
    with aeon.open(tmp_path / "agent.aeon", 8) as opened:
        watch(store.Store, "remember", "Store.remember")
        watch(wal.Wal, "append", "Wal.append")
        watch(wal, "write_fully", "files.write_fully")
        watch(files.OsFile, "pwrite", "File.pwrite")
        watch(wal.Wal, "sync", "Wal.sync")
        watch(files.OsFile, "fdatasync", "File.fdatasync")
        watch(store.Engine, "apply", "Engine.apply")
        opened.remember("a", np.ones(8))
        written, calls[:] = list(calls), []
        watch(store.Store, "recall", "Store.recall")
        watch(store, "recall", "recall.recall")
        watch(atlas.Atlas, "search_ids", "Atlas.search_ids")
        watch(reference, "scan_int8", "Kernels.scan_int8")
        assert recall is not None
        opened.recall(np.ones(8))
    text = ARCHITECTURE.read_text(encoding="utf-8")
    diagrams = [
        re.findall(r"^\s*([A-Za-z]+\.\w+)", diagram, re.MULTILINE)
        for diagram in re.findall(r"```\n(.*?)```", text, re.DOTALL)
    ]
    assert written == [*diagrams[0], "Wal.sync", "File.fdatasync", "Engine.apply"]
    assert calls[:4] == diagrams[1]


@pytest.mark.parametrize(
    "document", sorted(REPOSITORY.glob("*.md")) + sorted(REPOSITORY.glob("docs/**/*.md")), ids=lambda p: p.name
)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readmes_sample_runs(tmp_path: Path) -> None:
    if not README.is_file():
        pytest.skip("no README.md")
    samples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert samples, "a README without a sample"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", samples[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Trieste" in run.stdout
    assert (tmp_path / "agent.aeon" / "MANIFEST").is_file()


def test_the_readmes_episodes_run(tmp_path: Path) -> None:
    samples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", samples[1]],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "['It rained all night.', 'We take the train.']",
        "because of ['It rained all night.']",
        run.stdout.splitlines()[2],
    ]
    assert "A wet walk." in run.stdout


def test_the_readmes_conversation_runs(tmp_path: Path) -> None:
    samples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (sample,) = [sample for sample in samples if "asked_in" in sample]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", sample],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["exact Two rooms are enough.", run.stdout.splitlines()[1], "0.5"]


def test_the_packages_own_sample_runs(tmp_path: Path) -> None:
    sample = re.search(r"((?:^    .*\n|^\n)+)", aeon.__doc__ or "", re.MULTILINE)
    assert sample is not None
    code = "\n".join(line[4:] for line in sample[1].splitlines())
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Tess moved to Trieste in April." in run.stdout
