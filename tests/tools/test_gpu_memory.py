"""Memory of one GPU: arithmetic by hand, and the table of docs/gpu.md."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, Experiment, MeshConfig, SamplerConfig, TrainConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tools.plan import gpu_memory, programs

ROOT = Path(__file__).parents[2]
TINY = Qwen2Config(
    vocab_size=100, width=10, layers=3, query_heads=4, kv_heads=2, head_dim=6, mlp_width=30
)
EXPERIMENT = Experiment(
    name="tiny",
    dataset=DatasetConfig(tasks=("toy_sorting",)),
    train=TrainConfig(remat="attention", logits_chunk=5),
)


def make_setup(**train: object) -> programs.Setup:
    experiment = dataclasses.replace(
        EXPERIMENT, train=dataclasses.replace(EXPERIMENT.train, **train)
    )
    return programs.Setup(
        experiment=experiment, config=TINY, mesh=meshes.one_device(), grpo=experiment.grpo
    )


def test_entries_of_a_token_by_hand() -> None:
    # Two norms, attention's and feed-forward's outputs 4 x 10; q, mix 2 x 24; k, v 2 x 12; 3 x 30.
    assert gpu_memory.layer_entries(TINY) == 40 + 48 + 24 + 90 == 202
    saved = {how: gpu_memory.saved_entries(TINY, how) for how in ("layer", "attention", "dots")}
    # The layer's input; with the mix; with q, k, v and the results of o, gate, up and down.
    assert saved == {"layer": 10, "attention": 34, "dots": 10 + 24 + 24 + 60 + 20}
    assert gpu_memory.saved_entries(TINY, "none") == 212


def test_a_training_step_by_hand() -> None:
    found = gpu_memory.training_temporaries(make_setup(dtype="bfloat16"), rows=2, tokens=8)
    assert found == {
        "saved activations": 2 * 16 * 3 * 34,  # bytes x positions x layers x entries
        "one layer": 2 * 2 * 16 * 202,
        "attention scores": 2 * 4 * 2 * 4 * 8 * 8,  # rows x heads x queries x keys, in float32
        "logits": 2 * 4 * 5 * 100,  # a chunk of 5 positions
        "head": (2 + 4) * 100 * 10,  # a bfloat16 copy, and the float32 sum of its gradient
    }
    adapters = gpu_memory.training_temporaries(make_setup(lora_rank=4), rows=2, tokens=8)
    assert adapters["head"] == 0  # float32 needs no copy, and adapters train no head
    critic = gpu_memory.training_temporaries(make_setup(), rows=2, tokens=8, logits=0)
    assert "logits" not in critic and "head" not in critic


def test_a_prefill_call_by_hand() -> None:
    sampler = SamplerConfig(
        slots=4, prefill_rows=3, prefill_buckets=(8,), cache_length=256, dtype="bfloat16"
    )
    experiment = dataclasses.replace(EXPERIMENT, sampler=sampler)
    setup = dataclasses.replace(make_setup(), experiment=experiment)
    plan = gpu_memory.count_part("prefill", setup)
    assert plan.temporaries == {
        "one layer": 2 * 3 * 8 * 202,  # bytes x rows x tokens x entries
        "attention scores": 4 * 3 * 4 * 8 * (64 + 6),  # a block of 64 keys, and the mix of values
    }


def test_long_rows_have_one_block_of_scores() -> None:
    block = gpu_memory.BLOCK
    assert gpu_memory.score_bytes(TINY, 1, 4 * block) == 4 * 4 * block * 4 * block


def test_what_is_held_is_counted_from_the_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *("plan", "qwen2.5-0.5b", "--gpu=h200-141", "--part=decode,grpo", "--json"),
        *("--config.train.lora_rank=16", "--config.sampler.slots=4"),
        "--config.sampler.cache_length=2048",
    ]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    decode, grpo = (report["parts"][name]["held_bytes"] for name in ("decode", "grpo"))
    # 4 bytes of each of 494,032,768 parameters (the published number); adapters of rank 16: each
    # matrix has 16 times the sum of its sides. Widths 896, 14 x 64, 2 x 64 and 4864; 24 layers.
    assert decode["frozen parameters"] == 4 * 494_032_768
    sides = 2 * (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864)
    assert grpo["parameters"] == 4 * 16 * 24 * sides
    # Keys and values of 4 rows of 2048 positions: 24 layers, 2 heads, 64 wide, bfloat16.
    assert decode["cache"] >= 2 * 2 * 24 * 4 * 2048 * 2 * 64
    assert decode["cache"] < 1.01 * 2 * 2 * 24 * 4 * 2048 * 2 * 64 + 5e6  # the slots' own state
    assert grpo["optimizer"] == pytest.approx(2 * grpo["parameters"], rel=1e-4)
    assert report["by"] == "arithmetic" and report["memory"] == 141e9


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "qwen2.5-7b", "--gpu=t4-16"]) == 1
    shown = capsys.readouterr().out
    assert "DOES NOT FIT" in shown and "By arithmetic" in shown and "docs/gpu.md" in shown


def test_a_full_gpu_needs_a_larger_share_than_jax_takes() -> None:
    part = gpu_memory.PartMemory(part="x", step="", held={"a": 18.5e9}, temporaries={"b": 1e9})
    plan = gpu_memory.GpuPlan(gpu="l4-24", experiment=EXPERIMENT, parts=(part,))
    assert plan.fits and gpu_memory.memory_fraction(plan) == 0.82  # 19.5 of 24
    smaller = dataclasses.replace(part, held={"a": 16e9})
    assert gpu_memory.memory_fraction(dataclasses.replace(plan, parts=(smaller,))) is None


def test_mistakes_are_explained() -> None:
    with pytest.raises(UserError, match=r"no GPU 'h100'; did you mean h100-80\?"):
        gpu_memory.find_gpu("h100")
    pod = dataclasses.replace(EXPERIMENT, mesh=MeshConfig(fsdp=4))
    with pytest.raises(UserError, match=r"has 4 devices; add .*--config.mesh.fsdp=1"):
        gpu_memory.make_plan(pod, TINY, gpu="l4-24", parts=["sft"], is_training=True)
    with pytest.raises(UserError, match="no arm of the experiment has a critic"):
        gpu_memory.make_plan(EXPERIMENT, TINY, gpu="l4-24", parts=["critic"], is_training=True)


@pytest.mark.parametrize("size", ["0.5b", "7b"])
def test_the_table_of_the_page_is_what_the_command_says(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/gpu.md").read_text()
    found = re.search(r"```\n(r1ci plan qwen2\.5-SIZE .*?)```", page, re.DOTALL)
    assert found is not None
    command = shlex.split(found[1].replace("\\\n", " ").replace("SIZE", size))[1:]
    row = re.search(rf"^\| {re.escape(size)} \|(.*)\|$", page, re.MULTILINE)
    assert row is not None
    for rank, cell in zip((0, 16, 64), row[1].split("|"), strict=True):
        main([word.replace("RANK", str(rank)) for word in command] + ["--json"])
        parts = json.loads(capsys.readouterr().out)["parts"].values()
        assert f"{max(part['needed'] for part in parts) / 1e9:.1f}" == cell.strip()
