"""`r1ci weights` imports safetensors and GGUF, and exports Hugging Face safetensors."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1ci_jax.model.qwen2 import Qwen2Config

_DTYPES = ("float32", "bfloat16")
# The architecture does not need these keys of config.json, but they must be kept.
_KEPT_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "dual_chunk_attention_config")


def add_commands(subparsers: Any) -> None:
    """Add `weights import` and `weights export`."""
    parser = subparsers.add_parser("weights", help="import safetensors or GGUF, export safetensors")
    commands = parser.add_subparsers(dest="weights_command", metavar="COMMAND")

    importing = commands.add_parser(
        "import",
        help="check a checkpoint and write it in one normal form",
        description="Read a Hugging Face directory, a hub id or a GGUF file of llama.cpp, check "
        "it, and write it again: one config.json, safetensors files of at most 5 GB, and the "
        "tokenizer. The same command continues an interrupted import of a GGUF file.",
    )
    importing.add_argument("source", metavar="DIR_OR_HUB_ID_OR_GGUF")
    importing.add_argument("out", metavar="OUT_DIR", type=Path, help="new or empty directory")
    importing.add_argument(
        "--dtype",
        choices=_DTYPES,
        help="default: the checkpoint's own; of a quantized GGUF file float32, or bfloat16 if it "
        "has more than 10^9 parameters",
    )
    importing.set_defaults(run=_import)

    exporting = commands.add_parser(
        "export",
        help="write a run's model for transformers",
        description="Write a model of a run directory in Hugging Face layout, with its tokenizer, "
        "the chat template and sampling of its training, and a model card.",
    )
    exporting.add_argument("workdir", metavar="RUN", type=Path, help="e.g. runs/toy")
    exporting.add_argument("out", metavar="DIR", type=Path, help="new or empty directory")
    exporting.add_argument("--model", help="sft, grpo_curriculum, ... (default: the newest)")
    exporting.add_argument("--dtype", choices=_DTYPES, default="float32", help="default: float32")
    exporting.set_defaults(run=_export)

    for command in (importing, exporting):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _import(args: argparse.Namespace) -> int:
    from r1ci_jax.model.gguf import gguf_file

    source = Path(args.source)
    return _import_gguf(args, source) if gguf_file.is_gguf(source) else _import_checkpoint(args)


def _import_gguf(args: argparse.Namespace, source: Path) -> int:
    from r1ci_jax.model.gguf import gguf_import

    done = gguf_import.import_file(source, args.out, args.dtype)
    return _report(done.config, done.parameters, done.dtype, args, reason=done.reason)


def _import_checkpoint(args: argparse.Namespace) -> int:
    from r1ci_jax.model.hf import hf_config, hub, weights
    from r1ci_jax.text import stop_tokens
    from r1ci_jax.tools.export import exported_files

    source = hub.resolve(args.source)
    model = weights.load_pretrained(source, args.dtype)
    raw = hf_config.read_json(source)
    stop_tokens.require_known(stop_tokens.read(source), model.config.vocab_size, source)
    kept = {key: raw[key] for key in _KEPT_KEYS if raw.get(key) is not None}
    weights.save_pretrained(
        model, args.out, extra_config=kept, companions=exported_files.of_checkpoint(source)
    )
    return _report_model(model, args)


def _export(args: argparse.Namespace) -> int:
    from r1ci_jax.model.hf import weights
    from r1ci_jax.runtime.run_dir import RunDir
    from r1ci_jax.tools.export import exported_files
    from r1ci_jax.train import load_model

    run = RunDir.view(args.workdir)
    trained = load_model.trained_name(run, args.model)
    model, tokenizer = load_model.load_from_run(run, trained, args.dtype)
    files = exported_files.of_run(run, trained, tokenizer)
    weights.save_pretrained(
        model,
        args.out,
        extra_config=files.extra_config,
        companions=files.companions,
        texts=files.texts,
    )
    return _report_model(model, args)


def _report_model(model: Any, args: argparse.Namespace) -> int:
    import jax
    from flax import nnx

    leaves = jax.tree.leaves(nnx.state(model))
    return _report(model.config, sum(leaf.size for leaf in leaves), leaves[0].dtype, args)


def _report(
    config: "Qwen2Config", parameters: int, dtype: Any, args: argparse.Namespace, reason: str = ""
) -> int:
    """Say what was written; `reason` is that of the dtype."""
    facts = {
        "directory": str(args.out),
        "parameters": parameters,
        "dtype": str(dtype),
        "layers": config.layers,
        "width": config.width,
        "vocab_size": config.vocab_size,
    }
    if args.json:
        print(json.dumps(facts | ({"dtype_reason": reason} if reason else {})))
    else:
        why = f" ({reason})" if reason else ""
        print(
            f"{args.out}: {parameters:,} parameters in {dtype}{why}, {config.layers} layers of "
            f"width {config.width}, vocabulary {config.vocab_size}"
        )
    return 0
