"""What runs came to: `r1ci table NAME --runs RUN ...`, `r1ci figure NAME`, `r1ci report RUN`."""

import argparse
import errno
import importlib.util
import json
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra

WATCH_SECONDS = 30
"""Time between two pages of `r1ci report --watch`."""
_CONFIGS = ("config.json", "eval.json")
"""A run directory has the first, an evaluation the second."""


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Register `r1ci table`, `r1ci figure` and `r1ci report`."""
    _add_report(subparsers)
    table = subparsers.add_parser(
        "table",
        help="a paper table: ours, paper, difference",
        description="Build the table that experiments/table_NAME.py defines from finished runs. "
        "It is also written to tables/NAME.md of every run, from that run alone. Directories of "
        "r1ci eval MODEL are runs here.",
    )
    table.add_argument("name", metavar="NAME", help="main, or another experiments/table_NAME.py")
    table.add_argument(
        "--format",
        choices=("markdown", "csv", "latex"),
        help="print it so, and write it so too: NAME.md, NAME.csv, NAME.tex (default: for reading)",
    )
    table.set_defaults(run=_table)
    figure = subparsers.add_parser(
        "figure",
        help="a figure of runs as SVG and PNG",
        description="Draw the figure that experiments/figures/fig_NAME.py defines from the files "
        "of runs, as NAME.svg and NAME.png. It needs matplotlib, the extra `figures`.",
    )
    figure.add_argument(
        "name", metavar="NAME", help="curves, or another experiments/figures/fig_NAME.py"
    )
    figure.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="where to; default for one run: figures/ of the run directory",
    )
    figure.set_defaults(run=_figure)
    for parser in (table, figure):
        parser.add_argument(
            "--runs",
            nargs="+",
            metavar="RUN",
            required=True,
            help="run directories or a pattern like 'runs/*'; runs that differ by the seed only, "
            "or by having more arms, are averaged"
            if parser is table
            else "run directories or a pattern like 'runs/*'",
        )
        parser.add_argument(
            "--json", action="store_true", help="one JSON object on stdout, nothing else"
        )


def _add_report(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "report",
        help="one static HTML file about a run, or about two",
        description="Write RUN/report.html: results, learning curves and a trajectory viewer in "
        "one file that needs no network. A run in progress can be reported too. Of two runs the "
        "page has curves over each other and tables beside each other.",
    )
    parser.add_argument(
        "workdir",
        metavar="RUN",
        type=Path,
        nargs="+",
        help="run directory, e.g. runs/toy, or two of them",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="file to write (default: RUN/report.html)"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="write it anew until the run is finished; the page loads itself anew",
    )
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=int,
        default=WATCH_SECONDS,
        help="time between two pages of --watch (default %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, nothing else"
    )
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    path = _write_pair(args) if len(args.workdir) > 1 else _write_report(args)
    if args.json:
        print(json.dumps({"report": str(path), "bytes": path.stat().st_size}))
    elif not args.watch:
        print(path)
    return 0


def _write_report(args: argparse.Namespace) -> Path:
    from r1ci_jax.runtime.run_dir import RunDir
    from r1ci_jax.tools.report import page

    [run] = args.workdir
    if not args.watch:
        return page.write(run, args.out)
    if args.every < 1:
        raise UserError(f"--every {args.every}: name the seconds between two pages, 1 or more")
    path = page.write(run, args.out, reload_seconds=args.every)
    print(f"{path}: written anew every {args.every} s; Ctrl-C ends it", file=sys.stderr)
    while not page.is_finished(RunDir.view(run)):
        time.sleep(args.every)
        page.write(run, args.out, reload_seconds=args.every)
    return page.write(run, args.out)


def _write_pair(args: argparse.Namespace) -> Path:
    from r1ci_jax.tools.report import run_comparison

    if len(args.workdir) > 2:
        raise UserError(
            f"a report shows one run or two, not {len(args.workdir)}; r1ci table and r1ci figure "
            "take more"
        )
    if args.out is None:
        raise UserError("a report of 2 runs belongs to none of them; add --out FILE")
    if args.watch:
        raise UserError("--watch follows one run; leave it out for two")
    left, right = args.workdir
    return run_comparison.write(left, right, args.out)


def _table(args: argparse.Namespace) -> int:
    from r1ci_jax.evaluate import table_formats, tables

    if args.json and args.format:
        raise UserError("--json and --format both decide what is printed; leave one out")
    build = _load("table", "experiments/table_", args.name).build
    runs = [tables.read_run(run) for run in _expand_patterns(args.runs, needed="results.jsonl")]
    table = build(runs)
    alone = [(run.path / "tables", build([run])) for run in runs]
    forms = ["markdown", *([args.format] if args.format in ("csv", "latex") else [])]
    written = [
        path for folder, each in alone for path in _write_table(each, folder, args.name, forms)
    ]
    if args.json:
        facts = {"table": args.name, "runs": [str(run.path) for run in runs], "note": table.note}
        print(
            json.dumps({**facts, "rows": list(table.records), "files": [str(p) for p in written]})
        )
    else:
        if args.format is None:
            tables.show(table)
        else:
            print(table_formats.render(table, args.format), end="")
        if written:
            print(f"written: {', '.join(str(p) for p in written)}", file=sys.stderr)
    return 0


def _write_table(table: Any, folder: Path, name: str, forms: Sequence[str]) -> list[Path]:
    """Write a table beside its run, where that can be written: the table is shown either way."""
    from r1ci_jax.evaluate import table_formats

    try:
        return [table_formats.write(table, folder, name, form) for form in forms]
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        print(f"not written: {folder}: {error.strerror}", file=sys.stderr)
        return []


def _figure(args: argparse.Namespace) -> int:
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(f"figures need matplotlib; install it: {install_extra('figures')}")
    module = _load("figure", "experiments/figures/fig_", args.name)
    runs = _expand_patterns(args.runs)
    if args.to is None and len(runs) > 1:
        raise UserError(f"a figure of {len(runs)} runs belongs to none of them; add --to DIR")
    written = _save(module.draw(runs), args.to or runs[0] / "figures", args.name)
    if args.json:
        facts = {"figure": args.name, "runs": [str(run) for run in runs]}
        print(json.dumps({**facts, "files": [str(path) for path in written]}))
    else:
        print(f"written: {', '.join(str(path) for path in written)}")
    return 0


def _save(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write a matplotlib figure as SVG, whose text stays text, and as PNG."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
    # The same figure gives the same file: the layout is solved to the last digit in an order that
    # differs from call to call, and SVG shows that digit.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis in figure.axes:
        axis.set_position([round(each, 4) for each in axis.get_position().bounds])
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(vector, metadata={"Date": None})
        figure.savefig(pixels, dpi=200)
    return [vector, pixels]


def _load(kind: str, prefix: str, name: str) -> types.ModuleType:
    """Load the file that defines a table or figure."""
    from r1ci_jax.cli import experiment_file as experiments

    path = experiments.find_file(f"{prefix}{name}.py")
    if path is None:
        listed = ", ".join(_list_names(prefix)) or "none"
        raise UserError(f"no {kind} {name!r}; there are: {listed}")
    return experiments.load_module(path)


def _expand_patterns(patterns: list[str], needed: str = "") -> list[Path]:
    """Expand patterns to the run directories that they match.

    Those without the file `needed` are left out and named, unless no other matches.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if "*" in pattern and not Path(pattern).exists():
            anchor = Path(Path(pattern).anchor)
            matches = sorted(anchor.glob(str(Path(pattern).relative_to(anchor))))
            runs = [path for path in matches if any((path / name).is_file() for name in _CONFIGS)]
            if not runs:
                raise UserError(f"no run directory matches {pattern!r}")
            usable = [path for path in runs if (path / needed).exists()] or runs
            for path in runs:
                if path not in usable:
                    print(f"left out: {path}: it has no {needed} yet", file=sys.stderr)
            found |= dict.fromkeys(usable)
        else:
            found[Path(pattern)] = None
    return list(found)


def _list_names(prefix: str) -> list[str]:
    """List the tables or figures that exist here."""
    from r1ci_jax.cli import experiment_file as experiments

    start = Path(prefix)
    folders = {start.parent.resolve(): None, experiments.ROOT / start.parent: None}
    names = (
        path.stem.removeprefix(start.name)
        for folder in folders
        for path in folder.glob(f"{start.name}*.py")
    )
    return sorted(set(names))
