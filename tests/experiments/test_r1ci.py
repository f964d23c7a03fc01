"""The paper's three runs: its figures, meshes that fit, and the whole recipe on a toy model."""

import json
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest

from experiments import paper_numbers, r1ci_3b, r1ci_7b, r1ci_14b, r1ci_recipe
from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.cli.main import main
from r1ci_jax.config import Experiment
from r1ci_jax.data import build
from r1ci_jax.model import presets
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks import registry
from r1ci_jax.text import prompts
from r1ci_jax.tools import tpu
from r1ci_jax.tools.launch import checks
from tests.load import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
FILES = {"3b": r1ci_3b, "7b": r1ci_7b, "14b": r1ci_14b}


@pytest.fixture(params=FILES)
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def module(size: str) -> ModuleType:
    return FILES[size]


@pytest.fixture
def run(module: ModuleType) -> Experiment:
    return module.get_config()


def test_files_load_as_a_user_names_them(size: str) -> None:
    file = f"experiments/r1ci_{size}.py"
    whole = experiments.load(file)
    toy = experiments.load(f"{file}:toy", ["--config.seed=3"])
    assert (whole.name, toy.name, toy.seed) == (f"r1ci-{size}", f"r1ci-{size}-toy", 3)
    with pytest.raises(ValueError, match="no variant 'tiny'"):
        FILES[size].get_config("tiny")


def test_each_is_compared_with_its_row_of_the_paper(size: str, run: Experiment) -> None:
    assert run.paper_row in {published.row for published in paper_numbers.MAIN}
    # "R1-CI-14B": 14 billion parameters, as the checkpoint's name and its architecture have it.
    assert f"-{size.upper()}-Instruct" in run.model.checkpoint
    assert f"-{size}-instruct" in run.model.architecture
    assert run.model.architecture in presets.PRESETS


def test_tasks_and_questions_are_as_many_as_the_papers(run: Experiment) -> None:
    splits = [registry.get(name).split for name in run.dataset.tasks]
    assert (splits.count("train"), splits.count("test")) == (
        paper_numbers.TRAIN_TASKS,
        paper_numbers.TEST_TASKS,
    )
    # At most 70 trajectories a task; 6.5 thousand in all are fewer than that makes.
    assert run.dataset.sft_per_task == 70 and 70 * paper_numbers.TRAIN_TASKS > 6500
    assert run.dataset.eval_per_task >= 200


def test_figures_of_the_paper(run: Experiment) -> None:
    sft, grpo = run.sft, run.grpo
    # One demonstration a row: 6.5 thousand three times, 32 at a time.
    assert not sft.packing
    assert -(-6500 * sft.epochs // sft.batch_size) == 610
    # 128 questions with five answers each, 600 steps in all.
    assert grpo.prompts_per_step * grpo.rollouts_per_prompt == 640
    assert grpo.steps_per_stage == (150, 150, 150, 150)
    assert (grpo.lr, grpo.kl_coef, grpo.temperature) == (1e-6, 1e-3, 1.0)
    assert run.eval.sampling.temperature == 0.6
    # N = 20: five answers by each of four agents.
    assert 4 * run.potential.samples_per_agent == 20
    assert run.potential.lower_bounds == (0.64, 0.48, 0.32)
    assert run.limits.max_code_calls == 8 and grpo.turn_penalty_after == 6
    assert run.sandbox.limits.wall_seconds == 60.0
    assert run.train.lora_rank == 0, "all weights are trained"


def test_a_trajectory_fits_cache_rows_and_model(run: Experiment) -> None:
    length = r1ci_recipe.LENGTH
    assert run.sampler.cache_length == run.sft.sequence_length == length
    assert run.grpo.sequence_lengths[-1] == length
    assert presets.get(run.model.architecture).max_positions >= length
    # One row of the full length a device, more of the shorter ones; the batch is cut evenly.
    rows = [
        run.grpo.microbatch_rows(size, run.mesh.num_batch_shards)
        for size in run.grpo.sequence_lengths
    ]
    assert rows == [8 * run.mesh.num_devices, 4 * run.mesh.num_devices, 2 * run.mesh.num_devices,
                    run.mesh.num_devices]  # fmt: skip


def test_the_mesh_has_as_many_devices_as_the_topology_chips(
    module: ModuleType, run: Experiment
) -> None:
    by_topology = {known.topology: known for known in tpu.SLICES.values()}
    tpu_slice = by_topology[module.TOPOLOGY]
    checks.check_mesh(run, tpu_slice)
    assert run.mesh.num_devices == tpu_slice.chips
    assert module.__doc__ is not None and f"--tpu {tpu_slice.name} " in module.__doc__


def test_the_policy_reads_what_is_known_of_the_papers_prompt(
    module: ModuleType, run: Experiment
) -> None:
    instructions = build.instructions(run)
    assert instructions is prompts.PAPER_INSTRUCTIONS and prompts.GUIDE in instructions
    # A model of a million weights learns from demonstrations alone.
    assert build.instructions(module.get_config("toy")) is prompts.NO_INSTRUCTIONS


def test_the_toy_keeps_the_recipe(module: ModuleType, run: Experiment) -> None:
    toy = module.get_config("toy")
    assert (toy.potential, toy.eval, toy.seed) == (run.potential, run.eval, run.seed)
    for group, kept in {
        "train": ("dtype", "remat", "lora_rank"),
        "sampler": ("dtype", "weight_quantization", "cache_quantization"),
        "sft": ("epochs", "lr", "schedule", "packing"),
        "grpo": ("rollouts_per_prompt", "lr", "kl_coef", "old_logprobs", "clip_low", "clip_high"),
        "limits": ("max_code_calls",),
    }.items():
        for name in kept:
            assert getattr(getattr(toy, group), name) == getattr(getattr(run, group), name), name
    assert toy.mesh.num_devices == 1 and toy.sft.num_microbatches == 2
    shown = toy.dataset.sft_per_task * len(toy.dataset.tasks)
    assert shown * toy.sft.epochs == 2 * toy.sft.batch_size
    assert sum(toy.grpo.steps_per_stage) == 2


def test_the_recipe_runs_from_data_to_report(tmp_path: pathlib.Path) -> None:
    command = ["run", "experiments/r1ci_14b.py:toy", "--workdir", str(tmp_path / "run"), "--json"]
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
    told = json.loads(done.stdout)
    assert told["stages"] == ["data", "sft", "potential", "grpo", "eval", "table", "report"]
    steps = [(row["stage"], row["step"]) for row in metrics.read(tmp_path / "run/metrics.jsonl")]
    for training in ("sft", "grpo_curriculum", "grpo_uniform"):
        assert [step for stage, step in steps if stage == training] == [1, 2]
    assert {row["model"] for row in metrics.read(tmp_path / "run/results.jsonl")} == {
        "untrained",
        "sft",
        "grpo_curriculum",
        "grpo_uniform",
    }


def test_a_run_without_demonstrations_ends_before_it_begins(
    size: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--workdir", str(tmp_path / "run")]
    tasks = "--config.dataset.tasks=bbh_snarks,bbh_ruin_names"
    assert main(["data", "build", f"experiments/r1ci_{size}.py", *where, tasks]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "2 of the tasks have no scripted teacher" in line
    assert "--config.demonstrations.path=FILE.jsonl" in line
    assert not (tmp_path / "run").exists()
