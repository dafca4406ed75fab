"""Commands that look after a store: repair, backup, restore."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict

from aeon.backups import backup as make_backup
from aeon.cli.arguments import Arguments
from aeon.cli.terminal import Progress, Terminal, printable
from aeon.cli.values import show_bytes, show_count
from aeon.repairing import repair as make_repair
from aeon.results import IdRanges, Loss, RepairReport

_LISTED_MAX = 200  # lines of losses for people; --json has all


def _follow(progress: Progress) -> Callable[[str, int, int], None]:
    return lambda what, done, total: progress.to(done, note=f"{what} {done:,} of {total:,}")


def repair(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon repair STORE --to NEW`."""
    begin = time.perf_counter()
    with terminal.progress("salvaging", None) as progress:
        report = make_repair(
            arguments.store, arguments.to, dim=arguments.dim, embedder=arguments.embedder, progress=_follow(progress)
        )
    if terminal.as_json:
        terminal.emit({"whole": report.whole, **asdict(report)})
    else:
        _show_repair(report, terminal, time.perf_counter() - begin)
    if not report.whole:
        told = [show_count(len(report.lost), "loss", "losses")] if report.lost else []
        if report.doubtful:
            told.append(f"{_count(report.doubtful):,} doubtful memories")
        terminal.note(f"{arguments.store}: {', '.join(told)}; the rest is in {arguments.to}")
    return 0 if report.whole else 1


def _show_repair(report: RepairReport, terminal: Terminal, seconds: float) -> None:
    for loss in report.lost[:_LISTED_MAX]:
        terminal.line(f"{terminal.styled('✗', 'bad')} lost: {printable(_describe(loss, report.path))}")
    if len(report.lost) > _LISTED_MAX:
        terminal.line(f"  ... {len(report.lost) - _LISTED_MAX:,} more; --json lists all")
    for doubt in report.doubts:
        terminal.line(f"{terminal.styled('?', 'bold')} doubtful: {printable(doubt)}")
    if report.doubtful:
        terminal.line(f"{terminal.styled('?', 'bold')} kept, and doubtful: {_ids(report.doubtful)}")
    for problem in report.rebuilt[:_LISTED_MAX]:
        where = f"{os.path.relpath(problem.path, report.path)}, offset {problem.offset}"
        terminal.line(f"{terminal.styled('·', 'dim')} cost nothing: {printable(f'{where}: {problem.message}')}")
    terminal.line(
        f"{terminal.styled('✓', 'good')} {show_count(report.memories, 'memory', 'memories')}, "
        f"{show_count(report.vectors, 'vector')} in {printable(report.to)}; {seconds:.2f} s"
    )


def _describe(loss: Loss, root: str) -> str:
    size = f", {loss.length:,} bytes" if loss.length else ""
    what = f"{os.path.relpath(loss.path, root)}, offset {loss.offset}{size}: {loss.reason}"
    if loss.lsns:
        what += f"; commits {_ids(loss.lsns)}"
    return f"{what}; ids {_ids(loss.ids)}" if loss.ids else what


def _count(ranges: IdRanges) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _ids(ranges: IdRanges) -> str:
    shown = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:20])
    return shown + (f" and {_count(ranges[20:]):,} more" if len(ranges) > 20 else "")


def backup(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon backup STORE DEST`, and `aeon restore BACKUP STORE`, which is the same copy."""
    begin = time.perf_counter()
    with terminal.progress("copying", None) as progress:
        report = make_backup(arguments.store, arguments.dest, progress=_follow(progress))
    seconds = time.perf_counter() - begin
    if terminal.as_json:
        terminal.emit({**asdict(report), "seconds": round(seconds, 3)})
        return 0
    again = f", started over {show_count(report.attempts - 1, 'time')}" if report.attempts > 1 else ""
    terminal.line(
        f"{terminal.styled('✓', 'good')} {printable(report.to)}: {report.lsn:,} commits, {show_bytes(report.bytes)}, "
        f"verified{again}; {seconds:.2f} s"
    )
    return 0
