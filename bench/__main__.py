"""python -m bench list | run [NAMES] [--quick] | report | compare | growth | load | generator (each with --help)"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from bench import machine, report, workloads

RESULTS = Path(__file__).parent / "results.jsonl"


_STUDIES = {
    "compare": "bench.compare",
    "growth": "bench.growth",
    "load": "bench.load",
    "generator": "bench.generated",
}  # what takes minutes, or peers that nobody else needs; imported only when asked for


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _STUDIES:
        importlib.import_module(_STUDIES[arguments[0]]).main(arguments[1:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the workloads")
    run = commands.add_parser("run", help="measure, and write bench/results.jsonl")
    run.add_argument("names", nargs="*", help="workloads; all if none is named")
    run.add_argument("--quick", action="store_true", help="leave out the million-row store")
    run.add_argument("--folder", help="where the stores are made: its disk is what is measured")
    run.add_argument("--results", type=Path, default=RESULTS)
    commands.add_parser("report", help="write the tables of README.md from bench/results.jsonl")
    options = parser.parse_args(arguments)
    if options.command == "list":
        for name, workload in workloads.WORKLOADS.items():
            print(f"{name:18} {workload.__doc__}")
    elif options.command == "run":
        names = options.names or list(workloads.WORKLOADS)
        unknown = set(names) - set(workloads.WORKLOADS)
        if unknown:
            parser.error(f"unknown workload {sorted(unknown)[0]!r}; see `python -m bench list`")
        _run(names, options)
    else:
        report.write(RESULTS)
    return 0


def _run(names: list[str], options: argparse.Namespace) -> None:
    where = machine.describe()
    kept = []
    if options.names and options.results.exists():  # a part is measured anew, the rest stays
        lines = options.results.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["workload"] not in names]
    fresh = []
    for result in workloads.run(names, quick=options.quick, folder=options.folder):
        fresh.append(json.dumps({**result, "machine": where}))
        shown = {key: value for key, value in result.items() if key not in ("workload", "metric", "value", "unit")}
        print(f"{result['metric']:16} {result['value']:12.2f} {result['unit']:10} {shown}", file=sys.stderr, flush=True)
    order = list(workloads.WORKLOADS)
    lines = sorted(kept + fresh, key=lambda line: order.index(json.loads(line)["workload"]))
    options.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
