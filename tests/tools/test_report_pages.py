"""The report's pages: two runs, a run that goes on, read-only runs, phones, what is explained."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.config import Arm, DatasetConfig, Experiment
from r1ci_jax.errors import USER_ERROR_EXIT_STATUS
from r1ci_jax.grpo_config import GrpoConfig, RewardConfig
from r1ci_jax.runtime import metrics, run_dir
from r1ci_jax.tools.report import charts, markup, page, run_comparison, sections
from r1ci_jax.tools.report.charts import Mark
from tests.load import PATIENCE
from tests.tools.test_report import HOSTILE, Page

EXPERIMENT = Experiment(name="toy", dataset=DatasetConfig(tasks=("toy_sorting",)))
QUESTION = {"example_id": "x", "task": "toy_sorting", "p": 0.5, "potential": 1.0}


def make_run(path: Path, *, seed: int = 0, correct: int = 3, stages: Sequence[str] = ()) -> Path:
    """A run with a few steps, its results and potential."""
    experiment = dataclasses.replace(EXPERIMENT, seed=seed)
    with run_dir.RunDir.open(path, experiment) as directory:
        with metrics.MetricsWriter(directory.metrics_path) as writer:
            for step in (1, 2, 3):
                writer.write("sft", step, {"optim/loss": 2 / step + seed})
                writer.write("grpo_uniform", step, {"reward/mean": step / 4 + seed})
        with metrics.JsonlLog(directory.results_path) as log:
            facts = {"model": "sft", "agent": "code_agent", "task": HOSTILE, "n": 4}
            log.append({**facts, "correct": correct, "stops": {"answer": 4}})
        with metrics.JsonlLog(directory.potential_path) as log:
            log.append({**QUESTION, "group": 1})
        for stage in stages:
            directory.mark_finished(stage)
    return path


def text_of(html: str) -> str:
    return " ".join("".join(Page(html).texts).split())


# --- two runs ------------------------------------------------------------------------------------


def test_two_runs_lie_over_each_other_and_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = make_run(tmp_path / "left"), make_run(tmp_path / "right", seed=1, correct=1)
    out = tmp_path / "both.html"
    assert main(["report", str(left), str(right), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    html = out.read_text("utf-8")
    shown = text_of(html)
    for words in ("left: SFT 75.0 %", "right: SFT 25.0 %", "setting left right seed 0 1"):
        assert words.replace(" ", "") in shown.replace(" ", "")
    figures = re.findall(r"<figure>.*?</figure>", html)
    reward = next(each for each in figures if "GRPO: mean reward" in each)
    lines = re.findall(r'<polyline class="([^"]*)" points="([^"]*)"', reward)
    assert [classes for classes, _ in lines] == ["line s2", "line s2 dashed"]
    first, second = ([float(p.split(",")[1]) for p in points.split()] for _, points in lines)
    assert all(a > b for a, b in zip(first, second, strict=True))  # y grows downwards
    assert reward.count("SFT + GRPO, uniform") == 2
    parsed = Page(html)
    assert parsed.tags.count("script") == 1 and "img" not in parsed.tags
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    left, right = make_run(tmp_path / "a" / "toy"), make_run(tmp_path / "b" / "toy")
    shown = text_of(run_comparison.write(left, right, tmp_path / "x.html").read_text("utf-8"))
    assert f"{left}: SFT" in shown and f"{right}: SFT" in shown
    assert "All settings are the same." in shown


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (("a", "b"), (), "a report of 2 runs belongs to none of them; add --out FILE"),
        (("a", "b", "c"), ("--out", "x"), "a report shows one run or two, not 3; r1ci table and"),
        (("a", "a"), ("--out", "x"), "are the same run; name two"),
        (("a", "b"), ("--out", "x", "--watch"), "--watch follows one run; leave it out for two"),
        (("a",), ("--watch", "--every", "0"), "--every 0: name the seconds between two pages"),
    ],
)
def test_a_wrong_request_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runs: Sequence[str],
    options: Sequence[str],
    message: str,
) -> None:
    for name in set(runs):
        make_run(tmp_path / name)
    status = main(["report", *(str(tmp_path / name) for name in runs), *options])
    [line] = capsys.readouterr().err.splitlines()
    assert status == USER_ERROR_EXIT_STATUS and message in line


# --- a run that goes on --------------------------------------------------------------------------


def test_the_page_of_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=("data", "sft"))
    shown = text_of(page.write(run).read_text("utf-8"))
    assert "This run is not finished. The last step was grpo_uniform 3, at " in shown
    for seconds in (0, 7):
        html = page.write(run, reload_seconds=seconds).read_text("utf-8")
        assert ('http-equiv="refresh" content="7"' in html) is (seconds == 7)
    make_run(run, stages=("potential", "grpo", "eval"))
    html = page.write(run, reload_seconds=7).read_text("utf-8")
    assert "not finished" not in html and "refresh" not in html


def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run"), tmp_path / "page.html"
    command = ["report", str(run), "--out", str(out), "--watch", "--every", "1"]
    watcher = threading.Thread(target=main, args=(command,), daemon=True)
    watcher.start()
    deadline = time.monotonic() + PATIENCE
    while not out.exists():
        assert time.monotonic() < deadline, "no page was written"
        time.sleep(0.05)
    assert "not finished" in out.read_text("utf-8")
    make_run(run, stages=("data", "sft", "potential", "grpo", "eval"))
    watcher.join(PATIENCE)
    assert not watcher.is_alive() and "not finished" not in out.read_text("utf-8")
    assert not (run / "report.html").exists()


# --- read-only runs ------------------------------------------------------------------------------

# In a mount namespace of its own, so that it vanishes with the process; root may write anything
# but a read-only file system.
READ_ONLY = """
mount --bind {run} {run} && mount -o remount,bind,ro {run} || exit 99
{r1ci} report {run}; echo "status $?" >&2
{r1ci} report {run} --out {out}; echo "status $?" >&2
{r1ci} table main --runs {run} --format csv; echo "status $?" >&2
"""


def test_a_read_only_run_can_be_shown(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run"), tmp_path / "page.html"
    r1ci = f"{sys.executable} -m r1ci_jax"
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    done = subprocess.run(
        [*unshare, "sh", "-c", READ_ONLY.format(run=run, out=out, r1ci=r1ci)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode == 99 or "unshare" in done.stderr[:10]:
        pytest.skip(f"NO DIRECTORY can be mounted read-only here: {done.stderr.strip()}")
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("status")] == [
        "status 2",
        "status 0",
        "status 0",
    ], lines
    assert lines[0] == (
        f"r1ci: cannot write {run}/report.html: Read-only file system; "
        "name another file with --out FILE"
    )
    assert "mean reward" in out.read_text("utf-8")
    assert f"{out}\n" in done.stdout and "\nrun,SFT,test," in done.stdout  # the table as CSV
    assert [line for line in lines if line.startswith("not written")] == [
        f"not written: {run}/tables: Read-only file system"
    ]


# --- phones --------------------------------------------------------------------------------------


def test_text_of_charts_is_readable_on_a_phone() -> None:
    """390 px wide less the page's margins; text of a drawing shrinks with it."""
    style = markup.resource("report.css")
    found = re.search(r"\.tick, \.axis \{[^}]*font-size: (\d+)px", style)
    margin = re.search(r"padding: 0 (\d+)px", style)
    assert found is not None and margin is not None
    width = 390 - 2 * int(margin[1])
    assert int(found[1]) * width / charts.WIDTH >= 11
    assert re.search(r"\.bar b \{[^}]*white-space: nowrap", style)


def test_labels_of_stages_do_not_lie_on_each_other() -> None:
    series = [charts.Series(name="a", color=1, points=tuple((x, 1.0) for x in range(1, 33)))]
    marks = [Mark(x=x, label=f"stage {n}") for n, x in enumerate((1, 3, 4, 32), start=1)]
    drawn = charts.draw_line_chart("title", series, marks=marks)
    places = re.findall(r'x="([\d.]+)" y="(\d+)"( text-anchor="end")?>(stage \d)', drawn)
    boxes = []
    for x, y, is_end, label in places:
        size = charts.LETTER * len(label)
        left = float(x) - size if is_end else float(x)
        assert left >= 0 and left + size <= charts.WIDTH
        boxes.append((left, left + size, int(y)))
    assert len(boxes) == 4
    for index, (left, right, y) in enumerate(boxes):
        for other in boxes[:index]:
            assert other[2] != y or other[1] <= left or right <= other[0]


# --- what is explained ---------------------------------------------------------------------------


def test_times_of_all_stages_and_their_sum() -> None:
    records: list[dict[str, Any]] = [
        {"stage": "sft", "step": 1, "time": 130.0},
        {"stage": "sft", "step": 2, "time": 190.0},
        {"stage": "potential", "step": 1, "time": 260.0},
        *(
            {
                "stage": arm,
                "step": 1,
                "time": end,
                "time/rollout": 30.0,
                "time/sandbox": 4.0,
                "time/sandbox_fraction": 0.5,
            }
            for arm, end in (("grpo_uniform", 320.0), ("grpo_curriculum", 400.0))
        ),
    ]
    ends = {"data": 110.0, "sft": 200.0, "potential": 261.0, "grpo": 401.0, "eval": 430.0}
    html = sections.times(records, {name: {"time": end} for name, end in ends.items()}, 100.0)
    rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in html.split("<tr")[1:]]
    assert rows == [
        ["stage", "in all", "rollout", "of it sandbox"],
        ["data", "10 s", "-", "-"],
        ["sft", "1 min 30 s", "-", "-"],
        ["potential", "1 min 01 s", "-", "-"],
        ["grpo_uniform", "59 s", "30 s", "4.0 s"],
        ["grpo_curriculum", "1 min 20 s", "30 s", "4.0 s"],
        ["eval", "30 s", "-", "-"],
        ["total", "5 min 30 s", "1 min 00 s", "8.0 s"],  # 430 s less 100 s
    ]


@pytest.mark.parametrize(("in_first", "is_said"), [(9, True), (8, False)])
def test_one_group_of_nearly_all_questions_is_named(in_first: int, is_said: bool) -> None:
    settings = run_dir.to_plain(EXPERIMENT)["potential"]
    records = [{**QUESTION, "group": 1 if index < in_first else 2} for index in range(10)]
    said = "9 of 10 questions are in group 1: all stages draw from nearly the same questions"
    assert (said in sections.curriculum(records, settings)) is is_said


def test_the_numbers_of_the_reward_are_explained(tmp_path: Path) -> None:
    shown = text_of(page.write(make_run(tmp_path / "run")).read_text("utf-8"))
    for words in (
        "1 for a correct answer, 0.1 more if every response keeps the format and 0.1 less if one "
        "does not, 0.1 less with more than 6 turns.",
        "So 1.10 is correct and in the format, 0.10 wrong but in the format, -0.10 wrong and not",
    ):
        assert words in shown
    own = GrpoConfig(reward=RewardConfig(format=0.5, turn_penalty_counts="code_calls"))
    arms = (Arm(name="grpo_a"), Arm(name="grpo_b", grpo=own))
    plain = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(EXPERIMENT, arms=arms))))
    said = text_of(sections.explain_reward(plain))
    assert "with more than 6 turns. So 1.10 is" in said
    assert "with more than 6 code calls. So 1.50 is" in said
