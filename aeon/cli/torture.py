"""`aeon torture [DIR]`: kill -9 of a real writer on this disk, again and again, and a plain verdict."""

from __future__ import annotations

import time
from dataclasses import asdict

from aeon.cli.arguments import Arguments
from aeon.cli.terminal import Terminal, printable
from aeon.cli.values import show_count
from aeon.torture import Verdict
from aeon.torture import torture as run


def torture(arguments: Arguments, terminal: Terminal) -> int:
    """`aeon torture [DIR] --kills N`."""
    begin = time.perf_counter()
    with terminal.progress("killing writers", arguments.kills) as progress:

        def show(verdict: Verdict) -> None:
            progress.to(verdict.kills, note=f"{verdict.kills:,} kills")

        verdict = run(
            arguments.folder, kills=arguments.kills, durability=arguments.durability or "", seconds=arguments.seconds,
            seed=arguments.seed, progress=show,
        )  # fmt: skip
    seconds = time.perf_counter() - begin
    if terminal.as_json:
        terminal.emit({"ok": verdict.ok, **asdict(verdict), "seed": arguments.seed, "seconds": round(seconds, 1)})
    else:
        for violation in verdict.violations:
            terminal.line(f"{terminal.styled('✗', 'bad')} {printable(violation)}")
        word = terminal.styled("NOTHING WAS LOST", "good") if verdict.ok else terminal.styled("FAILED", "bad")
        terminal.line(
            f"{word}: {show_count(verdict.kills, 'kill')} of a writer ({verdict.kills_before_commit:,} before its first "
            f"commit), {show_count(verdict.acknowledged, 'acknowledged commit')}, "
            f"{verdict.extra:,} more found whole, {show_count(verdict.torn_tails, 'torn end')} cut off; {seconds:.0f} s"
        )
    if not verdict.ok:
        terminal.note(f"the stores are left in {verdict.kept}; --seed {arguments.seed} makes the same steps again")
    return 0 if verdict.ok else 1
