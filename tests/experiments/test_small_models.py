"""The experiments on real weights: their settings, their rule, and every stage on tiny weights."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jax
import pytest
from flax import nnx

from experiments import (
    qwen2_5_coder_0_5b,
    small_recipe,
    smollm2_135m,
    table_task_choice,
    task_choice,
)
from experiments.task_choice import TaskFacts
from r1ci_jax.cli import experiment_file
from r1ci_jax.cli.main import main
from r1ci_jax.config import Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import tables
from r1ci_jax.model import qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks import registry
from r1ci_jax.teachers import teacher_catalogue
from r1ci_jax.text import tokenizer as tokenizers
from tests.load import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[smollm2_135m, qwen2_5_coder_0_5b], ids=["smollm2", "qwen"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.fixture
def whole(module: ModuleType) -> Experiment:
    return module.get_config()


# --- settings ------------------------------------------------------------------------------------


def test_variants_load_as_a_user_names_them(module: ModuleType, whole: Experiment) -> None:
    file = f"experiments/{module.__name__.rpartition('.')[2]}.py"
    names = [experiment_file.load(f"{file}:{variant}").name for variant in module.VARIANTS[1:]]
    assert names == [whole.name, *(f"{whole.name}-{each}" for each in ("choose", "gpu", "smoke"))]
    seeded = experiment_file.load(file, ["--config.seed=2", "--config.model.checkpoint=some/where"])
    assert (seeded.seed, seeded.model.checkpoint) == (2, "some/where")
    with pytest.raises(ValueError, match="no variant 'tiny'"):
        module.get_config("tiny")
    for variant in module.VARIANTS[1:]:
        assert f":{variant} " in str(module.__doc__)


def test_tasks_are_enough_and_can_be_taught(whole: Experiment) -> None:
    by_split: dict[str, list[str]] = {"train": [], "test": []}
    for name in whole.dataset.tasks:
        by_split[registry.get(name).split].append(name)
        assert registry.get(name).count() is None, "no download"
    assert len(by_split["train"]) >= table_task_choice.TRAIN_WANTED
    assert len(by_split["test"]) >= table_task_choice.TEST_WANTED
    assert set(by_split["train"]) <= set(small_recipe.TRAIN_CANDIDATES)
    assert set(by_split["test"]) <= set(small_recipe.TEST_CANDIDATES)
    assert set(small_recipe.TRAIN_CANDIDATES) <= set(teacher_catalogue.by_task())


def test_a_choice_is_measured_on_all_candidates_and_trains_no_arm(module: ModuleType) -> None:
    choose = module.get_config("choose")
    assert choose.dataset.tasks == (*small_recipe.TRAIN_CANDIDATES, *small_recipe.TEST_CANDIDATES)
    assert choose.arms == () and choose.models == ("untrained", "sft")
    # A test task has evaluation questions alone, which must show more answers than the rule's.
    assert choose.dataset.eval_per_task > task_choice.RULE.answers_above


@pytest.mark.parametrize("variant", ["cpu", "smoke"])
def test_arms_are_compared_at_equal_steps_and_rollouts(module: ModuleType, variant: str) -> None:
    whole = module.get_config(variant)
    settings = [whole.grpo_of(arm) for arm in whole.arms]
    assert whole.arms[0].order == "curriculum" and len(whole.arms) >= 3
    assert {each.steps_per_stage for each in settings} == {whole.grpo.steps_per_stage}
    refilled = [each for each in settings if each.signal.refill_rounds]
    steps = sum(whole.grpo.steps_per_stage)
    assert all(each.rollout_budget == whole.grpo.num_rollouts * steps for each in refilled)
    assert whole.train.lora_rank > 0 and whole.grpo.kl_coef == 0


def test_one_gpu_trains_on_the_papers_tasks(module: ModuleType) -> None:
    gpu = module.get_config("gpu")
    splits = [registry.get(name).split for name in gpu.dataset.tasks]
    assert (splits.count("train"), splits.count("test")) == (107, 37)
    assert gpu.mesh.num_devices == 1 and gpu.train.lora_rank == 0 and gpu.paper_row == ""
    assert gpu.model.checkpoint == module.MODEL.hub_id and gpu.model.architecture == ""


def test_without_weights_one_line_says_how_to_get_them(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"experiments/{module.__name__.rpartition('.')[2]}.py"
    assert main(["sft", file, "--workdir", str(tmp_path / "run")]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "does not exist" in row]
    assert f"r1ci weights import FILE.gguf {module.MODEL.directory}" in line


# --- the rule ------------------------------------------------------------------------------------

FITS = TaskFacts(task="fits", split="train", p=0.5, answers=11, question_tokens=200)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, ()),
        ({"p": 0.1}, ("p is not above 0.1",)),
        ({"p": 0.11}, ()),
        ({"p": 0.8}, ("p is not below 0.8",)),
        ({"p": 0.79}, ()),
        ({"answers": 10}, ("10 different answers, not above 10",)),
        ({"question_tokens": 201}, ("a question of 201 tokens",)),
        (
            {"p": 0.0, "answers": 1},
            ("p is not above 0.1", "1 different answers, not above 10"),
        ),
    ],
)
def test_a_task_is_taken_inside_its_bounds(changes: dict, broken: tuple[str, ...]) -> None:
    assert task_choice.broken_bounds(dataclasses.replace(FITS, **changes)) == broken


def test_of_too_many_tasks_those_nearest_to_one_half_are_taken() -> None:
    rule = task_choice.Rule(max_train=2, max_test=1)
    rates = {"a": 0.2, "b": 0.45, "c": 0.9, "d": 0.6, "e": 0.65}
    facts = [dataclasses.replace(FITS, task=task, p=p) for task, p in rates.items()]
    facts += [dataclasses.replace(FITS, task="t", split="test", p=0.3)]
    choice = task_choice.choose(facts, rule)
    assert choice == (("b", "d"), ("t",))
    # The order of the tasks does not matter, and equal distances go by name.
    assert task_choice.choose(reversed(facts), rule) == choice
    twins = [dataclasses.replace(FITS, task=task, p=p) for task, p in (("z", 0.4), ("y", 0.6))]
    assert task_choice.choose(twins, task_choice.Rule(max_train=1)).train == ("y",)
    assert task_choice.as_constants(choice) == (
        'TRAIN_TASKS = (\n    "b",\n    "d",\n)\nTEST_TASKS = (\n    "t",\n)'
    )


# --- all stages ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as Hugging Face has it, in Llama layout as SmolLM2, with random weights."""
    place = tmp_path_factory.mktemp("hf") / "model"
    config = qwen2.Qwen2Config(
        vocab_size=320,
        width=32,
        layers=2,
        query_heads=2,
        kv_heads=1,
        head_dim=16,
        mlp_width=48,
        tied=True,
        qkv_bias=False,
    )
    model = nnx.jit(lambda key: qwen2.Qwen2(config, rngs=nnx.Rngs(key)))(jax.random.key(0))
    weights.save_pretrained(model, place)
    texts = ["Calculate 12 + 7 - 5. ```python\nprint(14)\n``` <<<14>>> Spell backward"] * 3
    tokenizers.train_byte_bpe(texts, 300).save(place)
    return place


def test_every_stage_runs_from_a_checkpoint_and_the_choice_is_read(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["run", "experiments/smollm2_135m.py:smoke", "--workdir", str(run), "--json"]
    command += [f"--config.model.checkpoint={checkpoint}"]
    command += ["--config.arms=grpo_curriculum,grpo_uniform_refill"]
    done = subprocess.run(
        [sys.executable, "-m", "r1ci_jax", *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert stages == ["data", "sft", "potential", "grpo", "eval", "table", "report"]
    models = {row["model"] for row in metrics.read(run / "results.jsonl")}
    assert models == {"untrained", "sft", "grpo_curriculum", "grpo_uniform_refill"}

    facts = {each.task: each for each in task_choice.read_facts(run)}
    assert set(facts) == set(small_recipe.SMOKE_TASKS)
    potential = list(metrics.read(run / "potential.jsonl"))
    mean = sum(row["p"] for row in potential if row["task"] == "rg_chain_sum") / 2
    assert facts["rg_chain_sum"].p == mean
    assert (facts["rg_products"].split, facts["rg_products"].answers) == ("test", 2)
    # 8 + 2 + 2 questions, and words of several tokens.
    assert facts["rg_spell_backward"].answers == 12
    assert facts["rg_spell_backward"].question_tokens > 10

    table = table_task_choice.build([tables.read_run(run)])
    why_not = {record["task"]: record["why_not"] for record in table.records}
    assert "p is not above 0.1" in why_not["rg_products"]
    assert "Too few: 10 and 4 are wanted." in table.note

    (run / "potential.jsonl").unlink()
    with pytest.raises(UserError, match=r"has not measured rg_spell_backward; finish it"):
        task_choice.read_facts(run)
