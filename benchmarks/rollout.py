"""`python benchmarks/rollout.py [--json]`: how much of a slot's time becomes tokens.

The same trajectories are made twice with the same engine: by the project's `Runner`, and by a
lock-step loop that does what other JAX trainers do (a batch decodes until its slowest row's turn
ends, leaves the device, runs its tools, and prefills every conversation again from its beginning).
Random numbers depend on trajectory and position alone, so both make the same tokens; that is
checked.

Real: engine, runner, agent, pause automaton, tokens, compiled programs, processor time. Simulated:
the policy follows a script (scripted.py) in which turn lengths are lognormal (median 350, sigma
0.8, cap 1500) and the number of turns geometric (mean 2), all divided by `--scale`, as are chunk,
tool time, prompt and observation, so that their ratios stay; a step of the tiny model costs almost
nothing. A tool takes 100 decode steps (divided likewise) on a clock that counts decode steps: a
stand-in for the sandbox holds back its result until the clock is there, and where the loop waits
for it, the steps that could have been decoded meanwhile count as lost. Prefill takes no time on
that clock; the processor seconds have it.

`--sandbox` runs the scripts in the real sandbox instead: tokens a second and seconds waited for.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, override

import alternate
import scripted

from r1ci_jax.core.config import SamplerConfig, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout.live import Request
from r1ci_jax.sampling import pause
from r1ci_jax.sampling.engine import Emitted, Engine, Feed
from r1ci_jax.sandbox import ExecResult, Sandbox, SandboxConfig, Status
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chat, protocol

MEDIAN, SIGMA, CAP, MEAN_TURNS, TOOL_STEPS = 350, 0.8, 1500, 2.0, 100
NEW_TOKENS, CACHE_TOKENS = 6144, 9216
GROUP = 8
BARS = {"useful_per_slot_step": 0.50, "ratio_lockstep": 3.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured; steps and tokens before they are scaled."""

    scale: int
    slots: int
    per_slot: int
    chunk: int
    lag: int
    """Chunks between a pause and its observation's entry: `runner.OBSERVATION_LAG`."""
    seed: int = 0

    @property
    def tool_steps(self) -> int:
        """Decode steps that a tool takes, scaled."""
        return round(TOOL_STEPS / self.scale)


class SteppedEngine(Engine):
    """The engine, with a clock that counts decode steps: the device's and the host's.

    The host takes no time of its own; the device runs a chunk as soon as it is dispatched and the
    one before is done.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """As `Engine`."""
        super().__init__(*args, **options)
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.now = 0
        """The host's clock."""
        self.decoded_steps = 0
        """Steps that the device ran."""
        self._device_free = 0
        self._dispatched: list[int] = []
        self.prefilled_tokens = self.copied_tokens = 0

    @override
    def dispatch(self) -> None:
        self._dispatched.append(self.now)
        super().dispatch()

    @override
    def collect(self) -> list[Emitted]:
        emitted = super().collect()
        # The loop on the device ends with its last active slot.
        steps = max((len(row.tokens) for row in emitted), default=0)
        self.decoded_steps += steps
        self._device_free = max(self._device_free, self._dispatched.pop(0)) + steps
        self.now = max(self.now, self._device_free)
        return emitted

    @override
    def abandon(self) -> None:
        super().abandon()
        self._dispatched.clear()

    def wait_until(self, step: int) -> None:
        """The host waits for something that is not the device."""
        self.now = max(self.now, step)


class _Held(concurrent.futures.Future[ExecResult]):
    """A result that is there from a given step on."""

    def __init__(self, engine: SteppedEngine, ready: int) -> None:
        super().__init__()
        self._engine, self._ready = engine, ready
        result = ExecResult(status=Status.OK, stdout="499500\n", stderr="", exit_code=0)
        self.set_result(result)

    @override
    def result(self, timeout: float | None = None) -> ExecResult:
        self._engine.wait_until(self._ready)
        return super().result(timeout)


class StandIn:
    """In the sandbox's place: every script prints the same after `steps` decode steps."""

    def __init__(self, engine: SteppedEngine, steps: int) -> None:
        """`steps` on the engine's clock."""
        self._engine, self._steps = engine, steps

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """As `Sandbox.submit`."""
        return _Held(self._engine, self._engine.now + self._steps)


class World:
    """The parts that both loops share."""

    def __init__(self, setting: Setting) -> None:
        """Compiles everything."""
        scale = setting.scale
        self.setting = setting
        lengths = scripted.Lengths(
            median=MEDIAN / scale, sigma=SIGMA, cap=CAP // scale, mean_turns=MEAN_TURNS
        )
        config, self.tokenizer, self.weights = scripted.policy(lengths)
        sampler = SamplerConfig(
            slots=setting.slots,
            cache_length=CACHE_TOKENS // scale,
            chunk=setting.chunk // scale,
            prefill_buckets=(32, 64, 256),
            prefill_rows=8,
        )
        table = pause.token_table(protocol.stop_machine(), self.tokenizer.token_bytes())
        self.engine = SteppedEngine(
            config, sampler, table, eos_id=self.tokenizer.eos_id, seed=setting.seed
        )
        self.limits = TurnLimits(
            code_calls=8, new_tokens=NEW_TOKENS // scale, observation_tokens=48
        )
        self.engine.load(self.weights)
        self.engine.warm_up()

    def requests(self) -> list[Request]:
        """Questions of about 400 unscaled tokens, asked `GROUP` times each."""
        count = self.setting.slots * self.setting.per_slot
        agent = agents.CodeAgent()
        return [
            Request(example=_example(number // GROUP), agent=agent, rollout=divmod(number, GROUP))
            for number in range(count)
        ]

    def runner(self, box: Sandbox | StandIn) -> runners.Runner:
        """Ours."""
        return runners.Runner(self.engine, box, self.tokenizer, self.limits)


def _example(number: int) -> Example:
    return Example(
        id=f"toy_arithmetic/d1/s0/{number}",
        task="toy_arithmetic",
        question=f"Question {number:04d}: compute 3+4.",
        answer="7",
        difficulty=1,
        metadata='{"expression": "3+4"}',
    )


# --- the two loops -------------------------------------------------------------------------------

type Made = list[tuple[int, ...]]
"""Tokens of every trajectory, prompt and observations included."""


def ours(world: World, box: Sandbox | StandIn) -> tuple[Made, list[int], float]:
    """Tokens of the trajectories, how many of each were sampled, and seconds waited for scripts."""
    runner = world.runner(box)
    world.engine.load(world.weights)
    trajectories = runner.run(world.requests())
    sampled = [sum(trajectory.sampled) for trajectory in trajectories]
    return [trajectory.tokens for trajectory in trajectories], sampled, runner.waited_seconds


@dataclasses.dataclass(kw_only=True)
class _Row:
    request: Request
    tokens: list[int]
    sampled: int = 0
    turn_start: int = 0
    calls: int = 0
    pending: concurrent.futures.Future[ExecResult] | None = None
    is_done: bool = False


def lockstep(world: World, box: Sandbox | StandIn) -> tuple[Made, list[int], float]:
    """The same by turns of a whole batch; what is not finished is prefilled anew every turn."""
    rows = [
        _Row(request=request, tokens=chat.prompt_ids(world.tokenizer, request.example.question))
        for request in world.requests()
    ]
    waited = 0.0
    for batch in itertools.batched(rows, world.setting.slots):
        while going := [row for row in batch if not row.is_done]:
            _turn(world, going)
            began = time.monotonic()
            for row in going:
                _after_turn(world, row, box)
            for row in going:
                _observe(world, row)
            waited += time.monotonic() - began
    return [tuple(row.tokens) for row in rows], [row.sampled for row in rows], waited


def _turn(world: World, rows: Sequence[_Row]) -> None:
    """Prefill whole conversations and decode until the last row's turn has ended."""
    engine = world.engine
    engine.load(world.weights)  # forgets which prompts the cache holds
    for row in rows:
        row.turn_start = len(row.tokens)
    engine.feed(
        [
            Feed(
                slot=slot,
                tokens=tuple(row.tokens),
                position=0,
                budget=world.limits.new_tokens - row.sampled,
                rollout=row.request.rollout,
            )
            for slot, row in enumerate(rows)
        ]
    )
    going = True
    while going:
        emitted = engine.decode()
        for part in emitted:
            rows[part.slot].tokens.extend(part.tokens)
            rows[part.slot].sampled += len(part.tokens)
        going = any(not part.paused for part in emitted)


def _after_turn(world: World, row: _Row, box: Sandbox | StandIn) -> None:
    """Start the row's script, or end the row."""
    code = protocol.last_code(world.tokenizer.decode(row.tokens[row.turn_start :]))
    left = world.limits.new_tokens - row.sampled
    if code is None or left <= 0 or row.calls >= world.limits.code_calls:
        row.is_done = True
        return
    row.calls += 1
    row.pending = box.submit(code)


def _observe(world: World, row: _Row) -> None:
    if row.pending is None:
        return
    ids = world.tokenizer.encode(protocol.observation(row.pending.result()))
    mark = world.tokenizer.encode(protocol.CLIP_MARK)
    limit = world.limits.observation_tokens
    row.tokens.extend(protocol.clip_observation_ids(ids, limit, mark))
    row.pending = None


type Loop = Callable[[World, Sandbox | StandIn], tuple[Made, list[int], float]]
LOOPS: dict[str, Loop] = {"ours": ours, "lockstep": lockstep}


# --- report --------------------------------------------------------------------------------------


def simulated(world: World) -> dict[str, Any]:
    """Both loops on the clock of decode steps; checks that they made the same tokens."""
    report: dict[str, Any] = {}
    made = {}
    engine, slots = world.engine, world.setting.slots
    for name, loop in LOOPS.items():
        engine.reset()
        began = time.monotonic()
        made[name], sampled, _ = loop(world, StandIn(engine, world.setting.tool_steps))
        seconds = time.monotonic() - began
        tokens = sum(sampled)
        report |= {
            f"useful_per_slot_step_{name}": tokens / (slots * engine.now),
            f"useful_per_decoded_slot_step_{name}": tokens / (slots * engine.decoded_steps),
            f"steps_{name}": engine.now,
            f"decoded_steps_{name}": engine.decoded_steps,
            f"prefilled_tokens_{name}": engine.prefilled_tokens,
            f"copied_prompt_tokens_{name}": engine.copied_tokens,
            f"tokens_per_s_{name}": tokens / seconds,
            f"seconds_{name}": seconds,
        }
        report["tokens"] = tokens
    if made["ours"] != made["lockstep"]:
        raise AssertionError("the two loops made different tokens, so they cannot be compared")
    for key in ("useful_per_slot_step", "useful_per_decoded_slot_step"):
        report[f"{key}_ratio"] = report[f"{key}_ours"] / report[f"{key}_lockstep"]
    report["ratio_lockstep"] = report["useful_per_slot_step_ratio"]
    report["ratio_lockstep_tokens_per_s"] = (
        report["tokens_per_s_ours"] / report["tokens_per_s_lockstep"]
    )
    return report


def with_sandbox(world: World, workers: int) -> dict[str, Any]:
    """Both loops with real scripts in the real sandbox."""
    report: dict[str, Any] = {}
    with Sandbox(SandboxConfig(workers=workers)) as sandbox:
        sandbox.submit("print(1)").result()
        for name, loop in LOOPS.items():
            world.engine.reset()
            began = time.monotonic()
            _, sampled, waited = loop(world, sandbox)
            seconds = time.monotonic() - began
            report |= {
                f"sandbox_tokens_per_s_{name}": sum(sampled) / seconds,
                f"sandbox_waited_seconds_{name}": waited,
                f"sandbox_seconds_{name}": seconds,
            }
    report["ratio_lockstep_sandbox_tokens_per_s"] = (
        report["sandbox_tokens_per_s_ours"] / report["sandbox_tokens_per_s_lockstep"]
    )
    return report


def measure(setting: Setting, sandbox: bool) -> dict[str, Any]:
    """The report of one chunk length."""
    runners.OBSERVATION_LAG = setting.lag
    world = World(setting)
    figures = with_sandbox(world, workers=2) if sandbox else simulated(world)
    return {"setting": dataclasses.asdict(setting), **figures}


def table(reports: Sequence[dict[str, Any]]) -> str:
    """A line a chunk length."""
    keys = list(reports[0])[1:]
    lines = ["figure".ljust(40) + "".join(f"chunk {r['setting']['chunk']:>4}  " for r in reports)]
    for key in keys:
        lines.append(key.ljust(40) + "".join(f"{r[key]:>10.3f}  " for r in reports))
    return "\n".join(lines)


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--sandbox", action="store_true", help="real scripts in the real sandbox")
    parser.add_argument("--chunk", type=int, nargs="+", default=[32], help="before scaling")
    parser.add_argument("--lag", type=int, default=runners.OBSERVATION_LAG, metavar="CHUNKS")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--per-slot", type=int, default=4, help="trajectories a slot")
    parser.add_argument("--scale", type=int, default=8, help="lengths are divided by it")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        alternate.bind_to_cores()
        reports = []
        for chunk in args.chunk:
            alternate.say(f"chunk {chunk}")
            setting = Setting(
                scale=args.scale,
                slots=args.slots,
                per_slot=args.per_slot,
                chunk=chunk,
                lag=args.lag,
                seed=args.seed,
            )
            reports.append(measure(setting, args.sandbox))
    except UserError as error:
        print(f"benchmarks/rollout.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"host": alternate.host(), "runs": reports}) if args.json else table(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
