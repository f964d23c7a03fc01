"""Measure full steps of TRL's GRPOTrainer train loop, with Hugging Face `generate`.

`{"prompts": 4, "completions": 4, "prompt": 64, "new": 64}` is answered with the seconds of a step
and the peak resident memory of this process. A step lasts from the request, which is read after the
previous step, until the optimizer has updated the weights. All requests to a process have the sizes
of the first.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-torch.

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import datasets
import grpo_task
import hf_model
import numpy as np
import tokenizers
import transformers
import trl
import wire
from shapes import SHAPES

VOCAB = SHAPES[grpo_task.SHAPE].vocab
PACKAGES = (*hf_model.PACKAGES, "trl", "accelerate")


class Clock(transformers.TrainerCallback):
    """Callback that reads a request when a step begins and answers it when the step ends."""

    def __init__(self, line: wire.Line, sizes: dict[str, Any]) -> None:
        """Start with `sizes`, the first request, which is not answered yet."""
        self.line, self.sizes = line, sizes
        self.requests = iter(line)
        self.began = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Answer, unless the step was a warm-up step, and wait for the next request."""
        seconds = time.perf_counter() - self.began
        request: dict[str, Any] | None = self.sizes
        if state.global_step > grpo_task.WARM_UP_STEPS:
            self.line.reply({"step_seconds": seconds, "peak_bytes": wire.peak_bytes()})
            request = next(self.requests, None)
        assert request in (None, self.sizes), "one process measures one step"
        control.should_training_stop = request is None
        self.began = time.perf_counter()


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Make a tokenizer of decimal token ids; the end of text is an id that the model lacks."""
    words = {str(token): token for token in range(VOCAB)} | {"<eos>": VOCAB, "<pad>": VOCAB + 1}
    numbers = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<eos>"))
    numbers.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=numbers, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def questions(prompts: int, length: int) -> Iterator[dict[str, str]]:
    """Yield random prompts without end."""
    generator = np.random.default_rng(time.time_ns())
    while True:
        for row in generator.integers(1, VOCAB, (prompts, length)):
            yield {"prompt": " ".join(map(str, row))}


def config(sizes: dict[str, Any], directory: str) -> trl.GRPOConfig:
    """Configure one batch per step, float32 and no recomputation, which is the fastest here."""
    return trl.GRPOConfig(
        directory,
        per_device_train_batch_size=sizes["prompts"] * sizes["completions"],
        num_generations=sizes["completions"],
        max_completion_length=sizes["new"],
        learning_rate=grpo_task.LEARNING_RATE,
        beta=grpo_task.KL_COEF,
        max_grad_norm=grpo_task.CLIP_NORM,
        loss_type="grpo",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        max_steps=10**6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def trainer(sizes: dict[str, Any], directory: str, clock: Clock) -> trl.GRPOTrainer:
    """Make a trainer; it creates the reference from a directory, so both models come from it."""
    hf_model.build(grpo_task.SHAPE).save_pretrained(directory)

    def rewards(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [grpo_task.reward(row, sizes["new"], VOCAB) for row in completion_ids]

    built = trl.GRPOTrainer(
        directory,
        rewards,
        config(sizes, directory),
        datasets.IterableDataset.from_generator(
            questions, gen_kwargs={"prompts": sizes["prompts"], "length": sizes["prompt"]}
        ),
        processing_class=tokenizer(),
        callbacks=[clock],
    )
    assert built.model.config._attn_implementation == "sdpa", "not the attention that is measured"
    return built


def main() -> None:
    """Train until stdin ends."""
    line = wire.Line(PACKAGES)
    sizes = next(iter(line), None)
    if sizes is not None:
        with tempfile.TemporaryDirectory() as directory:
            trainer(sizes, directory, Clock(line, sizes)).train()


if __name__ == "__main__":
    main()
