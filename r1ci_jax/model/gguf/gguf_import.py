"""A GGUF file becomes a Hugging Face directory: tensor by tensor, whole or not at all.

The files are written to a hidden directory beside the result, whose name depends on the source; an
interrupted import continues there behind its last complete file of weights.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.model.gguf import gguf_architecture, gguf_file, gguf_tokenizer
from r1ci_jax.model.hf import checkpoint_writer, hf_config, safetensors_file
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.runtime import progress, terminal

VARIABLE = "R1CI_IMPORTED_MODELS"
"""Environment variable: the directory of models imported by `cached`."""
_LARGE = 10**9
"""A model with more parameters is written in bfloat16 unless told otherwise."""
_FORM = "2"
"""Number of the form of what is written; another one makes older imports count no more."""


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """A description of what was written."""

    config: Qwen2Config
    parameters: int
    dtype: np.dtype
    reason: str
    """The reason for the dtype."""


def import_file(source: Path, out: Path, dtype: str | None = None) -> ImportedModel:
    """Write `out` in Hugging Face layout.

    Args:
        source: The GGUF file.
        out: Output directory; it must not exist or must be empty.
        dtype: float32 or bfloat16; None chooses by format and size of the model.

    Raises:
        UserError: The file is damaged or unsupported, or `out` cannot be written.
    """
    checkpoint_writer.require_new(out)
    file = gguf_file.read(source)
    described = _describe(file, dtype)
    partial = out.parent / f".{out.name}.{_identity(source, described.dtype)}.partial"
    with _writing(out, partial):
        checkpoint_writer.require_new(out)  # another process may have written it meanwhile
        _fill(partial, file, described)
        os.rename(partial, out)
    return described


def cached(source: Path) -> Path:
    """Return the directory of an imported file; import it first if that was not done before.

    A changed file is another one. The directories may be removed at any time.

    Raises:
        UserError: The file is damaged or unsupported, or the directory cannot be written.
    """
    out = _cache() / f"{source.stem}-{_identity(source, None)}"
    if out.is_dir():
        return out
    file = gguf_file.read(source)
    described = _describe(file, None)
    partial = out.with_name(f".{out.name}.partial")
    with _writing(out, partial):
        if out.is_dir():  # another process has imported it meanwhile
            shutil.rmtree(partial, ignore_errors=True)
            return out
        terminal.say(
            f"r1ci: importing {source} as {described.dtype} ({described.reason}) into {out}; this "
            "is done once"
        )
        _fill(partial, file, described)
        os.rename(partial, out)
    return out


def _describe(file: gguf_file.GgufFile, dtype: str | None) -> ImportedModel:
    config = gguf_architecture.parse(file)
    parameters = sum(math.prod(tensor.shape) for tensor in file.tensors.values())
    formats = {
        tensor.number_format.name for tensor in file.tensors.values() if len(tensor.shape) > 1
    }
    if dtype is not None:
        chosen, reason = dtype, "as asked"
    elif formats == {"BF16"}:
        chosen, reason = "bfloat16", "the file's own"
    elif parameters > _LARGE:
        chosen = "bfloat16"
        reason = "half of float32's size; `r1ci weights import --dtype float32` rounds nothing"
    else:
        chosen, reason = "float32", "the file's numbers, not rounded"
    own = {str(each): each for each in safetensors_file.NAMES}[chosen]
    return ImportedModel(config, parameters, own, reason)


def _fill(partial: Path, file: gguf_file.GgufFile, described: ImportedModel) -> None:
    config = described.config
    tensors = gguf_architecture.outgoing(file, config, described.dtype)
    texts = gguf_tokenizer.files(file, config)
    config_json = hf_config.render(config, described.dtype, gguf_tokenizer.special_ids(file))
    total = sum(safetensors_file.nbytes(tensor) for tensor in tensors.values())
    done = sum(path.stat().st_size for path in partial.glob("model*.safetensors"))
    checkpoint_writer.require_space(partial, total - done)
    for name, text in texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    with progress.Progress("import", len(tensors), unit="tensors") as bar:
        checkpoint_writer.write(partial, _counted(tensors, bar), config_json)


@dataclasses.dataclass(frozen=True)
class _Counted:
    """A tensor that is counted once it is written."""

    tensor: safetensors_file.Tensor
    number: int
    bar: progress.Progress

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype:
        return self.tensor.dtype

    def blocks(self) -> Iterator[np.ndarray]:
        yield from self.tensor.blocks()
        self.bar.update(self.number)


def _counted(
    tensors: Mapping[str, safetensors_file.Tensor], bar: progress.Progress
) -> dict[str, _Counted]:
    return {
        name: _Counted(tensor, number, bar)
        for number, (name, tensor) in enumerate(tensors.items(), 1)
    }


@contextlib.contextmanager
def _writing(out: Path, partial: Path) -> Iterator[None]:
    """Hold the hidden directory alone; an error removes it, an interruption leaves it."""
    try:
        with _locked(partial):
            try:
                yield
            except Exception:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; nothing was kept") from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make a directory and wait until no other process holds it."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, directory):  # not renamed or removed by the process before
                yield
                return
        finally:
            os.close(handle)


def _is_at(handle: int, directory: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), directory.stat())
    except FileNotFoundError:
        return False


def _identity(source: Path, dtype: np.dtype | None) -> str:
    """Name a file as it is now."""
    try:
        status = source.stat()
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from error
    facts = (_FORM, source.resolve(), status.st_size, status.st_mtime_ns, status.st_ino, dtype)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _cache() -> Path:
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise UserError(
            f"there is no home directory to keep imported models in; set {VARIABLE}"
        ) from error
    return home / "r1ci_jax" / "imported"
