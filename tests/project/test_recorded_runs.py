"""Digits in README.md are those of recorded runs; the settings of one are still the demo's."""

import json
import pathlib
import re

import pytest

from experiments import smollm2_135m, table_gains
from r1ci_jax.cli import experiment_file
from r1ci_jax.evaluate import bootstrap, results, tables
from r1ci_jax.runtime import run_dir

ROOT = pathlib.Path(__file__).parents[2]
RUN = ROOT / "docs/recorded/demo_seed0"
OURS = {"base conversion": "toy_base_conversion", "gcd, lcm": "toy_gcd_lcm"}


REAL = {  # rows of the first table: folder, model, agent
    "SmolLM2-135M-Instruct": ("smollm2_135m", "untrained", "code_agent"),
    "SmolLM2-135M-Instruct, SFT": ("smollm2_135m", "sft", "code_agent"),
    "SmolLM2-135M-Instruct, SFT + GRPO, curriculum": (
        "smollm2_135m",
        "grpo_curriculum",
        "code_agent",
    ),
    "SmolLM2-135M-Instruct, SFT + GRPO, uniform": ("smollm2_135m", "grpo_uniform", "code_agent"),
    "Qwen2.5-Coder-0.5B-Instruct": (
        "qwen2_5_coder_0_5b_eval",
        "qwen2.5-coder-0.5b-instruct",
        "code_agent",
    ),
}


def read_tables(text: str) -> list[list[dict[str, str]]]:
    """Read the tables of a Markdown text, one dictionary per row."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    found = []
    for block in blocks:
        cells = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.split("\n")
        ]
        head, _, *rows = [row for row in cells if row != [""]]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def read_page(name: str) -> str:
    return on_one_line((ROOT / name).read_text())


def test_the_table_of_real_weights_has_the_recorded_numbers() -> None:
    quoted, *_ = read_tables((ROOT / "README.md").read_text())
    assert [row["model"] for row in quoted] == list(REAL)
    for row in quoted:
        folder, model, agent = REAL[row["model"]]
        by_model = results.group_by_model(results.read_run(ROOT / "docs/recorded" / folder).results)
        for split, column in (("train", "training tasks"), ("test", "test tasks")):
            tasks = [each for each in by_model[model, agent] if each.split == split]
            mean = results.mean_over_tasks(tasks).mean
            interval = bootstrap.over_questions([each.counts for each in tasks])
            assert row[column] == f"{mean:.1f} ({interval}) of {len(tasks)}", (row["model"], column)


def test_differences_on_real_weights_are_the_recorded_ones() -> None:
    run = results.read_run(ROOT / "docs/recorded/smollm2_135m")
    gains = {
        (record["model"], record["against"], record["split"]): record
        for record in table_gains.build([run]).records
    }
    page, expected = read_page("README.md"), on_one_line(str(smollm2_135m.__doc__))
    for against, split, text, words in (
        ("sft", "train", page, "GRPO add {} points ({} to {})"),
        ("sft", "test", page, "tasks {} ({} to {};"),
        ("grpo_uniform", "train", page, "uniformly: {} points ({} to {})"),
        ("grpo_uniform", "test", page, "on test tasks {} ({} to {})."),
        ("grpo_uniform", "train", expected, "shown ({}, {} to {};"),
        ("grpo_uniform", "test", expected, "; {}, {} to {})"),
    ):
        gain = gains["grpo_curriculum", against, split]
        numbers = (gain["difference"], *gain["interval"])
        assert words.format(*(f"{number:.1f}" for number in numbers)) in text, (against, split)


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_is_quoted_as_recorded(seed: int) -> None:
    run = results.read_run(ROOT / f"docs/recorded/smollm2_135m_seed{seed}")
    gains = {
        record["split"]: record
        for record in table_gains.build([run]).records
        if (record["model"], record["against"]) == ("grpo_curriculum", "sft")
    }
    numbers = [
        number
        for split in ("train", "test")
        for number in (gains[split]["difference"], *gains[split]["interval"])
    ]
    page, expected = read_page("README.md"), on_one_line(str(smollm2_135m.__doc__))
    words = "seed {} they add {:.1f} ({:.1f} to {:.1f}) and {:.1f} ({:.1f} to {:.1f})"
    assert words.format(seed, *numbers) in page
    assert "(+{:.1f}, {:.1f} to {:.1f}; +{:.1f}, {:.1f} to {:.1f})".format(*numbers) in expected
    assert "SFT {:.1f} and {:.1f}, + GRPO {:.1f} and {:.1f}".format(
        *(gains[split][when] for when in ("before", "after") for split in ("train", "test"))
    ) in expected  # fmt: skip
    whole = results.read_run(ROOT / "docs/recorded/smollm2_135m")
    assert run.repeats(whole)  # the same settings, whatever the arms


def test_the_order_of_another_seed_is_quoted_as_recorded() -> None:
    run = results.read_run(ROOT / "docs/recorded/smollm2_135m_seed2")
    gains = {
        record["split"]: (record["difference"], *record["interval"])
        for record in table_gains.build([run]).records
        if (record["model"], record["against"]) == ("grpo_curriculum", "grpo_uniform")
    }
    words = "With seed 2 it does: {:.1f} ({:.1f} to {:.1f}) and {:.1f} ({:.1f} to {:.1f});"
    assert words.format(*gains["train"], *gains["test"]) in read_page("README.md")
    words = "(+{:.1f}, {:.1f} to {:.1f}; +{:.1f}, {:.1f} to {:.1f})"
    assert words.format(*gains["train"], *gains["test"]) in on_one_line(str(smollm2_135m.__doc__))


def test_what_all_code_gains_is_the_recorded_difference() -> None:
    before, after = (
        results.group_by_model(
            results.read_run(ROOT / f"docs/recorded/smollm2_135m_text_code_{model}").results
        )[f"smollm2-135m/{model}", "all_code"]
        for model in ("sft", "grpo_curriculum")
    )
    pairs = table_gains.pair_questions(
        *([r for r in known if r.split == "train"] for known in (before, after))
    )
    low, high = bootstrap.of_difference(pairs)
    means = bootstrap.means_of_pairs(pairs)
    page, log = read_page("README.md"), read_page("docs/LOG.md")
    assert "All Code goes from {:.1f} to {:.1f}".format(*means) in page
    gained = means[1] - means[0]
    assert f"gains {gained:.1f} points by GRPO ({low:.1f} to {high:.1f}" in log


def test_the_agents_of_an_untrained_model_are_as_recorded() -> None:
    found = results.read_run(ROOT / "docs/recorded/qwen2_5_coder_0_5b_other_agents").results
    means = [
        results.mean_over_tasks([r for r in found if (r.agent, r.split) == (agent, split)]).mean
        for agent in ("all_code", "all_text", "codesteer")
        for split in ("train", "test")
    ]
    page = read_page("README.md")
    named = [f"{{:.1f}} and {{:.1f}} as {name}" for name in ("All Code", "All Text", "CodeSteer")]
    assert ", ".join(named).format(*means) in page


def test_an_experiment_expects_what_was_recorded() -> None:
    quoted, *_ = read_tables((ROOT / "README.md").read_text())
    rows = [row for row in quoted if REAL[row["model"]][0] == "smollm2_135m"]
    assert len(rows) == 4
    for row in rows:
        for column in ("training tasks", "test tasks"):
            accuracy = row[column].partition(" of ")[0].removesuffix(" (0.0 to 0.0)")
            assert f" {accuracy}" in str(smollm2_135m.__doc__), (row["model"], column)


def test_the_table_of_the_demo_has_the_recorded_numbers() -> None:
    _, quoted, *_ = read_tables((ROOT / "README.md").read_text())
    table = tables.build_results_table(tables.read_run(RUN))
    (shown,) = read_tables(tables.to_markdown(table))
    recorded = {row["model"]: row for row in shown}
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
