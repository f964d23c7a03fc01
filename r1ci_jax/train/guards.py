"""Guards of a training: errors and warnings for diverged steps, loss spikes and mismatches."""

import collections
import contextlib
import dataclasses
import io
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, progress

MAX_LOGPROB_MISMATCH = 0.1
"""Mean |trainer - sampler| log-probability in nats per token above which a warning is printed:
bfloat16 gives some 0.01, int8 a few times that."""


@contextlib.contextmanager
def no_implicit_transfers() -> Iterator[None]:
    """Forbid implicit transfers between host and devices, and implicit rank promotion."""
    with jax.transfer_guard("disallow"), jax.numpy_rank_promotion("raise"):
        yield


def require_finite(
    values: Mapping[str, float], *, step: int, save: Callable[[], Path], advice: str
) -> None:
    """Stop if a loss or a gradient is not finite; `save` writes the batch and returns its path.

    Raises:
        UserError: with the values, the file of the batch and what to try.
    """
    wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        raise UserError(
            f"training diverged at step {step} ({wrong}); the batch is in {save()}; {advice}"
        )


def save_arrays(path: Path, batch: Any) -> Path:
    """Write a batch of named arrays to an .npz file, for inspection."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **batch._asdict())
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_atomic(path, buffer.getvalue())
    return path


@dataclasses.dataclass
class LossSpikeDetector:
    """Detects losses far above the recent ones."""

    window: int = 50
    min_history: int = 10
    """Number of losses that must be known before one can be a spike."""
    threshold: float = 6.0
    """Standard deviations above the recent mean at which a loss is a spike."""

    def __post_init__(self) -> None:
        self._recent: collections.deque[float] = collections.deque(maxlen=self.window)

    def resume(self, losses: Iterable[float]) -> None:
        """Take the losses that a killed run had seen."""
        self._recent.extend(losses)

    def deviation(self, loss: float) -> float:
        """Return the loss in standard deviations above the recent ones, then add it to them."""
        if len(self._recent) < self.min_history:
            found = 0.0
        else:
            spread = statistics.pstdev(self._recent) or math.inf
            found = (loss - statistics.fmean(self._recent)) / spread
        self._recent.append(loss)
        return found

    def report(self, name: str, step: int, loss: float) -> float:
        """Return `deviation`, with a warning if it is a spike."""
        found = self.deviation(loss)
        if found > self.threshold:
            progress.warn(
                f"{name}: the loss of step {step} is {loss:.4g}, {found:.1f} standard deviations "
                "above the recent ones"
            )
        return found


def report_logprob_mismatch(name: str, step: int, values: Mapping[str, float]) -> None:
    """Warn if sampler and trainer give the same tokens different probabilities."""
    difference = values.get("check/sampler_trainer_logprob_diff", 0.0)
    if difference > MAX_LOGPROB_MISMATCH:
        progress.warn(
            f"{name}: sampler/trainer log-prob mismatch at step {step}: {difference:.2g} nats per "
            'token; set grpo.old_logprobs to "recompute", or sampler.weight_quantization and '
            'sampler.cache_quantization to "none"'
        )
