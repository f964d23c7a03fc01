"""`r1ci plan MODEL_OR_EXP --topology v5e:2x4`: memory and time on TPUs that are not there."""

import argparse
import json
from typing import Any

from r1ci_jax.errors import UserError

EXIT_DOES_NOT_FIT = 1


def add_commands(subparsers: Any) -> None:
    """Register `r1ci plan`."""
    parser = subparsers.add_parser(
        "plan",
        help="memory, collectives and estimated time on a TPU topology",
        description="Compile a run's programs for a TPU topology, on this machine and without a "
        "TPU: memory of each device, what does not fit and what to change, operations, bytes, "
        "collectives, and the time of a step by a roofline. Exit status 1: something does not fit.",
    )
    parser.add_argument(
        "target",
        metavar="MODEL_OR_EXP",
        help="a preset such as qwen2.5-7b, or experiments/file.py[:variant]; both take "
        "--config.a.b=value, for example --config.sampler.slots=128 --config.mesh.tensor=4",
    )
    parser.add_argument("--topology", required=True, metavar="T", help="v5e:2x4, v5p:2x2x1, ...")
    parser.add_argument(
        "--part",
        metavar="P,P",
        help="of decode, prefill, sft, grpo (default: all of an experiment, decode,prefill of a "
        "preset)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run, takes_overrides=True)


def _run(args: argparse.Namespace) -> int:
    import jax

    # The compiler for TPUs needs no device, and this machine's would be taken from a run.
    jax.config.update("jax_platforms", "cpu")
    from r1ci_jax.cli import experiment_file as experiments
    from r1ci_jax.model import presets
    from r1ci_jax.model.hf import hf_config, hub
    from r1ci_jax.tools.plan import estimate, programs, summary

    is_preset = args.target in presets.PRESETS
    default = summary.SAMPLING if is_preset else tuple(programs.PROGRAMS)
    parts = tuple(args.part.split(",")) if args.part else default
    unknown = [part for part in parts if part not in programs.PROGRAMS]
    if unknown:
        raise UserError(
            f"no part {unknown[0]!r} to plan; there are: {', '.join(programs.PROGRAMS)}"
        )
    if is_preset:
        experiment = experiments.apply_overrides(_of_preset(args.target), args.overrides)
    elif ".py" in args.target:
        experiment = experiments.load(args.target, args.overrides)
    else:
        raise UserError(
            f"{args.target!r} is neither an experiment file nor a preset; presets: "
            f"{', '.join(presets.PRESETS)}"
        )
    source = experiment.model
    if source.architecture:
        config = presets.get(source.architecture)
    elif source.checkpoint:
        directory = hub.resolve(source.checkpoint)
        config = hf_config.parse(hf_config.read_json(directory), directory)
    else:
        config = presets.get(source.preset)
    made = estimate.make_plan(
        experiment,
        config,
        topology=args.topology,
        parts=parts,
        # A preset that is only sampled from has no trainer beside it.
        is_training=not is_preset or not set(parts) <= set(summary.SAMPLING),
    )
    print(json.dumps(summary.make_report(made)) if args.json else summary.render_text(made))
    return 0 if made.fits else EXIT_DOES_NOT_FIT


def _of_preset(preset: str) -> Any:
    """Trajectories of 8,192 tokens, as the paper has them."""
    from r1ci_jax import config

    length = 8192
    return config.Experiment(
        name=preset,
        model=config.ModelConfig(preset=preset),
        dataset=config.DatasetConfig(tasks=("toy_arithmetic",)),  # nothing is asked
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
