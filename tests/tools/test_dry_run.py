"""`r1ci run --dry-run`: counts by hand, memory as the arrays really have it, nothing written."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import (
    Arm,
    DatasetConfig,
    EvalConfig,
    Experiment,
    GrpoConfig,
    ModelConfig,
    PotentialConfig,
    SamplerConfig,
    SftConfig,
    TrainConfig,
    TurnLimits,
)
from r1ci_jax.data import encoding, packing
from r1ci_jax.model import presets, qwen2
from r1ci_jax.tools import tpu
from r1ci_jax.tools.plan import costs, dry_run, estimate

TOY = presets.get("toy")
EXPERIMENT = Experiment(
    name="probe",
    model=ModelConfig(preset="toy"),
    # reversi is a task for testing: evaluated, not trained on.
    dataset=DatasetConfig(
        tasks=("toy_letters", "toy_search", "reversi"),
        sft_per_task=7,
        grpo_per_task=5,
        eval_per_task=3,
    ),
    sampler=SamplerConfig(slots=8, cache_length=128, prefill_buckets=(64,)),
    limits=TurnLimits(max_new_tokens=100),
    sft=SftConfig(epochs=2, batch_size=4, sequence_length=64),
    potential=PotentialConfig(samples_per_agent=5),
    grpo=GrpoConfig(
        prompts_per_step=2,
        rollouts_per_prompt=3,
        steps_per_stage=(1, 2, 3, 4),
        sequence_lengths=(64, 128),
        microbatch_tokens=256,
    ),
    eval=EvalConfig(samples_per_question=2, agents=("code_agent", "all_text")),
)


@pytest.fixture(scope="module")
def found() -> dry_run.DryRun:
    return dry_run.examine(EXPERIMENT, TOY)


def test_questions_and_work_by_hand(found: dry_run.DryRun) -> None:
    assert found.questions == {"sft": 14, "grpo": 10, "eval": 9}
    sft, potential, uniform, curriculum, evaluation = found.work
    # 2 x 14 rows in batches of 4; 4 agents x 5 samples x 10 questions; 10 steps of 2 x 3 rollouts;
    # 9 questions x 2 samples x 2 agents x 4 models.
    assert (sft.stage, sft.steps, sft.trained_tokens) == ("sft", 7, 2 * 14 * 64)
    assert (potential.trajectories, potential.sampled_tokens) == (200, 20_000)
    assert (uniform.stage, uniform.steps, uniform.trajectories) == ("grpo_uniform", 10, 60)
    assert uniform.trained_tokens == 60 * 128
    assert dataclasses.replace(curriculum, stage="grpo_uniform") == uniform
    assert (evaluation.trajectories, evaluation.steps) == (144, 0)


def test_options_that_change_the_work(found: dry_run.DryRun) -> None:
    def arm(**changes: object) -> dry_run.Work:
        grpo = dataclasses.replace(EXPERIMENT.grpo, **changes)  # type: ignore[arg-type]
        arms = (Arm(name="grpo_one", grpo=grpo),)
        return dry_run.examine(dataclasses.replace(EXPERIMENT, arms=arms), TOY).work[2]

    plain = found.work[2]
    budget = arm(rollout_budget=20)
    assert (budget.steps, budget.trajectories) == (4, 24)  # three steps of six spend 18
    assert arm(replay_rollouts="x").sampled_tokens == 0
    # Without the reference's pass a step is three passes of four.
    assert arm(kl_coef=0.0).training_flops == pytest.approx(plain.training_flops * 3 / 4)
    assert arm(num_iterations=2).training_flops == pytest.approx(plain.training_flops * 7 / 4)


def test_supervised_steps_are_a_bound_of_the_real_ones(found: dry_run.DryRun) -> None:
    tokens = np.arange(30)
    row = encoding.Encoded(tokens_T=tokens, sampled_T=np.ones(30, bool))
    for most, exact in ((1, True), (None, False)):
        rows = packing.pack([row] * 14, 64, pad_id=0, max_sequences_per_row=most)
        steps = packing.packed_batches(rows, 4, epochs=2, seed=0).steps
        assert steps is not None and steps <= found.work[0].steps
        assert not exact or found.work[0].steps - steps <= 1  # the last batch must be full


def test_parameters_and_memory_are_those_of_the_arrays(found: dry_run.DryRun) -> None:
    model = nnx.jit(lambda key: qwen2.Qwen2(TOY, rngs=nnx.Rngs(key)))(jax.random.key(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(model))]
    assert found.parameters == found.trained_parameters == sum(sizes)
    held = found.held_bytes["sft"]
    assert held["parameters"] == 4 * sum(sizes)
    assert held["optimizer"] == pytest.approx(2 * 4 * sum(sizes), abs=64)  # and step counters
    assert set(found.held_bytes) == {"decode", "prefill", "sft", "grpo"}
    lora = dataclasses.replace(EXPERIMENT, train=TrainConfig(lora_rank=2))
    adapted = dry_run.examine(lora, TOY)
    assert 0 < adapted.trained_parameters < found.trained_parameters / 10
    assert adapted.parameters == found.parameters


def test_hours_by_hand(found: dry_run.DryRun) -> None:
    chip = tpu.GENERATIONS["v5p"].chip
    tokens = 20_000 + 2 * 6_000 + 14_400
    training = sum(each.training_flops for each in found.work) / chip.flops
    decoding = costs.decode_flops(TOY, 8, 32) / chip.flops
    hours = found.least_hours["v5p"]
    # A step of so small a model waits for memory, not for its operations.
    assert hours > (training + tokens / 8 * decoding) / 3600
    doubled = dataclasses.replace(EXPERIMENT, limits=TurnLimits(max_new_tokens=50))
    halved = dry_run.examine(doubled, TOY).least_hours["v5p"]
    assert hours - training / 3600 == pytest.approx(2 * (halved - training / 3600))


FILE = """
from r1ci_jax.config import *

def get_config(variant=""):
    return Experiment(name="probe", dataset=DatasetConfig(tasks=("toy_letters",)))
"""


def test_the_command_writes_nothing_and_shards(tmp_path: Path, run_on_devices) -> None:
    (tmp_path / "probe.py").write_text(FILE)
    source = f"""
import os, sys
os.chdir({str(tmp_path)!r})
from r1ci_jax.cli.main import main
sys.exit(main(["run", "probe.py", "--dry-run", "--json", "--config.mesh.fsdp=4"]))
"""
    report = json.loads(run_on_devices(1, source))  # the mesh has more devices than the machine
    assert report["devices"] == 4 and report["parameters"] == dry_run_parameters()
    # Matrices are sharded over the four; norms and biases are not.
    held, whole = report["held_bytes"]["sft"]["parameters"], 4 * report["parameters"]
    assert whole / 4 <= held < whole / 3.5
    assert [path.name for path in tmp_path.iterdir()] == ["probe.py"]


def dry_run_parameters() -> int:
    shapes = nnx.eval_shape(lambda: qwen2.Qwen2(TOY, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))


def test_text_has_every_stage(found: dry_run.DryRun) -> None:
    text = dry_run.render_text(found)
    for word in (
        "mesh",
        "854,144",
        "sft 14, grpo 10, eval 9",
        "grpo_curriculum",
        "hours at",
        "v6e",
    ):
        assert word in text
    assert all(len(line) < 200 or line.startswith("At most") for line in text.splitlines())
    assert json.loads(json.dumps(dry_run.make_report(found)))["work"][0]["steps"] == 7


def test_a_plan_shows_that_it_is_alive_and_draws_nothing_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The compiler is this machine's: libtpu is half a gigabyte, and the display does not know it.
    monkeypatch.setattr(estimate, "topology_devices", lambda _: jax.devices()[:1])
    plan = estimate.make_plan(
        EXPERIMENT, TOY, topology="v5e:1x1", parts=("prefill", "decode"), is_training=False
    )
    assert [part.part for part in plan.parts] == ["prefill", "decode"]
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == "" and lines[0] == "plan: start"
    assert lines[-1].startswith("plan: done | 2/2 | took ")
    assert "\x1b" not in shown.err and "\r" not in shown.err
