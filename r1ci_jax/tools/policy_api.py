"""The package as a library: a policy by its name, which answers questions.

    from r1ci_jax import Policy

    policy = Policy.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct")
    print(policy.solve("What is the 100th prime?").answer)

Loading, default settings and runner are those of `r1ci eval`.
"""

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

from r1ci_jax.config import Dtype, EvalPromptChoice
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.tools.model_evaluation import evaluated_model
from r1ci_jax.tools.model_evaluation.evaluated_model import EvaluatedModel
from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices, EvaluationSettings
from r1ci_jax.train.load_model import SamplerModel


class Options(TypedDict, total=False):
    """What may be chosen for a policy; the rest fits the model, as docs/evaluation.md says."""

    dtype: Dtype
    context: int
    """Tokens of a trajectory."""
    max_new_tokens: int
    """Sampled tokens of a trajectory."""
    temperature: float
    """0 takes the most likely token."""
    prompts: EvalPromptChoice
    """Instructions before each question."""
    system: str
    """System message before each question."""
    ask_for_answer: bool
    """Ask a policy once that ends its message without an answer."""
    seed: int
    """Decides every token that is sampled, together with the number of the question."""


class Policy:
    """A policy with its tokenizer and settings, which answers questions.

    `solve` answers one question; `runner` and `requests` answer many at once. The sandbox of
    `solve` is opened at the first call and closed by `close`, by `with`, or at the program's end.
    """

    def __init__(self, model: SamplerModel, settings: EvaluationSettings) -> None:
        """Wrap a model that is loaded; `from_pretrained` and `from_run` load one."""
        self.model = model
        """Its config, its weights in the sampler's layout, and its tokenizer."""
        self.settings = settings
        """All settings: `settings.sampler`, `settings.limits`, `settings.eval`, ..."""
        self._runner: Runner | None = None
        self._numbers = itertools.count()

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Unpack[Options]) -> Self:
        """Load a published checkpoint.

        Args:
            name: Hugging Face directory or hub id, GGUF file, or preset such as qwen2.5-0.5b.
            options: Choices that replace those that fit the model.

        Raises:
            UserError: There is no such checkpoint, it is damaged, or an option is impossible.
        """
        if RunDir.is_at(Path(name)):
            raise UserError(f"{name} is a run; use Policy.from_run({str(name)!r})")
        return cls._load(EvaluatedModel(str(name), run=None), options)

    @classmethod
    def from_run(cls, run: str | Path, name: str | None = None, **options: Unpack[Options]) -> Self:
        """Load a model that a run has trained.

        Args:
            run: The run directory.
            name: The model's name, such as sft or curriculum; None: the newest.
            options: Choices that replace the run's own settings.

        Raises:
            UserError: The run has no such model, or none yet, or an option is impossible.
        """
        return cls._load(EvaluatedModel(str(run), RunDir.view(Path(run)), name), options)

    @classmethod
    def _load(cls, model: EvaluatedModel, options: Options) -> Self:
        settings = model.settings(_choices(options))
        return cls(model.load(settings), settings)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self.model.tokenizer

    def solve(
        self, question: str | Example, *, agent: str | agents.Agent = "code_agent"
    ) -> Trajectory:
        """Answer one question; the scripts run in a sandbox of the policy's own.

        The result has the `answer`, which is None if a limit came first, and the `code_calls`. With
        a temperature each call samples anew; a policy of the same seed repeats the series.

        Raises:
            UserError: This machine cannot isolate scripts, or the question is too long.
        """
        if self._runner is None:
            sandbox = Sandbox(dataclasses.replace(self.settings.sandbox, workers=1))
            self._runner = self.runner(sandbox, slots=1)
        (request,) = self.requests([question], agent=agent)
        number = RolloutId(next(self._numbers), 0)
        (trajectory,) = self._runner.run([dataclasses.replace(request, rollout_id=number)])
        return trajectory

    def runner(self, sandbox: Sandbox, *, slots: int | None = None) -> Runner:
        """Return a runner, which samples many trajectories at once: `runner.run(requests)`.

        `slots` trajectories are decoded together; by default as many as `r1ci eval` decodes.
        """
        sampler = self.settings.sampler
        if slots is not None:
            sampler = dataclasses.replace(sampler, slots=slots)
        settings = dataclasses.replace(self.settings, sampler=sampler)
        return evaluated_model.make_runner(self.model, settings, sandbox)

    def requests(
        self,
        questions: Iterable[str | Example],
        *,
        agent: str | agents.Agent = "code_agent",
        samples: int = 1,
    ) -> list[Request]:
        """Make the requests of `samples` trajectories per question, question after question.

        A question of a task (`Example`) is scored; a bare text is not, so its trajectory counts as
        not correct. `agent` is one of the paper's four by name, or an agent of your own.
        """
        chosen = self._agent(agent) if isinstance(agent, str) else agent
        return [
            Request(
                example=_example(question, number),
                agent=chosen,
                rollout_id=RolloutId(number, sample),
                sampling=self.settings.eval.sampling,
            )
            for number, question in enumerate(questions)
            for sample in range(samples)
        ]

    def text(self, trajectory: Trajectory) -> str:
        """Return what follows the question: the policy's words, and what its scripts printed."""
        start = trajectory.sampled.index(True) if any(trajectory.sampled) else None
        return "" if start is None else self.tokenizer.decode(trajectory.tokens[start:])

    def close(self) -> None:
        """Close the sandbox of `solve`; the next call opens another."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Policy({self.settings.name!r})"

    def _agent(self, name: str) -> agents.Agent:
        agent = agents.get(name)
        if not self.settings.eval.ask_for_answer:
            return agent
        return agents.AnswerRequest(agent, prompts.answer_request(self.settings.instructions))


def _choices(options: Options) -> Choices:
    """Make the choices of `r1ci eval` from the options of a policy."""
    known = Options.__annotations__
    if unknown := [name for name in options if name not in known]:
        raise UserError(f"a policy has no option {unknown[0]!r}; there are: {', '.join(known)}")
    others: dict[str, Any] = dict(options)
    sampling = {name: others.pop(name) for name in ("temperature",) if name in others}
    limits = {name: others.pop(name) for name in ("max_new_tokens",) if name in others}
    return Choices(sampling=sampling, limits=limits, **others)


def _example(question: str | Example, number: int) -> Example:
    if isinstance(question, Example):
        return question
    if not isinstance(question, str):
        raise UserError(
            f"a question is a text or an Example of a task, not {type(question).__name__}"
        )
    return Example(id=f"question/{number}", task="", question=question, answer="", difficulty=0)
