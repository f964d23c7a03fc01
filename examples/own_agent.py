"""A task, an agent and a tool of one's own, trained for ten steps.

    python examples/own_agent.py                # some minutes on two CPU cores

The task asks for the price of an item. The price list is a tool, which the agent calls in place of
the interpreter. A model of 0.9 million weights first imitates a teacher that looks up one price of
two and guesses the others. It then answers 48 % of 64 questions correctly, and after ten steps of
GRPO, which finds out what pays, 86 %.
The run directory is an ordinary one: `r1ci report runs/own-agent` reads it.
"""

import dataclasses
import random
import zlib
from pathlib import Path
from typing import override

import tyro

from r1ci_jax import Policy
from r1ci_jax.config import (
    DatasetConfig,
    Experiment,
    GrpoConfig,
    ModelConfig,
    SamplerConfig,
    SftConfig,
    TurnLimits,
)
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.data import encoding
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Runner, make_engine
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import answers, procedural, registry
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.text import protocol
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.train import checkpoint, grpo, policy, sft
from r1ci_jax.train.training_run import TrainingRun

TRAINED = "grpo_own_agent"

# --- The tool, the task, the agent ---------------------------------------------------------------


def price(item: str) -> str:
    """Look a price up. A real tool would ask a database; it never evaluates what it is given."""
    if not (item.isascii() and item.isdigit()):
        return "no such item"
    return str(zlib.crc32(item.encode()) % 90 + 10)


class Prices(procedural.ProceduralTask):
    """Tell the price of an item."""

    name = "prices"
    suite = "mine"
    split = "train"
    kind = "execution"
    answer_format = "an integer"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> procedural.Puzzle:
        item = str(rng.randrange(10, 100))
        return procedural.Puzzle(
            question=f"What is the price of item {item}?",
            answer=int(price(item)),
            metadata={"item": item},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        right = answers.integer(answer_text) == int(example.answer)
        return Verdict(correct=right, reason=f"the price is {example.answer}")


registry.register(Prices.name, f"{__name__}:Prices", suite=Prices.suite)


class Shopper(agents.Agent):
    """Reads a code block as the number of an item, and looks its price up."""

    name = "shopper"
    hint = "\nA block with its number shows the price."

    @override
    def act(self, turn: agents.ModelTurn) -> agents.Action:
        if turn.code is not None:
            item = turn.code.strip()
            return agents.UseTool(call=lambda: price(item))
        stop = StopReason.EOS if turn.answer is None else StopReason.ANSWER
        return agents.Finish(stop=stop, answer=turn.answer)


SHOPPER = Shopper()


# --- Questions and demonstrations ----------------------------------------------------------------


def generate_questions(first: int, count: int) -> list[Example]:
    """Generate `count` questions, from number `first` on."""
    task = registry.get(Prices.name)
    return [task.generate(index, seed=0, difficulty=1) for index in range(first, first + count)]


def demonstrate(example: Example, *, guess: int | None = None) -> Demonstration:
    """Write a trajectory of the teacher, who looks the price up, or else answers with a guess."""
    told = int(example.answer) if guess is None else guess
    answer = Segment.learned(f"<<<{told}>>>")
    item = example.question.split()[-1].removesuffix("?")
    asked = Segment.learned(f"```python\n{item}\n```")
    shown = Segment.observed(protocol.tool_text(price(item)))
    return Demonstration(
        example_id=example.id,
        task=example.task,
        agent="code_agent",
        kind="code" if guess is None else "direct",
        prompt=example.question + SHOPPER.hint,
        segments=(asked, shown, answer) if guess is None else (answer,),
        correct=told == int(example.answer),
    )


# --- The experiment ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings; each is a flag of the command line."""

    demonstrations: int = 2000  # demonstrations of the warm start
    epochs: int = 8  # passes over them
    steps: int = 10  # steps of reinforcement learning
    questions: int = 200  # questions of reinforcement learning
    held_out: int = 64  # questions that are only evaluated
    workdir: Path = Path("runs/own-agent")  # run directory; a second run in it resumes


def make_experiment(settings: Settings) -> Experiment:
    """Collect the settings of both trainers and of the sampler."""
    return Experiment(
        name="own-agent",
        dataset=DatasetConfig(tasks=(Prices.name,)),
        model=ModelConfig(preset="toy"),
        sampler=SamplerConfig(cache_length=96, chunk_steps=8, prefill_buckets=(16, 64)),
        limits=TurnLimits(max_code_calls=2, max_new_tokens=32, max_observation_tokens=40),
        # Many small steps: to copy a number takes about a thousand of them.
        sft=SftConfig(
            epochs=settings.epochs, batch_size=2, sequence_length=128, lr=2e-3, adam_b2=0.98
        ),
        grpo=GrpoConfig(
            agent=f"{__name__}:Shopper",
            prompts_per_step=8,
            rollouts_per_prompt=8,
            steps_per_stage=(settings.steps, 0, 0, 0),
            lr=5e-4,
            kl_coef=0.001,
            sequence_lengths=(96,),
            microbatch_tokens=64 * 96,
        ),
    )


def train(settings: Settings, directory: RunDir, sandbox: Sandbox) -> None:
    """Warm-start a model and reinforce it; both are kept in the run directory."""
    experiment = make_experiment(settings)
    rng = random.Random(0)
    shown = [
        demonstrate(each, guess=None if rng.random() < 0.5 else rng.randrange(10, 100))
        for each in generate_questions(10_000, settings.demonstrations)
    ]
    tokenizers.train_byte_bpe(encoding.iterate_texts(shown), 320).save(directory.tokenizer)
    model, tokens = policy.load(experiment, directory.tokenizer)

    rows = encoding.encode_all(shown, tokens, sequence_length=experiment.sft.sequence_length)
    params = policy.load_untrained(experiment, model)
    files = TrainingRun.in_directory(directory, "sft", seed=0)
    params = sft.train(model, params, rows, experiment.sft, files, pad_id=tokens.pad_id)
    checkpoint.save_params(directory.checkpoints / "sft" / "final", params)

    questions = generate_questions(0, settings.questions)
    engine = make_engine(model.config, experiment.sampler, tokens, seed=0)
    params = grpo.train(
        model,
        params,
        tokens,
        [Stage(number=1, split="all", steps=settings.steps)],
        lambda split: questions,
        Runner(engine, sandbox, tokens, experiment.limits),
        experiment.grpo,
        TrainingRun.in_directory(directory, TRAINED, seed=0),
    )
    checkpoint.save_params(directory.checkpoints / TRAINED / "final", params)


def main(settings: Settings) -> dict[str, float]:
    """Train, and return the held-out accuracy of both models."""
    accuracy: dict[str, float] = {}
    with Sandbox() as sandbox:
        with RunDir.open(settings.workdir, make_experiment(settings)) as directory:
            train(settings, directory, sandbox)
            for record in metrics.read(directory.metrics_path):
                if record["stage"] == TRAINED:
                    print(f"step {record['step']:3}   reward {record['reward/mean']:.2f}")
        for name in ("sft", TRAINED):
            trained = Policy.from_run(settings.workdir, name)
            asked = generate_questions(50_000, settings.held_out)
            found = trained.runner(sandbox).run(trained.requests(asked, agent=SHOPPER))
            accuracy[name] = sum(each.correct for each in found) / len(found)
            print(f"{name}: {accuracy[name]:.0%} of {len(found)} held-out questions; one of them:")
            print(f"{found[0].question}\n{trained.text(found[0])}\n")
    return accuracy


if __name__ == "__main__":
    main(tyro.cli(Settings))
