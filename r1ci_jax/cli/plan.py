"""`r1ci plan MODEL_OR_EXP --topology v5e:2x4` or `--gpu a100-80`: memory without the hardware."""

import argparse
import json
from typing import Any

from r1ci_jax.errors import UserError, did_you_mean

EXIT_DOES_NOT_FIT = 1


def add_commands(subparsers: Any) -> None:
    """Register `r1ci plan`."""
    parser = subparsers.add_parser(
        "plan",
        help="estimate memory and step time for TPUs, or memory for a GPU; needs neither",
        description="Compile a run's programs for a TPU topology, on this machine and without a "
        "TPU: memory per device, what does not fit and what to change, operations, bytes, "
        "collectives, and the step time by a roofline. With --gpu: memory of one GPU, by "
        "arithmetic. Exit status 1: something does not fit.",
    )
    parser.add_argument(
        "target",
        metavar="MODEL_OR_EXP",
        help="a preset such as qwen2.5-7b, or experiments/file.py[:variant]; both take "
        "--config.a.b=value, for example --config.sampler.slots=128 --config.mesh.tensor=4",
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--topology", metavar="T", help="TPUs: v5e:2x4, v5p:2x2x1, ...")
    place.add_argument(
        "--gpu",
        metavar="G",
        help="one GPU, memory by arithmetic: rtx4090-24, a100-80, h200-141, ...",
    )
    parser.add_argument(
        "--part",
        metavar="P,P",
        help="of decode, prefill, sft, grpo, critic (default: all that an experiment has, "
        "decode,prefill of a preset)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run, takes_overrides=True)


def _run(args: argparse.Namespace) -> int:
    import jax

    # The TPU compiler needs no device, and a run may be using this machine's devices.
    jax.config.update("jax_platforms", "cpu")
    from r1ci_jax.cli import experiment_file
    from r1ci_jax.model import presets
    from r1ci_jax.tools.plan import estimate, gpu_memory, programs, summary
    from r1ci_jax.train import load_model

    is_preset = args.target in presets.PRESETS
    wanted = tuple(args.part.split(",")) if args.part else ()
    unknown = [part for part in wanted if part not in programs.PROGRAMS]
    if unknown:
        raise UserError(
            f"no part {unknown[0]!r} to plan; there are: {', '.join(programs.PROGRAMS)}"
        )
    if is_preset:
        experiment = experiment_file.apply_overrides(_make_experiment(args.target), args.overrides)
    elif ".py" in args.target:
        experiment = experiment_file.load(args.target, args.overrides)
    else:
        raise UserError(
            f"{args.target!r} is neither an experiment file nor a preset; "
            f"{did_you_mean(args.target, presets.PRESETS)}presets: {', '.join(presets.PRESETS)}"
        )
    parts = wanted or (summary.SAMPLING if is_preset else programs.parts_of(experiment))
    config = load_model.architecture(experiment)
    # A preset that is only sampled from has no resident trainer.
    is_training = not is_preset or not set(parts) <= set(summary.SAMPLING)
    if args.gpu:
        plan = gpu_memory.make_plan(
            experiment, config, gpu=args.gpu, parts=parts, is_training=is_training
        )
        report = json.dumps(gpu_memory.make_report(plan)) if args.json else None
        print(report or gpu_memory.render_text(plan))
        return 0 if plan.fits else EXIT_DOES_NOT_FIT
    plan = estimate.make_plan(
        experiment, config, topology=args.topology, parts=parts, is_training=is_training
    )
    print(json.dumps(summary.make_report(plan)) if args.json else summary.render_text(plan))
    return 0 if plan.fits else EXIT_DOES_NOT_FIT


def _make_experiment(preset: str) -> Any:
    """Make an experiment of a preset with trajectories of 8,192 tokens, as in the paper."""
    from r1ci_jax import config

    length = 8192
    return config.Experiment(
        name=preset,
        model=config.ModelConfig(preset=preset),
        dataset=config.DatasetConfig(
            tasks=("toy_arithmetic",)
        ),  # any task: plans read no questions
        sampler=config.SamplerConfig(
            slots=64,
            cache_length=length,
            chunk_steps=32,
            prefill_buckets=(128, 512, 2048),
            prefill_rows=4,
            dtype="bfloat16",
        ),
        train=config.TrainConfig(dtype="bfloat16"),
        sft=config.SftConfig(sequence_length=length),
        grpo=config.GrpoConfig(sequence_lengths=(length,), microbatch_tokens=32 * length),
    )
