"""What a command shows: text, tables and progress. With rich, and on a terminal, they are rich's; else plain text.

A command gets one `Terminal` and prints through nothing else. Results go to stdout, what is about the work (progress,
notes, errors) to stderr. Whatever comes out of a store is made printable first: a memory may hold escape sequences.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from aeon.cli.values import to_json

WIDTH_MAX = 100  # longer lines are hard to read, however wide the terminal
WIDTH_MIN = 40
_PROGRESS_INTERVAL_S = 0.1
_STYLES = {"bold": "1", "dim": "2", "good": "32", "bad": "31", "name": "36", "title": "1;36"}

# C0, C1, marks that turn the direction of text, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ASCII = {"✓": "ok", "✗": "!!", "→": "->", "·": "-", "…": "...", "─": "-", "▸": ">", "×": "x"}


def printable(text: str, *, lines: bool = False) -> str:
    """Return text without anything that moves a cursor: control characters become escapes, white space a blank.

    lines : keep line ends.
    """

    def shown(match: re.Match[str]) -> str:
        character = match.group()
        if character == "\n" and lines:
            return character
        if character in "\t\n\r":
            return " "
        return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"

    return _UNPRINTABLE.sub(shown, text)


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_character_columns(character) for character in text)


def _character_columns(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` columns, at blanks where there are any."""
    lines = []
    for paragraph in text.split("\n"):
        line, used = "", 0
        for word in paragraph.split(" "):
            room = columns(word)
            if used and used + 1 + room > width:
                lines.append(line)
                line, used = "", 0
            while room > width:  # a word that fits no line: CJK, a URL
                head = _cut(word, width)
                lines.append(head)
                word = word[len(head) :]
                room = columns(word)
            line, used = (f"{line} {word}", used + 1 + room) if used else (word, room)
        lines.append(line)
    return lines


def shorten(text: str, width: int) -> str:
    """Cut `text` to `width` columns, with an ellipsis if something is lost."""
    return text if columns(text) <= width else f"{_cut(text, width - 1)}…"


def _cut(text: str, width: int) -> str:
    """The longest beginning of `text` that fits, at least one character."""
    used = 0
    for end, character in enumerate(text):
        used += _character_columns(character)
        if used > width:
            return text[: max(1, end)]
    return text


class Progress(Protocol):
    """A long work in progress."""

    def to(self, done: int, *, note: str = "") -> None:
        """Say how much is done, in the units of the total."""
        ...


class Terminal:
    """Where a command prints.

    Parameters
    ----------
    as_json : results are JSON, one document a line; nothing else goes to `out`.
    """

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self.out = out if out is not None else sys.stdout
        self.err = err if err is not None else sys.stderr
        self.interactive = _is_terminal(self.out)
        self.width = (
            max(WIDTH_MIN, min(shutil.get_terminal_size().columns, WIDTH_MAX)) if self.interactive else WIDTH_MAX
        )
        self._colour = self.interactive and _wants_colour()
        for stream in (self.out, self.err):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:  # a code page without some character is no reason to fail
                reconfigure(errors="backslashreplace")
        self._unicode = _is_unicode(self.out)

    # -- results ------------------------------------------------------------------------------------------------

    def emit(self, value: Any) -> None:
        """Print one JSON document on one line."""
        text = json.dumps(to_json(value), ensure_ascii=not self._unicode, separators=(", ", ": "))
        self.out.write(f"{text}\n")

    def line(self, text: str = "") -> None:
        """Print one line as it is; `text` is printable and styled already."""
        self.out.write(f"{self._encodable(text)}\n")

    def text(self, text: str, *, indent: int = 0, style: str = "", fill: bool = False) -> None:
        """Print a paragraph: wrapped on a terminal; in a pipe as it is, unless `fill` wraps it there too."""
        shown = printable(text, lines=True)
        rows = wrap(shown, self.width - indent) if self.interactive or fill else shown.split("\n")
        for row in rows:
            self.line(" " * indent + self.styled(row, style))

    def styled(self, text: str, style: str) -> str:
        """Return `text` in bold, dim, good, bad, name or title; as it is where there is no colour."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and self._colour else text

    def rule(self, title: str) -> None:
        """Print a heading with a line to the right margin."""
        line = "─" * max(3, self.width - columns(title) - 4)
        self.line()
        self.line(f"{self.styled('──', 'dim')} {self.styled(title, 'title')} {self.styled(line, 'dim')}")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> None:
        """Print a table; `right` are the columns of numbers. The last column is the one that may be long."""
        cells = [[printable(str(cell)) for cell in row] for row in rows]
        if self.interactive and _has_rich():
            self._rich_table(headers, cells, right)
            return
        widths = [max(map(columns, column)) for column in zip(headers, *cells, strict=True)]
        for n, row in enumerate([list(headers), *cells]):
            padded = [
                " " * (width - columns(cell)) + cell if at in right else cell + " " * (width - columns(cell))
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            line = "  ".join(padded).rstrip()
            self.line(self.styled(line, "bold") if n == 0 else line)

    def _rich_table(self, headers: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[int]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold" if self._colour else "")
        for at, header in enumerate(headers):
            table.add_column(header, justify="right" if at in right else "left", no_wrap=at < len(headers) - 1)
        for row in cells:
            table.add_row(*(Text(self._encodable(cell)) for cell in row))
        self.out.flush()
        Console(file=self.out, no_color=not self._colour, highlight=False, width=self.width).print(table)

    def _encodable(self, text: str) -> str:
        if self._unicode:
            return text
        for character, replacement in _ASCII.items():
            text = text.replace(character, replacement)
        return text

    def flush(self) -> None:
        """Hand everything to the operating system: a broken pipe shows here."""
        self.out.flush()

    # -- about the work -----------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say something about the work on stderr, on one line."""
        self.out.flush()
        self.err.write(f"aeon: {printable(text)}\n")
        self.err.flush()

    @contextmanager
    def progress(self, label: str, total: int | None, *, size: bool = False) -> Iterator[Progress]:
        """Show a bar on stderr while the block runs, if stderr is a terminal; it leaves no trace.

        total : None if nobody knows. size : the units are bytes.
        """
        if not _is_terminal(self.err) or os.environ.get("TERM") == "dumb":
            yield _Silent()
        elif _has_rich():
            with _rich_progress(self.err, label, total, size) as progress:
                yield progress
        else:
            plain = _Plain(self.err, label, total)
            try:
                yield plain
            finally:
                plain.clear()


class _Silent:
    def to(self, done: int, *, note: str = "") -> None:
        pass


class _Plain:
    """One line that is written over."""

    def __init__(self, err: TextIO, label: str, total: int | None) -> None:
        self._err, self._label, self._total = err, label, total
        self._next = 0.0
        self._shown = 0

    def to(self, done: int, *, note: str = "") -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PROGRESS_INTERVAL_S
        share = f" {min(100, 100 * done // self._total):3d} %" if self._total else ""
        line = f"{self._label}{share}  {note}"[: shutil.get_terminal_size().columns - 1]
        self._err.write("\r" + line.ljust(self._shown))
        self._err.flush()
        self._shown = len(line)

    def clear(self) -> None:
        if self._shown:
            self._err.write("\r" + " " * self._shown + "\r")
            self._err.flush()


@contextmanager
def _rich_progress(err: TextIO, label: str, total: int | None, size: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    shown: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if size:
        shown.append(DownloadColumn())
    shown += [TextColumn("{task.fields[note]}", markup=False), TimeRemainingColumn()]
    with RichProgress(*shown, console=Console(file=err, no_color=not _wants_colour()), transient=True) as bar:
        task = bar.add_task(label, total=total, note="")

        class Bar:
            def to(self, done: int, *, note: str = "") -> None:
                bar.update(task, completed=done, note=note)

        yield Bar()


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _wants_colour() -> bool:
    return (
        not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
        and (os.name != "nt" or "WT_SESSION" in os.environ)
    )


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _is_unicode(stream: TextIO) -> bool:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig", "utf16", "utf32")
