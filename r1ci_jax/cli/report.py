"""`r1ci report RUN` writes one static HTML file about a run."""

import argparse
import json
from pathlib import Path


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Register `r1ci report`."""
    parser = subparsers.add_parser(
        "report",
        help="one static HTML file about a run",
        description="Write RUN/report.html: results, learning curves and a trajectory viewer in "
        "one file that needs no network. A run in progress can be reported too.",
    )
    parser.add_argument("workdir", metavar="RUN", type=Path, help="run directory, e.g. runs/toy")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, nothing else"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from r1ci_jax.tools.report import page

    path = page.write(args.workdir)
    print(json.dumps({"report": str(path), "bytes": path.stat().st_size}) if args.json else path)
    return 0
