"""What a terminal is shown: widths, wrapping, tables with rich and without, progress that leaves nothing behind."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from aeon.cli import terminal as terminals
from aeon.cli.terminal import Terminal, columns, printable, shorten, wrap
from aeon.cli.values import as_microseconds, from_json, show_bytes, show_count, show_time, to_json


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(terminals, "_has_rich", lambda: False)
    yield


def test_columns_count_what_a_terminal_shows() -> None:
    assert (columns("abc"), columns("日本"), columns("e\u0301"), columns("ünï")) == (3, 4, 1, 3)


@pytest.mark.parametrize(
    "text", ["a b c " * 30, "日本語" * 40, "x" * 300, "", " ", "a\n\nb", "word " + "y" * 70 + " word"]
)
@pytest.mark.parametrize("width", [1, 2, 7, 60])
def test_wrap_fits_and_loses_nothing(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(columns(line) <= max(width, 2) for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)


def test_shorten() -> None:
    assert (shorten("abcdef", 6), shorten("abcdefg", 6), shorten("日本語", 5)) == ("abcdef", "abcde…", "日本…")


def test_printable() -> None:
    assert printable("a\x1b[1m\tb\nc\u202e\ud800\x9b") == "a\\x1b[1m b c\\u202e\\ud800\\x9b"
    assert printable("a\nb", lines=True) == "a\nb"


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1m" in Terminal(out=Tty()).styled("x", "bold")
    assert Terminal(out=io.StringIO()).styled("x", "bold") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal(out=Tty()).styled("x", "bold") == "x"


@pytest.mark.parametrize("rich", [False, True])
def test_tables_are_the_same_with_rich_and_without(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    if rich:
        pytest.importorskip("rich")
        monkeypatch.setattr(terminals, "_has_rich", lambda: True)
    out = Tty()
    Terminal(out=out).table(("n", "name"), [(1, "[red]日本"), (23, "b\x1b")], right=(0,))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert [line.rstrip() for line in plain.splitlines()] == [" n  name", " 1  [red]日本", "23  b\\x1b"]


@pytest.mark.parametrize("rich", [False, True])
def test_progress(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    if rich:
        pytest.importorskip("rich")
        monkeypatch.setattr(terminals, "_has_rich", lambda: True)
    err = Tty()
    with Terminal(out=io.StringIO(), err=err).progress("loading", 10) as progress:
        for done in range(11):
            progress.to(done, note=f"{done} of them")
    assert "loading" in err.getvalue()
    if not rich:
        assert err.getvalue().endswith("\r") and "\n" not in err.getvalue()
    quiet = io.StringIO()
    with Terminal(out=io.StringIO(), err=quiet).progress("loading", 10) as progress:
        progress.to(5)
    assert quiet.getvalue() == ""


def test_a_stream_without_unicode() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    terminal = Terminal(out=out, err=io.StringIO())
    terminal.rule("ünï")
    terminal.line("✓ done")
    terminal.emit({"x": "ünï"})
    terminal.flush()
    assert b"ok done" in raw.getvalue() and b"\\xfcn\\xef" in raw.getvalue() and b'"\\u00fcn\\u00ef"' in raw.getvalue()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1_772_434_081, 1_772_434_081_000_000),
        (1_772_434_081.5, 1_772_434_081_500_000),
        (1_772_434_081_023, 1_772_434_081_023_000),
        (1_772_434_081_023_957, 1_772_434_081_023_957),
        (1_772_434_081_023_957_001, 1_772_434_081_023_957),
        ("1772434081", 1_772_434_081_000_000),
        ("2026-03-02T06:48:01.023957+00:00", 1_772_434_081_023_957),
        ("2026-03-02 07:48:01+01:00", 1_772_434_081_000_000),
        ("2026-03-02", 1_772_409_600_000_000),
        (0, 0),
        (-1, -1_000_000),
    ],
)
def test_times(given: object, expected: int) -> None:
    assert as_microseconds(given) == expected


@pytest.mark.parametrize("given", ["", "noon", "2026-13-01", True, None, float("nan"), float("inf"), [1], "9" * 5000])
def test_no_times(given: object) -> None:
    with pytest.raises(ValueError, match="not a time"):
        as_microseconds(given)


def test_values_for_people() -> None:
    assert (show_time(1_772_434_081_023_957), show_time(1 << 61)) == ("2026-03-02 06:48", f"{1 << 61} us")
    assert (show_bytes(1023), show_bytes(1536), show_bytes(5 << 30)) == ("1023 B", "1.5 KiB", "5.0 GiB")
    assert (show_count(1, "memory"), show_count(2000, "memory"), show_count(0, "line")) == (
        "1 memory",
        "2,000 memories",
        "0 lines",
    )


def test_json_says_everything() -> None:
    msgpack = pytest.importorskip("msgpack")
    value = {
        "b": b"\x00\xff",
        "f": [float("inf"), 1.5],
        "t": msgpack.Timestamp(5, 7),
        "e": msgpack.ExtType(3, b"x"),
        "n": None,
        "looks": [{"$base64": "plain"}, {"$map": {"$map": {"x": {"$float": b"1"}}}}],
    }
    assert from_json(to_json(value)) == value
