"""A run that counts the copies of its weights on the devices, when a planned program starts."""

import collections
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from r1ci_jax import pipeline
from r1ci_jax.config import (
    Arm,
    DatasetConfig,
    DemonstrationConfig,
    Experiment,
    GrpoConfig,
    MeshConfig,
    ModelConfig,
    PotentialConfig,
    SamplerConfig,
    SftConfig,
    TurnLimits,
)
from r1ci_jax.grpo_config import ObjectiveConfig, StageConfig
from r1ci_jax.model import presets, qwen2
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sampling.page_table import CacheLayout
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.tools.plan import programs
from r1ci_jax.train import grpo_step
from r1ci_jax.train.critic import critic_step

type Counts = dict[str, list[int]]
"""{part of a plan: numbers of copies that there were}."""

SIZES = qwen2.Qwen2Config(
    vocab_size=320, width=48, layers=1, query_heads=2, kv_heads=1, head_dim=16, mlp_width=64,
    tied=True,
)  # fmt: skip
GRPO = GrpoConfig(
    prompts_per_step=2,
    rollouts_per_prompt=2,
    num_minibatches=2,
    steps_per_stage=(0, 0, 0, 2),
    sequence_lengths=(192,),
    microbatch_tokens=2 * 192,
    kl_coef=0.1,
)
RESETS = GrpoConfig(
    **{
        **vars(GRPO),
        "steps_per_stage": (0, 0, 1, 1),
        "stages": StageConfig(reset_reference=True, reset_optimizer=True),
    }
)
WITHOUT_KL = GrpoConfig(**{**vars(GRPO), "kl_coef": 0.0})
WITH_CRITIC = GrpoConfig(**{**vars(WITHOUT_KL), "objective": ObjectiveConfig(baseline="critic")})


def make_experiment(mesh: MeshConfig) -> Experiment:
    return Experiment(
        name="copies",
        mesh=mesh,
        model=ModelConfig(preset="micro", tokenizer_vocab=320),
        dataset=DatasetConfig(
            tasks=("toy_letters",), difficulties=(1,), sft_per_task=8, grpo_per_task=2,
            eval_per_task=1,
        ),
        demonstrations=DemonstrationConfig(code=0.1, repair=0.0, check=0.0, direct=0.9),
        # In bfloat16 the sampler shares no array with the trainer.
        sampler=SamplerConfig(
            slots=4, cache_length=192, prefill_buckets=(64,), prefill_rows=4, dtype="bfloat16"
        ),
        limits=TurnLimits(max_code_calls=1, max_new_tokens=16, max_observation_tokens=32),
        sft=SftConfig(epochs=1, batch_size=4, sequence_length=192),
        potential=PotentialConfig(samples_per_agent=1, temperatures=(1.0,)),
        grpo=GRPO,
        arms=(
            Arm(name="grpo_kl", order="uniform"),
            Arm(name="grpo_resets", order="uniform", grpo=RESETS),
            Arm(name="grpo_free", order="uniform", grpo=WITHOUT_KL),
            Arm(name="grpo_ppo", order="uniform", grpo=WITH_CRITIC),
        ),
    )  # fmt: skip


def count_copies() -> int:
    """Number of buffers on the first device that hold an embedding, or its shard."""
    first, found = jax.devices()[0], set()
    for array in jax.live_arrays():
        if array.shape == (SIZES.vocab_size, SIZES.width) and not array.is_deleted():
            # Looking at shards makes arrays of them, which are alive too.
            for shard in array.addressable_shards:
                if shard.device == first:
                    found.add(shard.data.unsafe_buffer_pointer())
    return len(found)


def count_cache(sampler: SamplerConfig) -> int:
    """Number of arrays that are as large as one layer's keys or values of all pages."""
    layout = CacheLayout.of(sampler, meshes.num_batch_shards(meshes.current()), platform="cpu")
    shape = (SIZES.kv_heads, layout.num_pages, layout.page_length, SIZES.head_dim)
    return sum(each.shape == shape and not each.is_deleted() for each in jax.live_arrays())


def run(workdir: Path, mesh: MeshConfig) -> tuple[Counts, Counts]:
    """Train SFT and all arms; return the counts that were found, and those of the plan."""
    presets.PRESETS["micro"] = SIZES  # type: ignore[index]  # a plain dict
    experiment = make_experiment(mesh)
    found: dict[str, set[int]] = collections.defaultdict(set)
    stage = "data"

    def counted(function: Any, part: str, at_stage: str) -> Any:
        def call(*args: Any, **settings: Any) -> Any:
            if stage == at_stage:
                found[part].add(count_copies())
                found[f"{part}, cache"].add(count_cache(experiment.sampler))
            return function(*args, **settings)

        return call

    # `shard_batch` is called right before each supervised step.
    placement.shard_batch = counted(placement.shard_batch, "sft", "sft")
    grpo_step.accumulate_gradients = counted(grpo_step.accumulate_gradients, "grpo", "grpo")
    critic_step.accumulate_gradients = counted(critic_step.accumulate_gradients, "critic", "grpo")
    Engine.dispatch = counted(Engine.dispatch, "decode", "grpo")
    with RunDir.open(workdir, experiment) as directory, Sandbox(experiment.sandbox) as sandbox:
        for stage in ("data", "sft", "potential", "grpo"):
            pipeline.run(experiment, directory, sandbox, only=stage)
    planned: dict[str, set[int]] = collections.defaultdict(set)
    for _, grpo in programs.split_arms(experiment):
        setup = programs.Setup(
            experiment=experiment, config=SIZES, mesh=meshes.from_config(mesh), grpo=grpo
        )
        for part in ("sft", "grpo", "decode", *(["critic"] if grpo.has_critic else [])):
            program = programs.PROGRAMS[part](setup)
            planned[part].add(program.num_copies(SIZES))
            held = {**program.arguments, **program.resident}
            cache = getattr(held.get(programs.CACHE), "cache", ())
            planned[f"{part}, cache"].add(len(jax.tree.leaves(cache)))
    return _sorted(found), _sorted(planned)


def _sorted(counts: Mapping[str, set[int]]) -> Counts:
    return {part: sorted(numbers) for part, numbers in sorted(counts.items())}


if __name__ == "__main__":
    place, fsdp = sys.argv[1:]
    print(json.dumps(run(Path(place), MeshConfig(fsdp=int(fsdp)))))
