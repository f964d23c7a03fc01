"""`r1ci weights` imports and exports Hugging Face safetensors."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1ci_jax.text.tokenizer import Tokenizer

_DTYPES = ("float32", "bfloat16")
# These files of a Hugging Face repository belong to the model, in addition to its weights.
_COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
# The architecture does not need these keys of config.json, but they must be kept.
_KEPT_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "dual_chunk_attention_config")


def add_commands(subparsers: Any) -> None:
    """Add `weights import` and `weights export`."""
    parser = subparsers.add_parser("weights", help="Hugging Face safetensors: import, export")
    commands = parser.add_subparsers(dest="weights_command", metavar="COMMAND")

    importing = commands.add_parser(
        "import",
        help="check a checkpoint and write it in one normal form",
        description="Read a Hugging Face directory or hub id, check it, and write it again: one "
        "config.json, safetensors files of at most 5 GB, and the tokenizer.",
    )
    importing.add_argument("source", metavar="DIR_OR_HUB_ID")
    importing.add_argument("out", metavar="OUT_DIR", type=Path, help="new or empty directory")
    importing.add_argument("--dtype", choices=_DTYPES, help="default: the checkpoint's own")
    importing.set_defaults(run=_import)

    exporting = commands.add_parser(
        "export",
        help="write a run's model for transformers",
        description="Write a model of a run directory, with its tokenizer, in Hugging Face layout.",
    )
    exporting.add_argument("workdir", metavar="RUN", type=Path, help="e.g. runs/toy")
    exporting.add_argument("out", metavar="DIR", type=Path, help="new or empty directory")
    exporting.add_argument("--model", help="sft, grpo_curriculum, ... (default: the newest)")
    exporting.add_argument("--dtype", choices=_DTYPES, default="float32", help="default: float32")
    exporting.set_defaults(run=_export)

    for command in (importing, exporting):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _import(args: argparse.Namespace) -> int:
    from r1ci_jax.model.hf import hf_config, hub, weights
    from r1ci_jax.text import stop_tokens

    source = hub.resolve(args.source)
    model = weights.load_pretrained(source, args.dtype)
    raw = hf_config.read_json(source)
    stop_tokens.require_known(stop_tokens.read(source), model.config.vocab_size, source)
    kept = {key: raw[key] for key in _KEPT_KEYS if raw.get(key) is not None}
    weights.save_pretrained(model, args.out, extra_config=kept, companions=_companions(source))
    return _report(model, args.out, args.json)


def _export(args: argparse.Namespace) -> int:
    from r1ci_jax.model.hf import hub, weights
    from r1ci_jax.runtime.run_dir import RunDir
    from r1ci_jax.train import load_model

    run = RunDir.view(args.workdir)
    model, tokenizer = load_model.load_from_run(run, args.model, args.dtype)
    ids = {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    source = hub.resolve(load_model.tokenizer_path(run))
    checkpoint = run.config["experiment"]["model"]["checkpoint"]
    texts = _end_texts(source, hub.resolve(checkpoint) if checkpoint else source, tokenizer)
    weights.save_pretrained(
        model, args.out, extra_config=ids, companions=_companions(source), texts=texts
    )
    return _report(model, args.out, args.json)


def _end_texts(directory: Path, checkpoint: Path, tokenizer: "Tokenizer") -> dict[str, str]:
    """Write the stop tokens of the training into the files that name them.

    A base model's files name `<|endoftext|>`, and training has taught `<|im_end|>`.
    """
    from r1ci_jax.runtime import json_reader
    from r1ci_jax.text import stop_tokens
    from r1ci_jax.text.tokenizer import MESSAGE_END

    path = checkpoint / stop_tokens.GENERATION_FILE
    generation = json_reader.load_object(path, stop_tokens.REMEDY) if path.is_file() else {}
    others = [index for index in tokenizer.stop_token_ids if index != tokenizer.eos_id]
    generation |= {
        "eos_token_id": [tokenizer.eos_id, *others],  # the first is the one that training taught
        "pad_token_id": tokenizer.pad_id,
    }
    texts = {stop_tokens.GENERATION_FILE: _json_text(generation)}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (directory / name).is_file():
            described = json_reader.load_object(directory / name, stop_tokens.REMEDY)
            texts[name] = _json_text(described | {"eos_token": MESSAGE_END})
    return texts


def _json_text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"


def _companions(directory: Path) -> list[Path]:
    return [directory / name for name in _COMPANIONS if (directory / name).is_file()]


def _report(model: Any, out: Path, as_json: bool) -> int:
    import jax
    from flax import nnx

    leaves = jax.tree.leaves(nnx.state(model))
    facts = {
        "directory": str(out),
        "parameters": sum(leaf.size for leaf in leaves),
        "dtype": str(leaves[0].dtype),
        "layers": model.config.layers,
        "width": model.config.width,
        "vocab_size": model.config.vocab_size,
    }
    if as_json:
        print(json.dumps(facts))
    else:
        print(
            f"{out}: {facts['parameters']:,} parameters in {facts['dtype']}, {facts['layers']} "
            f"layers of width {facts['width']}, vocabulary {facts['vocab_size']}"
        )
    return 0
