"""Plans for TPUs: arithmetic by hand, collectives in HLO text, compiled programs."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.config import (
    Arm,
    DatasetConfig,
    Experiment,
    GrpoConfig,
    MeshConfig,
    SamplerConfig,
    TrainConfig,
)
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import ObjectiveConfig
from r1ci_jax.model import presets
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tools import tpu
from r1ci_jax.tools.plan import costs, estimate, hlo, programs, summary
from tests.load import PATIENCE

ROOT = Path(__file__).parents[2]
TINY = Qwen2Config(
    vocab_size=100, width=10, layers=3, query_heads=4, kv_heads=2, head_dim=6, mlp_width=30
)
# One layer: q and o 10 x 24 each, k and v 10 x 12 each, three of 10 x 30.
TINY_LAYER = 2 * 240 + 2 * 120 + 3 * 300
CHIP = tpu.Chip(name="round", flops=100.0, hbm_bytes=1000.0, hbm_bandwidth=10.0, axis_bandwidth=2.0)

# --- arithmetic ----------------------------------------------------------------------------------


def test_operations_of_a_decode_step() -> None:
    assert costs.layer_parameters(TINY) == TINY_LAYER == 1620
    # A token and layer: 2 x 1620, and 2 x 4 heads x 6 wide for scores and as much for the mix, of
    # each of 7 positions. The head: 2 x 10 x 100.
    assert costs.decode_flops(TINY, slots=6, length=7) == 6 * (3 * (3240 + 96 * 7) + 2000)


def test_operations_of_a_prefill_call() -> None:
    expected = 2 * 4 * (3240 + 96 * 7)
    assert costs.prefill_layer_flops(TINY, rows=2, tokens=4, length=7) == expected


def test_operations_of_a_forward_pass_see_half_of_the_row() -> None:
    expected = 2 * 8 * (3 * (3240 + 96 * 4) + 2000)
    assert costs.forward_flops(TINY, rows=2, tokens=8) == expected


def test_parameters_of_the_7b_preset_as_published() -> None:
    config = presets.get("qwen2.5-7b")
    # 7.62 billion in all, 6.53 without embeddings (its model card).
    layers = config.layers * costs.layer_parameters(config)
    assert round(layers / 1e9, 2) == 6.53
    assert round((layers + 2 * config.vocab_size * config.width) / 1e9, 2) == 7.62


def test_roofline_by_hand() -> None:
    ring = hlo.Collective(kind="all-reduce", devices=4, count=1, payload_bytes=8.0)
    assert ring.moved_bytes == 12.0  # 2 x 3/4 of it
    times = costs.roofline(
        CHIP,
        flops=300.0,
        least_bytes=50.0,
        compiled_flops=600.0,
        compiled_bytes=140.0,
        collectives=[ring],
    )
    assert times.least_seconds == 5.0  # memory: 50 / 10, above 300 / 100
    assert times.step_seconds == 14.0 + 6.0
    assert times.roofline_fraction == 0.25
    assert times.bound == "memory"


@pytest.mark.parametrize(
    ("kind", "moved"),
    [
        ("all-gather", 6.0),
        ("reduce-scatter", 6.0),
        ("all-to-all", 6.0),
        ("collective-permute", 8.0),
    ],
)
def test_bytes_that_each_device_sends(kind: str, moved: float) -> None:
    each = hlo.Collective(kind=kind, devices=4, count=1, payload_bytes=8.0)
    assert each.moved_bytes == moved


def test_collectives_of_trainers_by_hand() -> None:
    how = TrainConfig(dtype="bfloat16")
    found = costs.training_collectives(
        TINY,
        MeshConfig(slices=2, data=3, fsdp=5, tensor=2),
        how,
        rows=60,
        tokens=8,
        num_microbatches=4,
    )
    # Three layers of 1620 entries and a table of 100 x 10, halved by tensor: 2430 and 500.
    by = {(each.kind, each.devices): (each.count, each.payload_bytes) for each in found}
    assert by == {
        # Both ways through 7 matrices in 3 layers, and the head: two bytes each.
        ("all-gather", 5): (4 * 43, 4 * 2 * (2 * 2430 + 500)),
        ("reduce-scatter", 5): (4 * 22, 4 * (2 * 2430 + 4 * 500)),
        # Two sums a layer forwards, two backwards, one again; 2 rows x 8 tokens x 10 wide.
        ("all-reduce", 2): (4 * 5 * 3, 5 * 3 * 2 * 8 * 10 * 2),
        ("all-reduce", 6): (4 * 22, 4 * (2 * 2430 + 4 * 500) / 5),
    }
    alone = costs.training_collectives(
        TINY, MeshConfig(), how, rows=60, tokens=8, num_microbatches=4, num_reference_passes=1
    )
    assert alone == ()


def test_recomputed_operations_by_hand() -> None:
    again = {
        remat: costs.repeated_flops(TINY, rows=2, tokens=8, remat=remat)
        for remat in ("none", "dots", "attention", "layer")
    }
    matrices, mix = 2 * 8 * 3 * 2 * TINY_LAYER, 2 * 8 * 3 * 96 * 4
    assert again == {"none": 0, "dots": mix, "attention": matrices, "layer": matrices + mix}


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("decode", {},
         'set sampler.dtype = "bfloat16"; or set sampler.cache_quantization = "int8"'),
        ("prefill", {}, "lower sampler.prefill_rows"),
        ("sft", {"train": TrainConfig(remat="none")},
         'set train.dtype = "bfloat16"; or set train.remat = "attention"'),
        ("sft", {"train": TrainConfig(dtype="bfloat16")},
         'set sft.num_microbatches = 2; or set train.remat = "layer"'),
        ("grpo", {"grpo": GrpoConfig(microbatch_tokens=1024)}, "set grpo.microbatch_tokens = 512"),
        ("grpo", {"mesh": MeshConfig(data=2)}, "move mesh.data to mesh.fsdp"),
    ],
)  # fmt: skip
def test_advice_names_settings_that_the_experiment_has_left(
    part: str, changes: dict[str, Any], said: str
) -> None:
    experiment = Experiment(name="t", dataset=DatasetConfig(tasks=("toy_letters",)), **changes)
    large = estimate.PartPlan(
        part=part, arms=(), step="", memory=None, refusal="", flops=1.0, least_bytes=1.0,
        held_bytes={},
        num_copies=1, compiled_bytes=None, collectives=(), roofline=None,
    )  # fmt: skip
    suggested = summary.advice(large, experiment)
    assert said in suggested and suggested.endswith("; or take a larger topology")


def test_arms_of_other_memory_are_planned_apart_and_the_largest_first() -> None:
    small = GrpoConfig(microbatch_tokens=512, kl_coef=0.0)
    experiment = Experiment(
        name="t",
        dataset=DatasetConfig(tasks=("toy_letters",)),
        arms=(
            Arm(name="grpo_small", grpo=small),
            Arm(name="grpo_plain"),
            Arm(name="grpo_slow", grpo=dataclasses.replace(small, lr=1e-9)),
        ),
    )
    assert programs.split_arms(experiment) == [
        (("grpo_plain",), experiment.grpo),
        (("grpo_small", "grpo_slow"), small),
    ]
    assert programs.split_arms(dataclasses.replace(experiment, arms=())) == [((), experiment.grpo)]


@pytest.mark.parametrize(("kl_coef", "copies"), [(0.0, (3, 4, 4)), (0.1, (3, 5, 5))])
def test_copies_of_the_weights_by_hand(kl_coef: float, copies: tuple[int, ...]) -> None:
    """SFT: parameters, two moments. GRPO: also gradients, then the sampler's, and a reference."""
    grpo = GrpoConfig(kl_coef=kl_coef)
    experiment = Experiment(name="t", dataset=DatasetConfig(tasks=("toy_letters",)), grpo=grpo)
    setup = programs.Setup(experiment=experiment, config=TINY, mesh=meshes.one_device(), grpo=grpo)
    assert copies == tuple(
        programs.PROGRAMS[part](setup).num_copies(TINY) for part in ("sft", "grpo", "decode")
    )


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_what_the_devices_hold_in_each_phase(kl_coef: float) -> None:
    """During an update nothing of the sampler is left but the table of its automaton."""
    grpo = GrpoConfig(kl_coef=kl_coef)
    experiment = Experiment(
        name="t",
        dataset=DatasetConfig(tasks=("toy_letters",)),
        sampler=SamplerConfig(page_length=64),
        grpo=grpo,
    )
    setup = programs.Setup(experiment=experiment, config=TINY, mesh=meshes.one_device(), grpo=grpo)
    parts = programs.parts_of(experiment)
    assert parts == ("decode", "prefill", "sft", "grpo")
    held = {part: programs.PROGRAMS[part](setup).held_bytes for part in parts}
    trainer = {"parameters", "optimizer"} | ({"reference"} if kl_coef else set())
    sampler = {"sampler weights", "cache", "stop table", "inputs"}
    assert held["sft"].keys() == {"parameters", "optimizer", "inputs"}
    assert held["grpo"].keys() == trainer | {"gradients", "stop table", "inputs"}
    assert held["decode"].keys() == held["prefill"].keys() == trainer | sampler
    for name in trainer | sampler - {"inputs"}:  # a prefill holds what a decode step does
        assert held["decode"][name] == held["prefill"][name]
    assert held["decode"]["optimizer"] == 2 * held["decode"]["parameters"] + 8  # counts
    assert held["grpo"]["gradients"] >= held["grpo"]["parameters"] == held["sft"]["parameters"]


@pytest.mark.parametrize("rank", [0, 2])
def test_a_critic_is_held_in_each_phase(rank: int) -> None:
    grpo = GrpoConfig(kl_coef=0.0, objective=ObjectiveConfig(baseline="critic"))
    experiment = Experiment(
        name="t",
        dataset=DatasetConfig(tasks=("toy_letters",)),
        sampler=SamplerConfig(page_length=64),
        train=TrainConfig(lora_rank=rank),
        arms=(Arm(name="grpo_ppo", grpo=grpo), Arm(name="grpo_plain")),
    )
    assert [names for names, _ in programs.split_arms(experiment)] == [
        ("grpo_ppo",),
        ("grpo_plain",),
    ], "the arm that needs the most comes first"
    assert programs.parts_of(experiment)[-1] == "critic"
    setup = programs.Setup(experiment=experiment, config=TINY, mesh=meshes.one_device(), grpo=grpo)
    made = {part: programs.PROGRAMS[part](setup) for part in programs.parts_of(experiment)}
    held = {part: program.held_bytes for part, program in made.items()}
    # Without LoRA the critic lacks the LM head of 10 x 100; it has a value head of 10 and a bias.
    weights = held["grpo"]["parameters"] - (0 if rank else 4 * 1000) + 4 * 11
    # Two moments; Adam, the schedule and the state count steps.
    assert held["grpo"]["critic"] == held["decode"]["critic"] == 3 * weights + 12
    assert held["critic"]["critic"] == 3 * weights + 8
    assert held["critic"]["gradients"] == weights + 12
    for name in ("parameters", "optimizer", "stop table"):
        assert held["critic"][name] == held["grpo"][name]
    assert "critic" not in held["sft"]
    # Parameters, gradients and two moments of the policy, weights and two moments of the critic;
    # with LoRA both share one embedding.
    assert made["grpo"].num_copies(TINY) == (1 if rank else 7)
    assert made["critic"].num_copies(TINY) == (1 if rank else 7)
    # Forward and backward, and the values before: layers alone.
    rows = grpo.microbatch_rows(256, 1)
    assert made["critic"].flops == 4 * rows * 256 * 3 * (2 * TINY_LAYER + 96 * 128)


def test_a_critic_that_no_arm_has_is_not_planned() -> None:
    experiment = Experiment(name="t", dataset=DatasetConfig(tasks=("toy_letters",)))
    [(arms, grpo)] = programs.split_arms(experiment)
    setup = programs.Setup(experiment=experiment, config=TINY, mesh=meshes.one_device(), grpo=grpo)
    with pytest.raises(UserError, match="no arm of the experiment has a critic"):
        estimate._setups_of("critic", [(arms, grpo)], [setup])


def test_bandwidth_per_axis() -> None:
    v5e, v5p = tpu.find_chip("v5e:2x2"), tpu.find_chip("v5p:2x2x1")
    assert (v5e.axis_bandwidth, v5p.axis_bandwidth) == (100e9, 200e9)


def test_memory_fits_to_the_byte() -> None:
    memory = estimate.Memory(
        arguments=500, temporaries=300, unaliased_output=100, code=50, resident=50, limit=1000
    )
    assert memory.fits and memory.needed == 1000
    assert not dataclasses.replace(memory, resident=51).fits


@pytest.mark.parametrize(
    ("preset", "devices", "mesh"),
    [
        ("qwen2.5-7b", 8, MeshConfig(fsdp=2, tensor=4)),
        ("qwen2.5-14b", 4, MeshConfig(tensor=4)),
        ("qwen2.5-3b", 16, MeshConfig(fsdp=8, tensor=2)),
        ("qwen2.5-0.5b", 1, MeshConfig()),
    ],
)
def test_a_chosen_mesh_shards_heads_evenly(preset: str, devices: int, mesh: MeshConfig) -> None:
    assert estimate.choose_mesh(presets.get(preset), devices) == mesh


def test_a_topology_without_a_known_chip_or_shape_is_refused() -> None:
    for name in ("v9:2x2", "v5e", "v5e:", "v5e:2xb"):
        with pytest.raises(UserError, match="is not a TPU topology"):
            tpu.find_chip(name)


# --- collectives ---------------------------------------------------------------------------------

PROGRAM = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %all-reduce.1 = f32[8,4]{1,0:T(8,128)} all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%add
  %start = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%y), replica_groups={{0,1,2,3},{4,5,6,7}}
  %done = bf16[8,4]{1,0} all-gather-done(%start)
}

%unknown (q: (s32[])) -> (s32[]) {
  %all-reduce.2 = (f32[2]{0}, bf16[4]{0}) all-reduce(%x, %y), replica_groups=mesh['a'=2,'b'=4] {'a'}, to_apply=%add
}

ENTRY %main (w: f32[8,4]) -> f32[8,4] {
  %loop = (s32[], f32[8,4]) while(%t), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"28"}}
  %other = (s32[]) while(%u), condition=%c, body=%unknown
  %scatter = f32[2,4]{1,0} reduce-scatter(%w), replica_groups={}, to_apply=%add
  %move = s8[3]{0} collective-permute(%v), source_target_pairs={{0,1},{1,0}}
}
"""  # noqa: E501  # as the compiler writes it


def test_collectives_count_as_often_as_their_loop_runs() -> None:
    found = {(c.kind, c.devices): c for c in hlo.count_collectives(PROGRAM, devices=8)}
    counts = {key: (each.count, each.payload_bytes) for key, each in found.items()}
    assert counts == {
        ("all-reduce", 4): (28, 28 * 8 * 4 * 4),
        ("all-gather", 4): (28, 28 * 8 * 4 * 2),
        ("all-reduce", 2): (1, 2 * 4 + 4 * 2),
        ("reduce-scatter", 8): (1, 8 * 2 * 4 * 4),
        ("collective-permute", 2): (1, 3),
    }


def test_collectives_of_a_program_that_this_machine_compiles(run_on_devices) -> None:
    printed = run_on_devices(
        4,
        """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding
from r1ci_jax.tools.plan import hlo
from r1ci_jax.sharding import mesh as meshes
mesh = meshes.make_mesh(1, 1, 4)
lie = NamedSharding(mesh, jax.P(None, "tensor"))
cut = jax.ShapeDtypeStruct((6, 16), jnp.float32, sharding=lie)
def step(x):
    def turn(total, _):
        total = total + jax.lax.with_sharding_constraint(total @ x.T @ x, cut.sharding)
        return total, None
    return jax.lax.scan(turn, x, None, length=5)[0]
text = jax.jit(step, out_shardings=cut.sharding).lower(cut).compile().as_text()
print([(c.kind, c.devices, c.count, c.payload_bytes) for c in hlo.count_collectives(text, 4)])
""",
    )
    assert printed.strip() == str([("all-reduce", 4, 5, 5 * 6 * 6 * 4.0)])


# --- the command ---------------------------------------------------------------------------------


def run_plan(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "r1ci_jax", "plan", *words],
        env=dict(os.environ),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("toy", "--topology", "v5e:2x4"), "python -m pip install -r requirements/plan.txt"),
        (("toy", "--topology", "v9:2x2"), "is not a TPU topology"),
        (("toi", "--topology", "v5e:2x4"), "neither an experiment file nor a preset"),
        (("toy", "--topology", "v5e:2x4", "--part", "decode,chat"), "no part 'chat' to plan"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    words: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "libtpu", None)  # as if it were not installed
    monkeypatch.chdir(ROOT)
    assert main(["plan", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.out == ""
    assert said in printed.err


@pytest.fixture
def libtpu() -> None:
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("LIBTPU MISSING: nothing is compiled for a TPU; requirements/plan.txt has it")


SMALL = (
    "--config.sampler.slots=16", "--config.sampler.cache_length=128",
    "--config.sampler.prefill_buckets=64", "--config.limits.max_new_tokens=64",
)  # fmt: skip


@pytest.mark.usefixtures("libtpu")
def test_decode_and_prefill_of_a_tiny_model_compile_for_a_topology() -> None:
    done = run_plan("toy", "--topology", "v5e:2x2", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["mesh"] == {"slices": 1, "data": 1, "fsdp": 2, "tensor": 2} and plan["fits"]
    config, part = presets.get("toy"), plan["parts"]["decode"]
    assert part["flops_per_step"] == costs.decode_flops(config, 16, programs.FILLED * 128)
    # Half of the slots and heads: 8 x 1 x 128 x 32 entries of two bytes, twice a layer.
    cache = 2 * config.layers * 8 * 128 * 32 * 2
    assert part["least_bytes_per_step"] > cache
    # Arguments and temporaries without a second cache: it was donated.
    assert part["hbm"]["unaliased_output"] < cache
    # Cache, control values of the slots, table of pages: nothing else is copied per step.
    held = part["held_bytes"]
    assert cache <= held["cache"] < 1.1 * cache and "optimizer" not in held
    assert sum(held.values()) <= part["hbm"]["arguments"]  # small arrays are padded
    # Two sums over the heads' and the feed-forward's parts in each layer.
    sums = [c["count"] for c in part["collectives"] if c["kind"] == "all-reduce"]
    assert sum(sums) >= 2 * config.layers
    assert 0 < part["roofline"]["roofline_fraction"] < 1


@pytest.mark.usefixtures("libtpu")
def test_both_trainers_of_a_tiny_model_compile_for_a_topology() -> None:
    # Two passes of four rows; the kernel pads heads of 32 and rows of 160 tokens.
    done = run_plan(
        "toy", "--topology", "v5e:2x2", "--json", "--part", "sft,grpo", *SMALL,
        "--config.sft.batch_size=8", "--config.sft.num_microbatches=2",
        "--config.sft.sequence_length=160", "--config.mesh.fsdp=4",
        "--config.grpo.sequence_lengths=160", "--config.grpo.microbatch_tokens=1280",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["train"]["dtype"] == "bfloat16" and plan["fits"]
    config, sft, grpo = presets.get("toy"), plan["parts"]["sft"], plan["parts"]["grpo"]
    assert sft["flops_per_step"] == 3 * costs.forward_flops(config, 8, 160)
    assert grpo["flops_per_step"] == 4 * costs.forward_flops(config, 8, 160)
    assert grpo["step"] == "a microbatch of 8 rows of 160 tokens"
    # The new state takes the old one's place, and so do the gradients' sums.
    state_bytes = sft["hbm"]["arguments"]
    assert sft["hbm"]["unaliased_output"] < 0.01 * state_bytes
    assert grpo["hbm"]["unaliased_output"] < 0.01 * grpo["hbm"]["arguments"]
    kinds = {each["kind"]: each["count"] for each in sft["collectives"]}
    assert kinds == {
        "all-gather": 2 * (2 * 7 * config.layers + 1),
        "reduce-scatter": 2 * (7 * config.layers + 1),
    }
    times = sft["roofline"]
    assert times["mfu"] == times["compute_seconds"] / times["step_seconds"] < 1


@pytest.mark.usefixtures("libtpu")
def test_the_trainer_of_a_critic_compiles_for_a_topology() -> None:
    done = run_plan(
        "toy", "--topology", "v5e:2x2", "--json", "--part", "grpo,critic", *SMALL,
        "--config.mesh.fsdp=4", "--config.grpo.objective.baseline=critic",
        "--config.grpo.sequence_lengths=160", "--config.grpo.microbatch_tokens=1280",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan, config = json.loads(done.stdout), presets.get("toy")
    critic, grpo = plan["parts"]["critic"], plan["parts"]["grpo"]
    headless = dataclasses.replace(config, vocab_size=0)
    assert critic["flops_per_step"] == 4 * costs.forward_flops(headless, 8, 160)
    assert critic["hbm"]["unaliased_output"] < 0.01 * critic["hbm"]["arguments"]
    # Either trainer holds the other's parameters and moments meanwhile.
    assert grpo["held_bytes"]["critic"] == pytest.approx(critic["held_bytes"]["critic"], abs=4)
    assert grpo["held_bytes"]["optimizer"] == critic["held_bytes"]["optimizer"]
    assert grpo["hbm"]["resident"] >= grpo["held_bytes"]["critic"]


@pytest.mark.usefixtures("libtpu")
def test_what_does_not_fit_says_by_how_much_and_what_to_change() -> None:
    # 1.1 TB of cache: refused before anything is compiled at length.
    done = run_plan(
        "toy", "--topology", "v5e:2x2", "--part", "decode",
        "--config.sampler.slots=1048576", "--config.sampler.cache_length=2048",
    )  # fmt: skip
    assert done.returncode == 1
    assert "DOES NOT FIT" in done.stdout and "15.75G" in done.stdout
    assert "lower sampler.slots" in done.stdout


@pytest.mark.usefixtures("libtpu")
def test_a_shape_that_the_library_does_not_know_is_one_line() -> None:
    done = run_plan("toy", "--topology", "v5e:3x5")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("r1ci: no topology 'v5e:3x5'")


def test_parts_are_those_that_the_command_names() -> None:
    assert list(programs.PROGRAMS) == ["decode", "prefill", "sft", "grpo", "critic"]
