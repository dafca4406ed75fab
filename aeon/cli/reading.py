"""Commands that read a store: recall, history, get, sessions, stats, check."""

from __future__ import annotations

import difflib
import sys
import time
from argparse import ArgumentTypeError
from dataclasses import asdict

from aeon import check as checks
from aeon.cli.arguments import Arguments
from aeon.cli.stores import open_to_read
from aeon.cli.terminal import Terminal, columns, printable, shorten
from aeon.cli.values import CommandError, show_bytes, show_count, show_time, vector_argument
from aeon.files import FileSystem, OsFileSystem, absolute, read_whole
from aeon.manifest import MANIFEST_NAME
from aeon.results import CheckReport, Hit, Memory
from aeon.wal import list_segments

_TEXT_LINES_MAX = 4  # of a hit, on a terminal, without --full
_CHECK_ATTEMPTS = 5


def read_stdin() -> str:
    """The whole of stdin as text, without the last line end."""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CommandError(f"stdin is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None


def recall(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon recall STORE QUERY`."""
    query = read_stdin() if arguments.query == "-" else arguments.query
    if arguments.vector:
        try:
            query = vector_argument(query)
        except ArgumentTypeError as error:
            raise CommandError(f"QUERY: {error}") from None
    with open_to_read(arguments) as store:
        hits = store.recall(
            query,
            arguments.k,
            session=arguments.session,
            namespace=arguments.namespace,
            where=arguments.where,
            since=arguments.since,
            until=arguments.until,
            roles=arguments.role,
            exact=arguments.exact,
        )
        if terminal.as_json:
            for hit in hits:
                terminal.emit(hit.to_dict())
            return 0
        if not hits:
            terminal.note("nothing found" if len(store) else "nothing found: the store is empty")
        for rank, hit in enumerate(hits, 1):
            _show_hit(terminal, rank, hit, arguments.full)
    return 0


def _show_hit(terminal: Terminal, rank: int, hit: Hit, full: bool) -> None:
    place = f"{show_time(hit.timestamp)}  {printable(hit.session)}  {hit.role}"
    score = terminal.styled(f"{hit.score:5.2f}", "good")
    terminal.line(f"{terminal.styled(f'{rank:2d}', 'bold')}  {score}  {terminal.styled(f'{place}  #{hit.id}', 'dim')}")
    text = hit.text
    if terminal.interactive and not full:
        text = shorten(printable(text), (terminal.width - 4) * _TEXT_LINES_MAX - _TEXT_LINES_MAX)
    terminal.text(text, indent=4)


def history(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon history STORE SESSION`."""
    with open_to_read(arguments) as store:
        memories = store.history(arguments.session, arguments.limit or None, arguments.before)
        if not memories:
            names = [session.name for session in store.sessions()]
            if arguments.session not in names:
                near = difflib.get_close_matches(arguments.session, names, 1)
                hint = (
                    f"; did you mean {near[0]!r}?"
                    if near
                    else "; `aeon sessions` lists them"
                    if names
                    else ": the store is empty"
                )
                raise CommandError(f"no session {arguments.session!r}{hint}")
        for memory in memories:
            if terminal.as_json:
                terminal.emit(memory.to_dict())
            else:
                _show_turn(terminal, memory)
        if memories and not terminal.as_json and terminal.interactive:
            _tell_what_came_before(terminal, arguments, len(memories), memories[0].id)
    return 0


def _tell_what_came_before(terminal: Terminal, arguments: Arguments, count: int, first: int) -> None:
    if arguments.limit and count == arguments.limit:
        terminal.note(f"the newest {count:,} of them; --before {first} shows older ones, --limit 0 all")


def _show_turn(terminal: Terminal, memory: Memory) -> None:
    head = f"{show_time(memory.timestamp)}  {memory.role:<9}"
    terminal.line(f"{terminal.styled(head, 'dim')} {terminal.styled(f'#{memory.id}', 'dim')}")
    terminal.text(memory.text, indent=4)


def get(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon get STORE ID`."""
    with open_to_read(arguments) as store:
        memory = store.get(arguments.id)
        fields = memory.to_dict()
        if terminal.as_json:
            terminal.emit(fields)
            return 0
        text = fields.pop("text")
        fields["timestamp"] = f"{show_time(memory.timestamp)} UTC ({memory.timestamp})"
        fields["namespace"] = "/".join(memory.namespace)
        fields["refs"] = ", ".join(map(str, memory.refs))
        _pairs(terminal, [(name, value) for name, value in fields.items() if value not in (None, "", {}, ())])
        terminal.line()
        terminal.text(text)
    return 0


def _pairs(terminal: Terminal, pairs: list[tuple[str, object]]) -> None:
    width = max(columns(name) for name, _ in pairs)
    for name, value in pairs:
        terminal.line(f"{terminal.styled(name.ljust(width), 'dim')}  {printable(str(value))}")


def sessions(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon sessions STORE`."""
    with open_to_read(arguments) as store:
        found = store.sessions()
        if terminal.as_json:
            for session in found:
                terminal.emit(asdict(session))
        elif found:
            rows = [(f"{session.count:,}", show_time(session.last_timestamp), session.name) for session in found]
            terminal.table(("memories", "newest (UTC)", "session"), rows, right=(0,))
        else:
            terminal.note("no sessions: the store is empty")
    return 0


def stats(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon stats STORE`."""
    with open_to_read(arguments) as store:
        found = store.stats()
    if terminal.as_json:
        terminal.emit(asdict(found))
        return 0
    older = found.events - found.memories
    _pairs(
        terminal,
        [
            ("store", found.path),
            ("memories", f"{found.memories:,}" + (f"  ({older:,} more replaced or forgotten)" if older else "")),
            ("vectors", f"{found.vectors:,} of {found.dim} dims, {found.rows}"),
            ("embedder", found.embedder or "none: the caller brings the vectors"),
            ("sessions", f"{found.sessions:,}"),
            ("keys", f"{found.keys:,}"),
            ("commits", f"{found.lsn:,}"),
            ("generation", f"{found.generation}" if found.generation else "none yet: everything is in the log"),
            ("log", f"{show_bytes(found.log_bytes)}, replayed at the next open"),
            ("on disk", show_bytes(found.disk_bytes)),
        ],
    )
    return 0


# -- check --------------------------------------------------------------------------------------------------------


def check(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon check STORE`."""
    begin = time.perf_counter()
    report = _check_beside_a_writer(OsFileSystem(), absolute(arguments.store), terminal)
    seconds = time.perf_counter() - begin
    if terminal.as_json:
        problems = [asdict(problem) for problem in report.problems]
        terminal.emit({"ok": report.ok, "counts": report.counts, "problems": problems, "seconds": round(seconds, 3)})
        return 0 if report.ok else 1
    for problem in report.problems:
        where = problem.path if problem.offset < 0 else f"{problem.path}, offset {problem.offset}"
        terminal.line(f"{terminal.styled('✗', 'bad')} {printable(f'{where}: {problem.message}')}")
    verified = ", ".join(f"{count:,} {what}" for what, count in report.counts.items() if count)
    if report.ok:
        terminal.line(
            f"{terminal.styled('✓', 'good')} no problem found in {verified or 'an empty store'}; {seconds:.2f} s"
        )
        return 0
    terminal.note(f"{arguments.store}: {show_count(len(report.problems), 'problem')} found")
    return 1


def _check_beside_a_writer(files: FileSystem, root: str, terminal: Terminal) -> CheckReport:
    """Check, and check again if problems were found while somebody was writing: they may be his unfinished work."""
    for attempt in range(_CHECK_ATTEMPTS):
        before = _fingerprint(files, root)
        with terminal.progress("checking", None) as progress:

            def show(what: str, done: int, total: int) -> None:
                progress.to(done, note=f"{what} {done:,} of {total:,}")

            report = checks.check(files, root, show)
        if report.ok or _fingerprint(files, root) == before:
            break
        if attempt + 1 == _CHECK_ATTEMPTS:
            terminal.note("the store was written to all the while: what looks torn may be a write that was going on")
    return report


def _fingerprint(files: FileSystem, root: str) -> object:
    """Something that changes when the store is written to."""
    try:
        segments = list_segments(files, f"{root}/wal")
        newest = read_whole(files, f"{root}/wal/{segments[-1]:08d}.wal") if segments else b""
        return read_whole(files, f"{root}/{MANIFEST_NAME}"), segments, newest
    except OSError as error:
        return str(error)
