"""`r1ci table NAME --runs RUN ...` compares our results with the paper's."""

import argparse
import json
import sys
from pathlib import Path

from r1ci_jax.errors import UserError


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Register `r1ci table`."""
    parser = subparsers.add_parser(
        "table",
        help="a paper table: ours, paper, difference",
        description="Build the table that experiments/table_NAME.py defines from finished runs. "
        "It is also written to tables/NAME.md of every run, from that run alone.",
    )
    parser.add_argument("name", metavar="NAME", help="main, or another experiments/table_NAME.py")
    parser.add_argument(
        "--runs",
        nargs="+",
        metavar="RUN",
        required=True,
        help="run directories or a pattern like 'runs/*'; runs that differ by the seed only are "
        "averaged",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, nothing else"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from r1ci_jax.cli import experiment_file as experiments
    from r1ci_jax.evaluate import tables

    path = experiments.find_file(f"experiments/table_{args.name}.py")
    if path is None:
        listed = ", ".join(_list_tables()) or "none"
        raise UserError(f"no table {args.name!r}; there are: {listed}")
    build = experiments.load_module(path).build
    runs = [tables.read_run(run) for run in _expand_patterns(args.runs)]
    table = build(runs)
    written = [tables.write(build([run]), run.path / "tables", args.name) for run in runs]
    if args.json:
        facts = {"table": args.name, "runs": [str(run.path) for run in runs], "note": table.note}
        print(
            json.dumps({**facts, "rows": list(table.records), "files": [str(p) for p in written]})
        )
    else:
        tables.show(table)
        print(f"written: {', '.join(str(p) for p in written)}", file=sys.stderr)
    return 0


def _expand_patterns(patterns: list[str]) -> list[Path]:
    """Expand patterns to the run directories that they match."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        if "*" in pattern and not Path(pattern).exists():
            anchor = Path(Path(pattern).anchor)
            matches = sorted(anchor.glob(str(Path(pattern).relative_to(anchor))))
            runs = [path for path in matches if (path / "config.json").is_file()]
            if not runs:
                raise UserError(f"no run directory matches {pattern!r}")
            found |= dict.fromkeys(runs)
        else:
            found[Path(pattern)] = None
    return list(found)


def _list_tables() -> list[str]:
    from r1ci_jax.cli import experiment_file as experiments

    folders = {Path("experiments").resolve(): None, experiments.ROOT / "experiments": None}
    names = (path.stem.removeprefix("table_") for f in folders for path in f.glob("table_*.py"))
    return sorted(set(names))
