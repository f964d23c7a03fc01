"""The scripted teacher: rule-based demonstrations for toy tasks whose code is really executed.

Like the paper's SFT data (section 4.1), only trajectories whose final answer is scored correct are
kept. Some answers are given from memory although code would be safer; this leaves the
fine-tuned policy something to learn by reinforcement.
"""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from r1ci_jax.config import DemonstrationConfig
from r1ci_jax.data.demonstrations import AGENTS, Agent, Demonstration, Segment, send_back
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks import base, registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.toy.toy_task import ReferenceSolution, ToyTask
from r1ci_jax.text import prompts, protocol

Report = Callable[[int, int], None]
"""A function called with (scripts run, scripts in all)."""


class Interpreter(Protocol):
    """The part of `Sandbox` that the teacher uses."""

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Run a script."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """One demonstration before its scripts have run."""

    example: Example
    gold: str
    reference: ReferenceSolution
    agent: Agent
    kind: str

    def scripts(self) -> tuple[str, ...]:
        """Return the code in the order of the trajectory."""
        worked = self.reference
        match self.kind:
            case "direct" | "wrong":
                return ()
            case "repair":
                return (worked.faulty_code, worked.code)
            case "check":
                return (worked.code, worked.check)
            case _:
                return (worked.code,)


def write_demonstrations(
    examples: Iterable[Example],
    sandbox: Interpreter,
    *,
    seed: int,
    mix: DemonstrationConfig | None = None,
    per_question: int = 1,
    instructions: Mapping[str, str] = prompts.NO_INSTRUCTIONS,
    report: Report | None = None,
) -> list[Demonstration]:
    """Write correct trajectories, `per_question` for each example; the seed determines them.

    A fraction `mix.wrong` of the Code Agent's are wrong guesses instead. `instructions` are those
    of the policy that is to learn (`prompts.choose`).

    Raises UserError for a task that has no scripted teacher, and when the sandbox fails.
    """
    plans = _plan(
        [e for e in examples for _ in range(per_question)], mix or DemonstrationConfig(), seed
    )
    results = run_all({code: None for plan in plans for code in plan.scripts()}, sandbox, report)
    written_out = (_assemble(plan, results, instructions) for plan in plans)
    return [made for made in written_out if made.correct == (made.kind != "wrong")]


def _weights(mix: DemonstrationConfig) -> dict[tuple[Agent, str], float]:
    """Return the weight of each (agent, kind)."""
    kinds = {kind: getattr(mix, kind) for kind in ("code", "repair", "check", "direct")}
    total = sum(kinds.values()) or 1.0
    table: dict[tuple[Agent, str], float] = {
        ("code_agent", kind): mix.code_agent * (1 - mix.wrong) * weight / total
        for kind, weight in kinds.items()
    }
    table["all_text", "direct"] = mix.all_text
    table["all_code", "code"] = mix.all_code
    table["codesteer", "steered_wrong"] = mix.codesteer * mix.wrong_first
    table["codesteer", "steered_right"] = mix.codesteer * (1 - mix.wrong_first)
    table["code_agent", "wrong"] = mix.code_agent * mix.wrong
    assert {agent for agent, _ in table} == set(AGENTS)
    return table


def _plan(examples: Sequence[Example], mix: DemonstrationConfig, seed: int) -> list[_Plan]:
    """Give every example an agent and a kind, in the exact proportions within each task."""
    by_task: dict[str, list[int]] = collections.defaultdict(list)
    for position, example in enumerate(examples):
        by_task[example.task].append(position)
    ways: dict[int, tuple[Agent, str]] = {}
    for name, positions in by_task.items():
        ways |= zip(positions, _shuffle_strategies(mix, len(positions), name, seed), strict=True)
    plans = []
    for position, example in enumerate(examples):
        task = registry.get(example.task)
        if not isinstance(task, ToyTask):
            raise UserError(
                f"the scripted teacher knows no {task.name}; "
                "use tasks of the toy suite or give demonstrations (demonstrations.path)"
            )
        gold = task.gold(example)
        assert gold is not None, "toy examples store their answer"
        worked = task.reference_solution(
            example, base.example_rng(f"teach {example.id}", seed, 0, position)
        )
        agent, kind = ways[position]
        plans.append(_Plan(example=example, gold=gold, reference=worked, agent=agent, kind=kind))
    return plans


def _shuffle_strategies(
    mix: DemonstrationConfig, count: int, task: str, seed: int
) -> list[tuple[Agent, str]]:
    """Return `count` strategies in nearly exact proportions (largest remainders), shuffled."""
    weights = _weights(mix)
    total = sum(weights.values())
    assert total > 0, "DemonstrationConfig lets nothing else through"
    exact = {way: count * weight / total for way, weight in weights.items()}
    counts = {way: int(number) for way, number in exact.items()}
    by_remainder = sorted(exact, key=lambda way: counts[way] - exact[way])
    for way in by_remainder[: count - sum(counts.values())]:
        counts[way] += 1
    ways = [way for way, n in counts.items() for _ in range(n)]
    rng = base.example_rng(f"ways {task}", seed, 0, count)
    rng.shuffle(ways)
    return ways


def run_all(
    codes: Iterable[str], sandbox: Interpreter, report: Report | None
) -> dict[str, ExecResult]:
    """Run every distinct script once, as many in parallel as the sandbox has workers."""
    futures = {sandbox.submit(code): code for code in codes}
    results: dict[str, ExecResult] = {}
    try:
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            result = future.result()
            if result.status in (Status.INFRA_ERROR, Status.SETUP_ERROR):
                raise UserError(
                    f"the sandbox failed on a demonstration ({result.status}); "
                    "run r1ci sandbox doctor"
                )
            results[futures[future]] = result
            if report is not None:
                report(done, len(futures))
    finally:
        for future in futures:
            future.cancel()
    return results


def _assemble(
    plan: _Plan, results: Mapping[str, ExecResult], instructions: Mapping[str, str]
) -> Demonstration:
    """Assemble the trajectory; its final answer is the output of the last computation."""
    segments: list[Segment] = []
    if plan.kind == "steered_wrong":
        segments += [
            Segment.masked(_answer(plan.reference.wrong_answer)),
            *send_back(prompts.CHECK_MESSAGE, instructions),
        ]
    elif plan.kind == "steered_right":
        segments += [
            Segment.learned(_answer(plan.gold)),
            *send_back(prompts.CHECK_MESSAGE, instructions),
        ]
    sound = True
    for code in plan.scripts():
        result = results[code]
        fails = plan.kind == "repair" and code == plan.reference.faulty_code
        block = f"```python\n{code}\n```"
        # The policy learns the repair and not the slip.
        segments += [Segment.masked(block) if fails else Segment.learned(block)]
        segments += [Segment.observed(protocol.observation(result))]
        sound = sound and result.status is (Status.EXCEPTION if fails else Status.OK)
    match plan.kind:
        case "direct":
            answer = plan.gold
        case "wrong":
            answer = plan.reference.wrong_answer
        case _:
            # An error of the rules must not be taught: the answer is the output, not the gold.
            answer = results[plan.reference.code].stdout.strip()
    verdict = registry.get(plan.example.task).score(plan.example, answer)
    return Demonstration(
        example_id=plan.example.id,
        task=plan.example.task,
        agent=plan.agent,
        kind=plan.kind,
        prompt=prompts.render_question(
            plan.example.question, plan.agent, instructions=instructions
        ),
        segments=(*segments, Segment.learned(_answer(answer))),
        correct=sound and verdict.correct,
    )


def _answer(text: str) -> str:
    return f"<<<{text}>>>"
