"""A model as the teacher: rejection sampling with our own sampler and interpreter.

Round by round every open question gets one more trajectory, at the round's temperature. The correct
ones are kept; a question is open until it has enough, or its task has.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast, override

from r1ci_jax.config import Experiment
from r1ci_jax.data.demonstration_source import DemonstrationSource, Report
from r1ci_jax.data.demonstrations import Agent, Demonstration, Segment
from r1ci_jax.data.external import scripts, selection
from r1ci_jax.data.external.selection import Made, Rejection, Selection, Turn
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import evaluation
from r1ci_jax.rollout import agents
from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import first_stop, prompts
from r1ci_jax.text.protocol import Stop
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.tools.synth.model_teacher_config import ModelTeacherConfig
from r1ci_jax.train import load_model

_CUT_OFF: Final = frozenset(
    (StopReason.MAX_TOKENS, StopReason.MAX_TURN_TOKENS, StopReason.CONTEXT_FULL)
)


def open_runner(name: str, experiment: Experiment, sandbox: Sandbox, *, seed: int) -> Runner:
    """Load a model and return a runner with the experiment's sampler and limits.

    Args:
        name: A run directory, a Hugging Face directory or hub id, or a preset.
        experiment: Its sampler and limits are used, with weights that are not quantized.
        sandbox: Runs the scripts.
        seed: The seed of all trajectories.

    Raises:
        UserError: There is no such model.
    """
    sampler = dataclasses.replace(experiment.sampler, weight_quantization="none")
    instructions: Mapping[str, str] = prompts.INSTRUCTIONS
    if RunDir.is_at(Path(name)):
        run = RunDir.view(Path(name))
        model = load_model.load_sampler_from_run(run, None, sampler.dtype)
        trained = run.config["experiment"]["model"]
        instructions = prompts.choose(
            trained.get("prompts", "auto"), is_pretrained=bool(trained["checkpoint"])
        )
    else:
        model = load_model.load_published(name, sampler.dtype)
    engine = runners.make_engine(model.config, sampler, model.tokenizer, seed=seed)
    runner = Runner(engine, sandbox, model.tokenizer, experiment.limits, instructions=instructions)
    runner.load(model.weights)
    return runner


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTeacher(DemonstrationSource):
    """Samples trajectories from a model, and keeps the correct ones."""

    runner: Runner
    config: ModelTeacherConfig
    path: Path
    """File of what each trajectory came to; an interrupted run continues from it."""

    @override
    def teach(
        self, examples: Sequence[Example], collected: Selection, *, report: Report | None = None
    ) -> Made:
        """Sample trajectories to all examples, round by round.

        `report` is called with the number of trajectories sampled, and the most there can be.

        Raises:
            UserError: A question does not fit into the cache.
        """
        total = len(examples) * self.config.samples_per_question
        kept = collections.Counter[str]()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with metrics.JsonlLog(self.path) as log:
            for sample in range(self.config.samples_per_question):
                open_questions = [
                    (number, example)
                    for number, example in enumerate(examples)
                    if kept[example.id] < self.config.keep_per_question
                    and not collected.is_full(example.task)
                ]
                begun = sample * len(examples)
                for example, offered in self._round(sample, open_questions, log):
                    begun += 1
                    if collected.offer(offered) is None:
                        kept[example.id] += 1
                    if report is not None:
                        report(begun, total)
        return collected.made()

    def _round(
        self, sample: int, questions: Sequence[tuple[int, Example]], log: metrics.JsonlLog
    ) -> Iterator[tuple[Example, Demonstration | Rejection]]:
        """Yield one trajectory of each question in order, those on disk without sampling."""
        known = self._known(sample)
        size = max(evaluation.TRAJECTORIES_PER_SLOT * self.runner.sampler.slots, 1)
        blocks = list(itertools.batched(questions, size))
        missing = [any(example.id not in known for _, example in block) for block in blocks]
        sampled = self.runner.run_batches(
            self._requests(sample, block)
            for block, is_missing in zip(blocks, missing, strict=True)
            if is_missing
        )
        for block, is_missing in zip(blocks, missing, strict=True):
            offers = self._offers([e for _, e in block], next(sampled)) if is_missing else ()
            for (_, example), offered in zip(block, offers, strict=False):
                if example.id not in known:
                    known[example.id] = offered
                    log.append(_record(sample, example, offered))
            for _, example in block:
                yield example, known[example.id]

    def _requests(self, sample: int, block: Sequence[tuple[int, Example]]) -> list[Request]:
        return [
            Request(
                example=example,
                agent=agents.get(self.config.agent(number)),
                rollout_id=RolloutId(number, sample),
                sampling=self.config.sampling(sample),
            )
            for number, example in block
        ]

    def _offers(
        self, examples: Sequence[Example], trajectories: Sequence[Trajectory]
    ) -> list[Demonstration | Rejection]:
        offers = [
            demonstrate(example, trajectory, self.runner.tokenizer, self.instructions)
            for example, trajectory in zip(examples, trajectories, strict=True)
        ]
        made = [each for each in offers if isinstance(each, Demonstration)]
        unsteady = scripts.unsteady(made, self.runner.sandbox)
        places = itertools.count()
        return [
            Rejection.UNSTEADY
            if isinstance(each, Demonstration) and next(places) in unsteady
            else each
            for each in offers
        ]

    def _known(self, sample: int) -> dict[str, Demonstration | Rejection]:
        """Return what an interrupted run has written of a round."""
        fields = {"sample": int, "example_id": str}
        records = metrics.read(self.path, required=fields)
        return {
            record["example_id"]: _offered(record)
            for record in records
            if record["sample"] == sample
        }


def demonstrate(
    example: Example,
    trajectory: Trajectory,
    tokenizer: Tokenizer,
    instructions: Mapping[str, str],
) -> Demonstration | Rejection:
    """Make a demonstration of a trajectory, or say why it is none."""
    if not trajectory.is_valid:
        return Rejection.SANDBOX_FAULT
    calls = iter(trajectory.code_calls)
    turns: list[Turn] = []
    for turn in _written_turns(trajectory, tokenizer):
        # The token that closes a fence may hold the line feed behind it.
        said, stop, _ = first_stop.split_turn(turn.text)
        if stop is Stop.NONE:
            is_cut = trajectory.stop in _CUT_OFF
            return Rejection.CUT_OFF if is_cut else Rejection.NO_ANSWER
        result = None
        if stop is Stop.CODE:
            call = next(calls, None)
            if call is None:
                is_many = trajectory.stop is StopReason.MAX_CODE_CALLS
                return Rejection.MANY_SCRIPTS if is_many else Rejection.UNFINISHED_TURN
            result = call.result
        reply = turn.reply if stop is Stop.ANSWER else ""
        turns.append(dataclasses.replace(turn, text=said, result=result, reply=reply))
    agent = cast(Agent, trajectory.agent)
    return selection.demonstration(example, turns, agent=agent, instructions=instructions)


def _written_turns(trajectory: Trajectory, tokenizer: Tokenizer) -> list[Turn]:
    """Return the model's turns, and what followed each that ends in an answer but the last.

    The guide's turns are no turns of their own: each says why the one before it was sent back.
    """
    turns: list[Turn] = []
    guide_starts = frozenset(trajectory.guide_starts)
    numbered = enumerate(zip(trajectory.tokens, trajectory.sampled, strict=True))
    for sampled, members in itertools.groupby(numbered, key=lambda each: each[1][1]):
        if not sampled:
            continue
        written = list(members)
        ids = [token for _, (token, _) in written if token not in tokenizer.stop_token_ids]
        text = tokenizer.decode(ids)
        if written[0][0] in guide_starts:
            reply = agents.read_guidance(text) or ""
            turns[-1] = dataclasses.replace(turns[-1], reply=reply, guidance=text)
        else:
            turns.append(Turn(text=text, reply=prompts.CHECK_MESSAGE))
    # Nothing follows the last turn, also where the guide has read it.
    last = [dataclasses.replace(turn, reply="", guidance="") for turn in turns[-1:]]
    return [*turns[:-1], *last]


def _record(sample: int, example: Example, offered: Demonstration | Rejection) -> dict[str, Any]:
    is_kept = isinstance(offered, Demonstration)
    return {
        "sample": sample,
        "example_id": example.id,
        "rejection": None if is_kept else offered.name,
        "demonstration": dataclasses.asdict(offered) if is_kept else None,
    }


def _offered(record: Mapping[str, Any]) -> Demonstration | Rejection:
    try:
        if record["rejection"] is not None:
            return Rejection[record["rejection"]]
        raw = record["demonstration"]
        segments = tuple(Segment(**segment) for segment in raw["segments"])
        return Demonstration(**{**raw, "segments": segments})
    except (KeyError, TypeError) as error:
        raise UserError(
            f"a record of sample {record['sample']} to {record['example_id']} is of another "
            "version; delete the file and sample again"
        ) from error
