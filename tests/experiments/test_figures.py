"""Figures drawn from files made by hand: the lines, labels and bars that they must have."""

import importlib.util
import json
import pathlib
import re
import xml.etree.ElementTree
from collections.abc import Iterable
from typing import Any

import pytest
from matplotlib.figure import Figure

from experiments.figures import (
    drawing,
    fig_curves,
    fig_potential,
    fig_self_check,
    fig_stages,
    fig_task_count,
)
from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.runtime import run_dir


def make_run(path: pathlib.Path, **files: Iterable[dict[str, Any]]) -> pathlib.Path:
    """A run directory with the records of some of its files."""
    experiment = Experiment(name=path.name, dataset=DatasetConfig(tasks=("a",)))
    run_dir.RunDir.open(path, experiment).close()
    for name, records in files.items():
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (path / f"{name}.jsonl").write_text(lines)
    return path


def step(arm: str, number: int, stage: int = 1, **more: float | None) -> dict[str, Any]:
    values = {
        "reward/mean": number / 10,
        "accuracy": 0.5,
        "tool/calls_per_traj": 1.5,
        "tool/used_fraction": 0.8,
        "len/tokens": 40 + number,
        "group/zero_advantage_fraction": 0.25,
        "curriculum/stage": stage,
    }
    return {"stage": arm, "step": number, "time": 0.0} | values | more


def curriculum(arm: str = "grpo_curriculum", **more: float) -> list[dict[str, Any]]:
    return [step(arm, number, 1 + (number > 3), **more) for number in range(1, 6)]


def uniform(count: int = 5) -> list[dict[str, Any]]:
    return [step("grpo_uniform", number) for number in range(1, count + 1)]


SFT = {"stage": "sft", "step": 1, "time": 0.0, "optim/loss": 1.0}


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_run(tmp_path / "run", metrics=[SFT, *uniform(), *curriculum()])


def labels(figure: Figure) -> list[str]:
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


# --- curves --------------------------------------------------------------------------------------


def test_a_line_per_arm_in_each_panel(run: pathlib.Path) -> None:
    figure = fig_curves.draw([run])
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2, 2]
    assert labels(figure) == ["uniform", "curriculum"]
    reward, _, _, length = figure.axes
    xs, ys = reward.lines[0].get_data()
    assert list(xs) == [1, 2, 3, 4, 5] and list(ys) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert [*length.lines[1].get_ydata()] == [41, 42, 43, 44, 45]
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        t for _, t, _ in fig_curves.PANELS
    ]


def test_long_curves_are_averaged_and_values_that_are_none_left_out(tmp_path: pathlib.Path) -> None:
    broken = step("grpo_uniform", 41, **{"reward/mean": None})
    figure = fig_curves.draw([make_run(tmp_path / "long", metrics=[*uniform(40), broken])])
    pale, mean = figure.axes[0].lines
    assert len(pale.get_xdata()) == len(mean.get_xdata()) == 40
    # Of five values: the last is (3.6 + ... + 4.0) / 5.
    assert mean.get_ydata()[-1] == pytest.approx(3.8)
    assert labels(figure) == ["uniform"]


def test_runs_are_named_where_there_are_several(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = make_run(tmp_path / "other", metrics=uniform())
    assert labels(fig_curves.draw([run, other])) == [
        "run: uniform",
        "run: curriculum",
        "other: uniform",
    ]


def test_a_run_without_reinforcement_learning_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no step of reinforcement learning"):
        fig_curves.draw([make_run(tmp_path / "sft", metrics=[SFT])])


# --- potential -----------------------------------------------------------------------------------


def graded(p: float, group: int) -> dict[str, Any]:
    return {"example_id": f"{p}", "task": "a", "p": p, "potential": 4 * p * (1 - p), "group": group}


def test_questions_are_counted_by_rate_potential_and_group(tmp_path: pathlib.Path) -> None:
    rows = [graded(0.5, 1)] * 5 + [graded(0.15, 2)] * 3 + [graded(0.05, 4)] + [graded(1.0, 4)]
    figure = fig_potential.draw([make_run(tmp_path / "run", potential=rows)])
    by_rate, by_potential = figure.axes
    assert labels(figure) == [
        "group 1: 5 (50%)",
        "group 2: 3 (30%)",
        "group 3: 0 (0%)",
        "group 4: 2 (20%)",
    ]
    heights = {
        round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height()
        for bars in by_rate.containers
        for bar in bars
        if bar.get_height()
    }
    assert heights == {0.5: 5, 0.15: 3, 0.05: 1, 1.0: 1}
    assert sum(bar.get_height() for bars in by_potential.containers for bar in bars) == 10
    assert [line.get_xdata()[0] for line in by_potential.lines] == [0.64, 0.48, 0.32]


def test_the_potential_is_that_of_one_run(run: pathlib.Path) -> None:
    with pytest.raises(UserError, match="has no potential yet"):
        fig_potential.draw([run])
    with pytest.raises(UserError, match="shows one run, not 2"):
        fig_potential.draw([run, run])


# --- stages --------------------------------------------------------------------------------------


def test_stages_are_shaded_and_signal_is_what_is_not_zero(run: pathlib.Path) -> None:
    figure = fig_stages.draw([run])
    reward, signal = figure.axes
    assert labels(figure) == ["curriculum"], "an arm without stages is left out"
    assert [text.get_text() for text in reward.texts] == ["stage 1", "stage 2"]
    # Steps 1 to 3 and 4 to 5, from half a step before to half a step after.
    assert [text.get_position()[0] for text in reward.texts] == [2.0, 4.5]
    assert [*signal.lines[0].get_ydata()] == [0.75] * 5


def test_the_expected_signal_is_drawn_where_it_is_known(tmp_path: pathlib.Path) -> None:
    rows = curriculum(**{"group/expected_signal_fraction": 0.9})
    figure = fig_stages.draw([make_run(tmp_path / "run", metrics=rows)])
    assert labels(figure) == ["curriculum", "expected from pass rates, 1 - p^G - (1-p)^G"]


def test_arms_without_stages_have_no_such_figure(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no arm with several stages"):
        fig_stages.draw([make_run(tmp_path / "run", metrics=uniform())])


# --- self-checks ---------------------------------------------------------------------------------


def test_self_checks_by_step(tmp_path: pathlib.Path, run: pathlib.Path) -> None:
    rows = curriculum(**{"tool/self_check_rate": 0.3})
    figure = fig_self_check.draw([make_run(tmp_path / "checks", metrics=rows)])
    checks, code = figure.axes
    assert [*checks.lines[0].get_ydata()] == [0.3] * 5
    assert [*code.lines[0].get_ydata()] == [0.8] * 5
    with pytest.raises(UserError, match="has the metric tool/self_check_rate"):
        fig_self_check.draw([run])


# --- task count ----------------------------------------------------------------------------------


def results(*accuracies: tuple[int, int]) -> list[dict[str, Any]]:
    """Correct answers of 100 before and after, task by task."""
    facts = {"agent": "code_agent", "n": 100, "split": "train"}
    return [
        {"model": model, "task": f"t{index}", "correct": pair[when]} | facts
        for index, pair in enumerate(accuracies)
        for when, model in enumerate(("sft", "grpo_uniform"))
    ]


def test_gains_stand_over_the_number_of_tasks(tmp_path: pathlib.Path) -> None:
    one = make_run(tmp_path / "one", results=results((40, 70)))
    again = make_run(tmp_path / "again", results=results((40, 60)))
    three = make_run(tmp_path / "three", results=results((40, 40), (40, 46), (40, 43)))
    count, gain, error = fig_task_count.measure_gain(three)
    assert (count, gain) == (3, pytest.approx(3.0)) and 1 < error < 6
    figure = fig_task_count.draw([one, again, three])
    [axis] = figure.axes
    ours = axis.containers[0].lines[0]
    assert [*ours.get_xdata()] == [1, 3]
    assert [*ours.get_ydata()] == pytest.approx([25.0, 3.0])
    # Two runs on one task: 30 and 20 differ by 7.07 from each other, and 5 is their mean's error.
    bars = axis.containers[0].lines[2][0].get_segments()
    assert bars[0][:, 1].tolist() == pytest.approx([20.0, 30.0])
    assert labels(figure) == ["paper (two points)", "ours"]
    assert fig_task_count.PAPER == {1: 27.4, 107: 3.3}


def test_a_run_without_an_arm_has_no_gain(tmp_path: pathlib.Path) -> None:
    rows = [row for row in results((1, 2)) if row["model"] == "sft"]
    with pytest.raises(UserError, match="no results of SFT and of GRPO"):
        fig_task_count.draw([make_run(tmp_path / "run", results=rows)])


# --- the command ---------------------------------------------------------------------------------


def test_svg_keeps_its_text_and_both_files_are_the_same_again(
    run: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figure", "curves", "--json", "--runs", str(run)]) == 0
    shown = json.loads(capsys.readouterr().out)
    files = [run / "figures/curves.svg", run / "figures/curves.png"]
    assert [pathlib.Path(each) for each in shown["files"]] == files
    before = [file.read_bytes() for file in files]
    assert before[1].startswith(b"\x89PNG")
    root = xml.etree.ElementTree.fromstring(before[0])
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"uniform", "curriculum", "Mean reward", "Reinforcement learning"} <= set(texts)
    curves = re.findall(rf"stroke: {drawing.COLORS[0]}", before[0].decode(), re.IGNORECASE)
    assert curves
    assert main(["figure", "curves", "--runs", str(run)]) == 0
    assert [file.read_bytes() for file in files] == before


def test_a_figure_of_several_runs_needs_a_place(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "run2", metrics=uniform())
    asked = ["figure", "curves", "--runs", str(tmp_path / "run*")]
    assert main(asked) == 2
    assert capsys.readouterr().err == (
        "r1ci: a figure of 2 runs belongs to none of them; add --to DIR\n"
    )
    assert main([*asked, "--to", str(tmp_path / "figures")]) == 0
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"curves.svg", "curves.png"}


def test_unknown_figures_and_a_missing_package_are_one_line(
    run: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["figure", "curve", "--runs", str(run)]) == 2
    listed = "curves, potential, self_check, stages, task_count"
    assert capsys.readouterr().err == f"r1ci: no figure 'curve'; there are: {listed}\n"
    found = importlib.util.find_spec

    def hidden(name: str, package: str | None = None) -> Any:
        return None if name == "matplotlib" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    assert main(["figure", "curves", "--runs", str(run)]) == 2
    assert capsys.readouterr().err == (
        f"r1ci: figures need matplotlib; install it: {install_extra('figures')}\n"
    )
