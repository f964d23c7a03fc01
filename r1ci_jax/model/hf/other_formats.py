"""Directories that hold a model in another form than a whole Hugging Face checkpoint."""

from pathlib import Path

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader

_FORMATS = (
    (
        "*.gguf",
        "give the GGUF file itself, or import it by `r1ci weights import FILE.gguf DIR`",
    ),
    (
        "pytorch_model*.bin",
        "PyTorch's own weight files: load them with transformers and write safetensors by "
        "save_pretrained",
    ),
    (
        "consolidated*.pth",
        "the original form of Llama weights: give the repository's form for transformers",
    ),
    ("*.pt", "PyTorch files, which may run code when they are read: give safetensors"),
    ("*.pth", "PyTorch files, which may run code when they are read: give safetensors"),
    ("*.bin", "PyTorch's own weight files: write safetensors by transformers' save_pretrained"),
    ("*.msgpack", "Flax weights: give the safetensors checkpoint"),
    ("*.h5", "TensorFlow weights: give the safetensors checkpoint"),
    ("*.onnx", "an ONNX program: give the safetensors checkpoint"),
)


def require_no_adapter(directory: Path) -> None:
    """Refuse the directory of an adapter, also if it lies beside a whole model.

    The reference would apply it; weights without it are others.
    """
    path = directory / "adapter_config.json"
    if not path.is_file():
        return
    raise UserError(
        f"{directory} holds a LoRA adapter (adapter_config.json): merge it into its base model"
        f"{_base_name(path)} by peft's merge_and_unload and save_pretrained, and give the result"
    )


def _base_name(adapter_config: Path) -> str:
    try:
        found = json_reader.read(adapter_config)
    except (OSError, json_reader.JsonError):
        return " (adapter_config.json cannot be read)"
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    return f" {base.splitlines()[0]}" if isinstance(base, str) and base.strip() else ""


def describe(directory: Path) -> str:
    """Say what a directory without a checkpoint holds instead, and what to do; empty if unknown."""
    if (directory / "snapshots").is_dir():
        return "it is a folder of the Hugging Face cache: give one of those in its snapshots/"
    if (directory / "model_index.json").is_file():
        return "it is a pipeline of several models: give the directory of its language model"
    for pattern, advice in _FORMATS:
        files = sorted(directory.glob(pattern))
        if files:
            return f"it holds {files[0].name}: {advice}"
    return ""
