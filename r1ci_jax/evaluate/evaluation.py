"""Accuracy on held-out questions, measured block by block and kept question by question."""

import collections
import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from r1ci_jax.config import EvalConfig
from r1ci_jax.data import stats
from r1ci_jax.rollout import agents, sandbox_faults
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.scheduler import Observer
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts

TRAJECTORIES_PER_SLOT = 16
"""Each slot samples about this many trajectories per block; a block is kept at its end."""


def questions_per_block(config: EvalConfig, slots: int) -> int:
    """Return the number of questions between two writes; an interruption loses at most these."""
    return max(TRAJECTORIES_PER_SLOT * slots // config.samples_per_question, 1)


class _Block(NamedTuple):
    """Questions that one agent answers, between two writes."""

    number: int
    """Its number from 1, over all agents."""
    agent: agents.Agent
    questions: tuple[tuple[int, Example], ...]
    """The questions with their numbers among all."""


def evaluate(
    runner: Runner,
    examples: Sequence[Example],
    config: EvalConfig,
    path: Path,
    *,
    model: str,
    block_size: int,
    on_done: Callable[[int], None],
    on_block: Callable[[int, Sequence[Trajectory]], None],
    blocks_per_check: int = 1,
    observer: Observer | None = None,
) -> None:
    """Answer, as each agent, every question that `path` (evaluation.jsonl) does not hold yet.

    Blocks are evaluated completely, even if an interrupted run has left a part of one: the same
    requests give the same answers, bit for bit. The runner does not wait between two blocks. A
    question whose prompt does not fit into the cache is not asked; its record says so.

    Args:
        runner: Holds the model.
        examples: All questions, always in the same order.
        config: The agents, the number of answers to a question, and how they are sampled.
        path: Path of evaluation.jsonl.
        model: Name of the model in its records.
        block_size: Number of questions of a block; the last one may have fewer.
        on_done: Called with the number of finished trajectories.
        on_block: Called with a block's number, from 1, and its trajectories, before they are kept.
        blocks_per_check: Newest blocks over which faults of the sandbox are counted.
        observer: Receives the events of each trajectory.

    Raises:
        SandboxFaults: The sandbox failed in too many scripts.
    """
    known = set(read(path, model))
    blocks = _open_blocks(examples, _agents(config, runner), known, block_size)
    open_questions = sum(len(block.questions) for block in blocks)
    total = len(examples) * len(config.agents)
    before = (total - open_questions) * config.samples_per_question
    if before:
        on_done(before)
    answered = runner.run_batches(
        (_make_requests(runner, block, config) for block in blocks),
        on_done=lambda done: on_done(before + done),
        observer=observer,
    )
    newest: collections.deque[Sequence[Trajectory]] = collections.deque(maxlen=blocks_per_check)
    with metrics.JsonlLog(path) as log, contextlib.closing(answered):
        for block, trajectories in zip(blocks, answered, strict=True):
            newest.append(trajectories)
            sandbox_faults.require_few(
                [each for made in newest for each in made],
                config.max_sandbox_fault_fraction,
                section="eval",
                where=f"questions {block.questions[0][0] + 1} to {block.questions[-1][0] + 1}",
            )
            on_block(block.number, trajectories)
            for record in _question_records(model, block, trajectories):
                if (block.agent.name, record["example_id"]) not in known:
                    log.append(record)


def _question_records(
    model: str, block: _Block, trajectories: Sequence[Trajectory]
) -> list[dict[str, Any]]:
    """Make the record of each question of a block."""
    by_question: dict[str, list[Trajectory]] = collections.defaultdict(list)
    for trajectory in trajectories:
        by_question[trajectory.example_id].append(trajectory)
    return [
        question_record(model, block.agent.name, example, by_question[example.id])
        for _, example in block.questions
    ]


def blocks_per_agent(num_questions: int, block_size: int) -> int:
    """Return the number of blocks in which an agent answers so many questions."""
    return math.ceil(num_questions / block_size)


def _open_blocks(
    examples: Sequence[Example],
    chosen: Sequence[agents.Agent],
    known: Collection[tuple[str, str]],
    block_size: int,
) -> list[_Block]:
    """Return the blocks that have an open question."""
    numbered = itertools.count(1)
    blocks = [
        _Block(next(numbered), agent, questions)
        for agent in chosen
        for questions in itertools.batched(enumerate(examples), block_size)
    ]
    return [
        block
        for block in blocks
        if any((block.agent.name, example.id) not in known for _, example in block.questions)
    ]


def _agents(config: EvalConfig, runner: Runner) -> Sequence[agents.Agent]:
    """Return the agents; they read LaTeX's boxes where the policy is told to use them."""
    found = agents.get_all(config.agents)
    if config.ask_for_answer:
        request = prompts.answer_request(runner.instructions)
    elif runner.instructions == prompts.BOXED_INSTRUCTIONS:
        request = None
    else:
        return found
    return [agents.AnswerRequest(agent, request) for agent in found]


def _make_requests(runner: Runner, block: _Block, config: EvalConfig) -> list[Request]:
    requests = [
        Request(
            example=example,
            agent=block.agent,
            rollout_id=RolloutId(number, sample),
            sampling=config.sampling,
        )
        for number, example in block.questions
        for sample in range(config.samples_per_question)
    ]
    return [request for request in requests if runner.fits(request)]


def read(path: Path, model: str) -> dict[tuple[str, str], metrics.Record]:
    """Read the records of evaluation.jsonl of one model, by agent and question; the last counts."""
    records = metrics.read(path, required={"model": str, "agent": str, "example_id": str})
    return {
        (record["agent"], record["example_id"]): record
        for record in records
        if record["model"] == model
    }


def is_complete(path: Path, model: str, config: EvalConfig, examples: Sequence[Example]) -> bool:
    """Return True if every agent has answered every question."""
    known = read(path, model)
    names = [agent.name for agent in agents.get_all(config.agents)]
    return all((name, example.id) in known for name in names for example in examples)


def question_record(
    model: str, agent: str, example: Example, trajectories: Sequence[Trajectory]
) -> dict[str, Any]:
    """Make the record of evaluation.jsonl: what the answers to one question were.

    A question without trajectories was not asked, because its prompt is too long.
    """
    valid = [trajectory for trajectory in trajectories if trajectory.is_valid]
    return {
        "model": model,
        "agent": agent,
        "task": example.task,
        "example_id": example.id,
        "n": len(valid),
        "correct": sum(trajectory.correct for trajectory in valid),
        "void": len(trajectories) - len(valid),
        "too_long": int(not trajectories),
        "stops": dict(collections.Counter(each.stop.value for each in trajectories)),
        "code_calls": sum(len(trajectory.code_calls) for trajectory in valid),
        "used_code": sum(bool(trajectory.code_calls) for trajectory in valid),
        "tokens": sum(sum(trajectory.sampled) for trajectory in valid),
    }


def make_records(
    model: str, answered: Mapping[tuple[str, str], Mapping[str, Any]], examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """Make the records of results.jsonl, one per agent and task, without failed interpreters.

    `answered` holds the records of `question_record`, as `read` returns them.
    """
    by_task: dict[str, list[Example]] = collections.defaultdict(list)
    for example in examples:
        by_task[example.task].append(example)
    return [
        _task_record(model, agent, task, members, answered)
        for agent in dict.fromkeys(agent for agent, _ in answered)
        for task, members in sorted(by_task.items())
    ]


def _task_record(
    model: str,
    agent: str,
    task: str,
    examples: Sequence[Example],
    answered: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    rows = [answered[agent, example.id] for example in examples]
    n, correct = sum(row["n"] for row in rows), sum(row["correct"] for row in rows)
    stops = collections.Counter[str]()
    levels: dict[str, dict[str, int]] = {}
    for example, row in sorted(zip(examples, rows, strict=True), key=lambda p: p[0].difficulty):
        stops.update(row["stops"])
        if row["n"]:
            level = levels.setdefault(str(example.difficulty), {"n": 0, "correct": 0})
            level["n"] += row["n"]
            level["correct"] += row["correct"]
    return {
        "model": model,
        "agent": agent,
        "task": task,
        "suite": registry.get(task).suite,
        "split": registry.get(task).split,
        "n": n,
        "correct": correct,
        "accuracy": correct / max(n, 1),
        "void": sum(row["void"] for row in rows),
        "too_long": sum(row["too_long"] for row in rows),
        "majority": stats.majority_fraction(task, examples),
        "questions": {row["example_id"]: [row["n"], row["correct"]] for row in rows},
        "stops": dict(stops),
        "code_calls_per_trajectory": sum(row["code_calls"] for row in rows) / max(n, 1),
        "used_code_fraction": sum(row["used_code"] for row in rows) / max(n, 1),
        "tokens_per_trajectory": sum(row["tokens"] for row in rows) / max(n, 1),
        "difficulty": levels,
    }


def write_records(path: Path, model: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a model's records to results.jsonl, unless they are there.

    A killed run may have written those of some tasks.
    """
    if list(records) == [each for each in metrics.read(path) if each["model"] == model]:
        return
    with metrics.JsonlLog(path) as log:
        log.keep(lambda record: record["model"] != model)
        for record in records:
            log.append(record)
