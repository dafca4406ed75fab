"""python -m bench all | list | run [NAMES] | report | compare | growth | load | generator (each with --help)

`all` measures every figure of the README and of docs/BENCHMARKS.md and writes both; with --quick it tries everything at
small sizes, prints the tables and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results.jsonl"
_STUDIES = {
    "compare": "bench.compare",
    "growth": "bench.growth",
    "load": "bench.load",
    "generator": "bench.generated",
}  # with options of their own; imported only when asked for


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _STUDIES:
        importlib.import_module(_STUDIES[arguments[0]]).main(arguments[1:])
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the workloads")
    everything = commands.add_parser(
        "all", help="measure everything, and write README's figures and docs/BENCHMARKS.md"
    )
    run = commands.add_parser("run", help="measure, and write bench/results.jsonl")
    run.add_argument("names", nargs="*", help="workloads or groups; all if none is named")
    for command in (everything, run):
        command.add_argument("--quick", action="store_true", help="small sizes: does it run? The figures mean little")
        command.add_argument("--folder", help="where the stores are made: its disk is what is measured")
        command.add_argument("--mixed-seconds", type=float, help="length of the mixed load; 600, or 5 with --quick")
        command.add_argument("--results", type=Path, help=f"instead of {RESULTS.name}; with --quick, nothing is kept")
    report = commands.add_parser(
        "report", help="write README's figures, docs/BENCHMARKS.md and the plots from the results"
    )
    report.add_argument("--results", type=Path, help="print the tables of these instead of writing")
    options = parser.parse_args(arguments)
    if options.command == "list":
        _list()
    elif options.command == "report":
        _report(options.results)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            kept = options.results or (Path(scratch) / "quick.jsonl" if options.quick else RESULTS)
            _run(parser, options, kept)
            if options.command == "all":
                _report(None if kept == RESULTS else kept)
    return 0


def _list() -> None:
    from bench.workloads import WORKLOADS

    for name, (group, workload) in WORKLOADS.items():
        print(f"{name:16} {group:8} {(workload.__doc__ or '').splitlines()[0]}")


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace, kept: Path) -> None:
    """A workload that was measured anew replaces what it gave before; a workload is written as soon as it is done."""
    from bench import machine, results, workloads

    try:
        names = workloads.names_of(getattr(options, "names", []))
    except KeyError as error:
        parser.error(f"unknown workload {error.args[0]!r}; see `python -m bench list`")
    where = machine.describe()
    start = time.perf_counter()
    for name in names:
        fresh = []
        for result in workloads.run(
            [name], quick=options.quick, folder=options.folder, mixed_seconds=options.mixed_seconds
        ):
            fresh.append({**result, "machine": where})
            hidden = ("workload", "metric", "value", "unit", "series", "kernels")
            shown = {key: value for key, value in result.items() if key not in hidden}
            line = f"{result['metric']:16} {result['value']:12.2f} {result['unit']:10} {shown}"
            print(line, file=sys.stderr, flush=True)
        results.store(kept, fresh, list(workloads.WORKLOADS))
    print(f"in all {(time.perf_counter() - start) / 60:.1f} minutes", file=sys.stderr)


def _report(path: Path | None) -> None:
    """Write the documents, or print the tables of other results."""
    from bench import report, results

    if path is not None:
        print(report.benchmarks(results.load(path)))
        return
    for refused in dict.fromkeys(report.write(RESULTS)):
        print(f"not printed: {refused}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
