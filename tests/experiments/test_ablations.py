"""Ablation files: each changes what it says and nothing else, and its toy trains two steps."""

import dataclasses
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any, cast

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments import curriculum_controls, paper_numbers, table_ablation
from experiments.ablations import ablation, full_method, task_count
from r1ci_jax import pipeline
from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.config import Arm, Experiment
from r1ci_jax.data import datasets
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import results
from r1ci_jax.model import presets, qwen2
from r1ci_jax.runtime import metrics, run_dir
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry

FOLDER = pathlib.Path(ablation.__file__).parent
FILES = sorted(
    path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "ablation")
)

CHANGES: dict[str, set[str]] = {
    "full_method": set(),
    "no_curriculum": {"arms"},
    "difficulty_order": {"arms"},
    "no_grpo": {"arms"},
    "no_sft": {"arms"},
    "wrong_trajectories": {"demonstrations.wrong"},
    "no_prompt_variety": {
        "demonstrations.code_agent",
        "demonstrations.all_text",
        "demonstrations.all_code",
        "demonstrations.codesteer",
    },
    "single_turn": {
        "demonstrations.codesteer",
        "demonstrations.repair",
        "demonstrations.check",
        "demonstrations.two_stage",
        "demonstrations.switch",
        "demonstrations.multi_turn",
        "limits.max_code_calls",
    },
    "no_observation_mask": {
        "sft.learn_observations",
        "grpo.learn_observations",
        "grpo.old_logprobs",
    },
    "rl_algorithm": {"arms", "grpo.objective.advantage_scale", "grpo.objective.kl_estimator"},
    "distilled_base": {"model.checkpoint", "model.architecture", "model.tokenizer"},
    "task_count": {"arms", "dataset.tasks", "dataset.sft_per_task"},
    "online_grouping": {"arms", "grpo.stages.remeasure_every"},
}
"""Settings that an ablation may change."""

MICRO = qwen2.Qwen2Config(
    vocab_size=400, width=32, layers=1, query_heads=2, kv_heads=1, head_dim=16, mlp_width=48,
    tied=True,
)  # fmt: skip


def variants(name: str) -> tuple[str, ...]:
    return importlib.import_module(f"experiments.ablations.{name}").VARIANTS


def load(name: str, variant: str = "") -> Experiment:
    suffix = f":{variant}" if variant else ""
    return experiments.load(f"experiments/ablations/{name}.py{suffix}")


def size(variant: str) -> str:
    """Size of the whole method that a variant is compared with."""
    return "" if variant.isdecimal() else variant.partition("-")[0]


def differences(left: Experiment, right: Experiment) -> set[str]:
    found = run_dir.find_differences(run_dir.to_plain(left), run_dir.to_plain(right))
    return set(found) - {"name", "paper_row"}


def test_every_file_is_listed_and_can_be_named() -> None:
    assert set(FILES) == set(CHANGES)
    known = experiments._list_experiments()
    assert {f"experiments/ablations/{name}.py" for name in FILES} <= set(known)
    assert not {"experiments/ablations/ablation.py", "experiments/r1ci_recipe.py"} & set(known)


@pytest.mark.parametrize("name", FILES)
def test_it_changes_what_it_is_about_and_nothing_else(name: str) -> None:
    names = []
    for variant in variants(name):
        changed = load(name, variant)
        whole = full_method.get_config(size(variant))
        assert differences(whole, changed) <= CHANGES[name], variant
        names.append(changed.name)
        assert changed.paper_row == "", "the main table has no row of ablations"
        assert changed.name.startswith(ablation.run_name(name, size(variant)))
    assert len(set(names)) == len(names)
    missed = CHANGES[name] - differences(full_method.get_config(), load(name))
    # The paper's recipe trains all tasks anyway, and its sampler rounds anyway.
    assert missed <= {"dataset.tasks", "dataset.sft_per_task", "grpo.old_logprobs"}
    with pytest.raises(ValueError, match="no variant 'tiny'; there are: "):
        importlib.import_module(f"experiments.ablations.{name}").get_config("tiny")


@pytest.mark.parametrize("name", FILES)
def test_its_docstring_promises_question_command_needs_and_expectation(name: str) -> None:
    text = importlib.import_module(f"experiments.ablations.{name}").__doc__
    for word in ("Question", "Command", "Needs", "Expect", "Variants"):
        assert f"\n{word}  " in text, word
    assert f"experiments/ablations/{name}.py" in text


def test_every_row_of_the_table_has_its_file_and_its_arms() -> None:
    named = {each.name for each in table_ablation.ABLATIONS}
    assert named == set(FILES) - {"task_count"}
    for each in table_ablation.ABLATIONS:
        assert {model for model, _ in each.models} <= set(load(each.name).models)
    whole = load("full_method")
    controls = {control for each in table_ablation.ABLATIONS for _, control in each.models}
    assert controls <= set(whole.models)
    # What has a number in the paper's main table is named as there.
    known = {entry.model for entry in paper_numbers.MAIN}
    assert {each.paper_model for each in table_ablation.ABLATIONS} - {""} <= known


def test_fewer_tasks_are_among_more() -> None:
    by_count = {
        len(each.dataset.tasks): each.dataset.tasks
        for each in (task_count.get_config(variant) for variant in ("1", "8", "32", ""))
    }
    assert list(by_count) == [1, 8, 32, 107]
    assert by_count[1] == ("game24",)
    for fewer, more in ((1, 8), (8, 32), (32, 107)):
        assert by_count[more][:fewer] == by_count[fewer]
    assert {registry.get(name).split for name in by_count[107]} == {"train"}
    counts = {v: len(task_count.get_config(v).dataset.tasks) for v in ("demo-1", "demo-4", "demo")}
    assert counts == {"demo-1": 1, "demo-4": 4, "demo": 6}
    assert task_count.get_config().dataset.grpo_per_task == 50


def test_controls_of_the_curriculum_take_the_same_steps() -> None:
    for variant in curriculum_controls.VARIANTS:
        controls = curriculum_controls.get_config(variant)
        steps = {sum(controls.grpo_of(arm).steps_per_stage) for arm in controls.arms}
        assert len(steps) == 1
        assert [arm.order for arm in controls.arms] == [
            "curriculum",
            "uniform",
            "uniform",
            "random_subset",
            "difficulty",
        ]
    refilled = [controls.grpo_of(arm).signal.refill_rounds > 0 for arm in controls.arms]
    assert refilled == [False, False, True, False, False]


def test_a_cold_start_is_named_as_one() -> None:
    assert results.model_name("grpo_no_sft") == "GRPO without SFT"
    assert results.model_name("grpo_no_sft_long") == "GRPO without SFT long"
    assert results.model_name("grpo_uniform") == "SFT + GRPO, uniform"
    for name, start in (("grpo_cold", "untrained"), ("grpo_no_sft", "sft")):
        with pytest.raises(UserError, match="names that begin with grpo_no_sft are those of arms"):
            Arm(name=name, start=start)  # pyright: ignore[reportArgumentType]


# --- the toys train ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile what several toys share once; the tests of other files compile as ever."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def micro(compiled_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy model smaller still: what is tried here does not depend on its size."""
    monkeypatch.setitem(presets.PRESETS, "toy", MICRO)  # pyright: ignore[reportArgumentType]


def run(experiment: Experiment, path: pathlib.Path, only: str | None = None) -> RunDir:
    with RunDir.open(path, experiment) as directory, Sandbox(experiment.sandbox) as sandbox:
        pipeline.run(experiment, directory, sandbox, only=only)
    return RunDir.view(path)


def steps(directory: RunDir, stage: str) -> list[int]:
    records = metrics.read(directory.metrics_path)
    return [record["step"] for record in records if record["stage"] == stage]


def weights(experiment: Experiment, directory: RunDir, model: str) -> list[Any]:
    state = pipeline.Run(experiment, directory, sandbox=cast(Sandbox, None))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.load_weights(model))]


def all_arms() -> Experiment:
    """Return one toy with the arms of all ablations of reinforcement learning: one SFT for all."""
    whole = full_method.get_config("toy")
    arms = []
    for name in FILES:
        if name in ("task_count", "full_method"):
            continue
        changed = load(name, "toy")
        if changed.arms == whole.arms and changed.grpo == whole.grpo:
            continue
        for arm in changed.arms:
            grpo = dataclasses.replace(changed.grpo_of(arm), checkpoint_every=2)
            if arm.start == "untrained":
                grpo = dataclasses.replace(grpo, lr=0.0)
            own = arm.name if arm.name != "grpo_curriculum" else f"grpo_{name}"
            arms.append(dataclasses.replace(arm, name=own, grpo=grpo))
    return dataclasses.replace(whole, name="all-arms", arms=tuple(arms))


def test_the_toys_of_reinforcement_learning_train_two_steps(
    micro: None, tmp_path: pathlib.Path
) -> None:
    experiment = all_arms()
    names = [arm.name for arm in experiment.arms]
    assert sorted(names) == [
        "grpo_difficulty",
        "grpo_no_observation_mask",
        "grpo_no_sft",
        "grpo_online",
        "grpo_ppo",
        "grpo_reinforce_plus_plus",
        "grpo_uniform",
    ]
    directory = run(experiment, tmp_path / "run")
    for name in ("sft", *names):
        assert steps(directory, name) == [1, 2], name
    # The critic of PPO learns, and no other arm has one.
    critics = {r["stage"] for r in metrics.read(directory.metrics_path) if "critic/loss" in r}
    assert critics == {"grpo_ppo"}
    # At rate 0 a cold start ends where it began: at the untrained model, not the SFT model.
    begun, sft, ended = (
        weights(experiment, directory, model) for model in ("untrained", "sft", "grpo_no_sft")
    )
    assert all(np.array_equal(left, right) for left, right in zip(begun, ended, strict=True))
    assert not all(np.array_equal(left, right) for left, right in zip(begun, sft, strict=True))
    table = table_ablation.build([results.read_run(directory.path)])
    assert {record["model"] for record in table.records} == set(names)


@pytest.mark.parametrize(
    "name",
    ["wrong_trajectories", "no_prompt_variety", "single_turn", "no_observation_mask", "task_count"],
)
def test_the_toys_of_supervised_fine_tuning_train_two_steps(
    micro: None, name: str, tmp_path: pathlib.Path
) -> None:
    experiment = load(name, "toy")
    experiment = dataclasses.replace(
        experiment, sft=dataclasses.replace(experiment.sft, checkpoint_every=2)
    )
    directory = run(experiment, tmp_path / "run", only="sft")
    shown = list(datasets.load_trajectories(directory.data))
    assert steps(directory, "sft") == [1, 2]
    match name:
        case "wrong_trajectories":
            assert 0 < sum(each.kind == "wrong" for each in shown) < len(shown) / 2
            assert [each.correct for each in shown] == [each.kind != "wrong" for each in shown]
        case "no_prompt_variety":
            assert {each.agent for each in shown} == {"code_agent"}
        case "single_turn":
            assert {sum(s.role == "observation" for s in each.segments) for each in shown} <= {0, 1}
        case "task_count":
            assert len({each.task for each in shown}) == 1
