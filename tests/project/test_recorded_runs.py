"""Digits in README.md are those of the recorded run, whose settings are still the demo's."""

import json
import pathlib
import re

from r1ci_jax.cli import experiment_file
from r1ci_jax.evaluate import tables
from r1ci_jax.runtime import run_dir

ROOT = pathlib.Path(__file__).parents[2]
RUN = ROOT / "docs/recorded/demo_seed0"
OURS = {"base conversion": "toy_base_conversion", "gcd, lcm": "toy_gcd_lcm"}


def read_rows(text: str) -> list[dict[str, str]]:
    """Read the first table of a Markdown text, one dictionary per row."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    ends = next((n for n, row in enumerate(cells[2:], 2) if len(row) != len(cells[0])), len(cells))
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:ends]]


def test_the_table_of_the_first_page_is_the_recorded_run_s() -> None:
    quoted = read_rows((ROOT / "README.md").read_text())
    table = tables.build_results_table(tables.read_run(RUN))
    recorded = {row["model"]: row for row in read_rows(tables.to_markdown(table))}
    assert [row["model"] for row in quoted] == list(recorded)
    for row in quoted:
        for column, value in row.items():
            known = column in ("model", "mean", "95 % interval", "uses code")
            theirs = column if known else OURS.get(column, f"toy_{column}")
            assert recorded[row["model"]][theirs] == value, (row["model"], column)


def test_the_recorded_run_has_the_settings_of_the_demo() -> None:
    """A setting that is newer than the run has a default that computes what was computed."""
    recorded = json.loads((RUN / "config.json").read_text())
    today = run_dir.flatten(run_dir.to_plain(experiment_file.load("experiments/toy.py")))
    then = run_dir.flatten(recorded["experiment"])
    assert {key: value for key, value in then.items() if today.get(key, value) != value} == {}
    assert recorded["changes"] == {} and recorded["command"] == [
        "r1ci",
        "run",
        "experiments/toy.py",
    ]
    assert not re.search(r'"/(?!\w*")', (RUN / "config.json").read_text()), "a path of the machine"
