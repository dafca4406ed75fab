"""What the package promises of itself: imports go down, importing is light, every public thing says what it does."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import aeon

REPOSITORY = Path(__file__).resolve().parents[2]


def test_imports_go_down_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("importlinter", reason="import-linter is part of the test extra")
    from importlinter.cli import lint_imports

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY))
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = ("numba", "llvmlite", "rich", "pytest", "hypothesis", "http", "urllib.request", "ssl", "multiprocessing")


def test_importing_aeon_imports_nothing_heavy() -> None:
    loaded = run(
        "import numpy, sys; before = set(sys.modules); import aeon; print(*sorted(set(sys.modules) - before))"
    ).split()
    assert "aeon.store" in loaded
    assert [name for name in loaded if name.split(".")[0] in HEAVY or name in HEAVY] == []
    assert len(loaded) < 120, "more modules than a light import has"


def test_a_small_store_is_used_without_a_compiler(tmp_path: Path) -> None:
    code = f"""
import sys, aeon
with aeon.open({str(tmp_path / "agent.aeon")!r}) as store:
    store.remember_many([f"text {{n}}" for n in range(500)])
    assert store.recall("text 7", 1)[0].text == "text 7"
    store.checkpoint()
    print(store.stats().kernels, "numba" in sys.modules)
"""
    assert run(code) == "reference False"


def test_nothing_is_unpickled_or_evaluated() -> None:
    forbidden = {"eval", "exec", "compile", "__import__"}
    for path in (REPOSITORY / "aeon").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in forbidden, f"{path.name}:{node.lineno} calls {node.func.id}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve", "socketserver", "requests"} & set(names), (
                    f"{path.name}:{node.lineno}"
                )


@pytest.mark.parametrize("name", sorted(set(aeon.__all__) - {"__version__"}))
def test_every_public_thing_says_what_it_is(name: str) -> None:
    thing = getattr(aeon, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for attribute, member in vars(thing).items():
            if not attribute.startswith("_") and (callable(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{name}.{attribute}"


def test_every_error_is_one_of_ours() -> None:
    errors = [value for value in vars(aeon.errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(errors) > 15
    for error in errors:
        assert issubclass(error, aeon.AeonError)
        assert error.__name__ in aeon.__all__, f"{error.__name__} cannot be caught by its name"


def test_the_public_names_are_there() -> None:
    for name in aeon.__all__:
        assert hasattr(aeon, name)
