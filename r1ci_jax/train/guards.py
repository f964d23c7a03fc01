"""What stops a training that has gone wrong, and what speaks up when it may be about to."""

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
"""Mean |trainer - sampler| log-probability, in nats, above which the two no longer agree: bfloat16
gives some 0.01, eight bits a few times that."""


@contextlib.contextmanager
def no_implicit_transfers() -> Iterator[None]:
    """Inside, nothing travels between host and devices unasked, and no array grows axes unasked."""
    with jax.transfer_guard("disallow"), jax.numpy_rank_promotion("raise"):
        yield


def require_finite(
    values: Mapping[str, float], *, step: int, save: Callable[[], Path], advice: str
) -> None:
    """Stop where a loss or a gradient is no number; `save` keeps the batch and says where.

    Raises:
        UserError: with what was seen, where the batch lies, and what to try.
    """
    wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        raise UserError(
            f"training diverged at step {step} ({wrong}); the batch is in {save()}; {advice}"
        )


def save_arrays(path: Path, batch: Any) -> Path:
    """A batch of named arrays as an .npz file, to be looked at."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **batch._asdict())
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_atomic(path, buffer.getvalue())
    return path


@dataclasses.dataclass
class LossSpikeDetector:
    """Losses that stand far above those just before them."""

    window: int = 50
    min_history: int = 10
    """Losses that must be known before one is judged."""
    threshold: float = 6.0

    def __post_init__(self) -> None:
        self._recent: collections.deque[float] = collections.deque(maxlen=self.window)

    def resume(self, losses: Iterable[float]) -> None:
        """Take in what a killed run had seen."""
        self._recent.extend(losses)

    def deviation(self, loss: float) -> float:
        """How many standard deviations the loss lies above the recent ones; then it is one."""
        if len(self._recent) < self.min_history:
            found = 0.0
        else:
            spread = statistics.pstdev(self._recent) or math.inf
            found = (loss - statistics.fmean(self._recent)) / spread
        self._recent.append(loss)
        return found

    def report(self, name: str, step: int, loss: float) -> float:
        """`deviation`, said aloud where it is a spike."""
        found = self.deviation(loss)
        if found > self.threshold:
            progress.warn(
                f"{name}: the loss of step {step} is {loss:.4g}, {found:.1f} standard deviations "
                "above the recent ones"
            )
        return found


def report_logprob_mismatch(name: str, step: int, values: Mapping[str, float]) -> None:
    """Say so where sampler and trainer give the same tokens different probabilities."""
    difference = values.get("check/sampler_trainer_logprob_diff", 0.0)
    if difference > MAX_LOGPROB_MISMATCH:
        progress.warn(
            f"{name}: at step {step} sampler and trainer differ by {difference:.2g} nats a token; "
            'set grpo.old_logprobs to "recompute", or sampler.weight_quantization and sampler.cache_quantization to "none"'
        )
