"""`python benchmarks/rollout.py [--json]` measures the fraction of slot time that yields tokens.

The same trajectories are generated twice with the same engine: by the project's `Runner`, and by a
lock-step loop that works like other JAX trainers (a batch decodes until its slowest row's turn
ends, leaves the device, runs its tools, and prefills every conversation again from its beginning).
Random numbers depend only on trajectory and position, so both generate the same tokens, which is
checked.

The engine, runner, agent, pause automaton, tokens, compiled programs and processor time are real.
The policy and the tools are simulated. The policy follows a script (scripted.py) in which turn
lengths are lognormal (median 350, sigma 0.8, cap 1500) and the number of turns is geometric (mean
2). All lengths are divided by `--scale`, and so are chunk, tool time, prompt and observation, which
keeps their ratios; a step of the tiny model costs almost nothing. A tool takes 100 decode steps
(also scaled) on a clock that counts decode steps: a stand-in for the sandbox delays its result
until the clock reaches that step. While the loop waits for a result, the decode steps that were
possible count as lost. Prefill takes no time on that clock, but is part of the processor seconds. A
batch of four trajectories per slot ends with its longest trajectory, whose length is random, so
metrics are sums over `--seeds` batches.

`partial` is our runner as GRPO may run it (rollout/partial_rollouts.py): each step ends when as
many groups are complete as a batch has, with half as many more in flight. Unfinished trajectories
continue in the next step.

`--sandbox` runs the scripts in the real sandbox and measures tokens per second and waiting time.

`--late SECONDS` measures what one slow script costs the others: the first script of a batch takes
that many seconds, all others none. A thread delays it, and the clock is that on the wall.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, override
from unittest import mock

import alternate
import late_script
import scripted

from r1ci_jax.config import SamplerConfig, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents, host_ownership
from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.trajectory import RolloutId
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine, SlotInput, SlotOutput
from r1ci_jax.sandbox import ExecResult, Sandbox, SandboxConfig
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chatml, protocol

MEDIAN, SIGMA, CAP, MEAN_TURNS, TOOL_STEPS = 350, 0.8, 1500, 2.0, 100
NEW_TOKENS, CACHE_TOKENS = 6144, 9216
GROUP = 8
MAX_GROUPS = 100_000
"""Metrics of one seed."""
PARTIAL_STEPS, EXTRA = 4, 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes of a measurement, in steps and tokens before scaling."""

    scale: int
    slots: int
    per_slot: int
    chunk_steps: int
    lag: int
    """Chunks that a tool stands for where `partial` ends a step (`sampler.observation_lag`)."""
    seeds: int = 3
    """Number of batches, each with its own random numbers."""

    @property
    def tool_steps(self) -> int:
        """Return the scaled number of decode steps that a tool takes."""
        return round(TOOL_STEPS / self.scale)


class SteppedEngine(Engine):
    """Engine with clocks of the device and the host that count decode steps.

    The host takes no time; the device runs a chunk as soon as it is dispatched and the previous one
    is done.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take the arguments of `Engine`."""
        super().__init__(*args, **options)
        self.reset()

    def reset(self) -> None:
        """Restart counting."""
        self.now = 0
        """Host's clock in decode steps."""
        self.decoded_steps = 0
        """The device ran this many steps."""
        self.held: list[Held] = []
        """Results that are not there yet."""
        self._device_free = 0
        self._dispatched: list[int] = []
        self.prefilled_tokens = self.shared_tokens = 0

    @override
    def dispatch(self) -> None:
        self._dispatched.append(self.now)
        super().dispatch()

    @override
    def collect(self) -> list[SlotOutput]:
        emitted = super().collect()
        # The loop on the device ends with its last active slot.
        steps = max((len(row.tokens) for row in emitted), default=0)
        self.decoded_steps += steps
        self._device_free = max(self._device_free, self._dispatched.pop(0)) + steps
        self.wait_until(self._device_free)
        return emitted

    @override
    def abandon(self) -> None:
        while self._dispatched:  # the device has run chunks that are never read
            self.collect()
        super().abandon()

    def wait_until(self, step: int) -> None:
        """Let the host wait until this step; results that are due by then are there."""
        self.now = max(self.now, step)
        due = [held for held in self.held if held.ready <= self.now]
        self.held = [held for held in self.held if held.ready > self.now]
        for held in due:
            if not held.cancelled():
                held.set_result(scripted.RESULT)

    @contextlib.contextmanager
    def keeps_time(self) -> Iterator[None]:
        """Let the runner's waits for scripts move this clock instead of taking time."""

        def ready(futures: Sequence[Any]) -> list[int]:
            waited = [future for future in futures if future is not None]
            return [future.ready for future in waited if not future.done()]

        with mock.patch.multiple(
            host_ownership,
            wait_for_any=lambda futures, _: self.wait_until(min(ready(futures), default=0)),
            wait_for_all=lambda futures: self.wait_until(max(ready(futures), default=0)),
        ):
            yield


class Held(concurrent.futures.Future[ExecResult]):
    """Result that is available from a given step on."""

    def __init__(self, engine: SteppedEngine, ready: int) -> None:
        """Add it to the engine's."""
        super().__init__()
        self.ready = ready
        self._engine = engine
        engine.held.append(self)

    @override
    def result(self, timeout: float | None = None) -> ExecResult:
        self._engine.wait_until(self.ready)
        return super().result(timeout)


class StandIn:
    """Stand-in for the sandbox: prints the same for every script after `steps` decode steps."""

    def __init__(self, engine: SteppedEngine, steps: int) -> None:
        """Count `steps` on the engine's clock."""
        self._engine, self._steps = engine, steps

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Submit like `Sandbox.submit`."""
        return Held(self._engine, self._engine.now + self._steps)


class World:
    """The parts that both loops use."""

    def __init__(self, setting: Setting) -> None:
        """Compile everything."""
        scale = setting.scale
        self.setting = setting
        lengths = scripted.Lengths(
            median=MEDIAN / scale, sigma=SIGMA, cap=CAP // scale, mean_turns=MEAN_TURNS
        )
        config, self.tokenizer, self.weights = scripted.policy(lengths)
        sampler = SamplerConfig(
            slots=setting.slots,
            cache_length=CACHE_TOKENS // scale,
            chunk_steps=setting.chunk_steps // scale,
            observation_lag=setting.lag,
            prefill_buckets=(32, 64, 256),
            prefill_rows=8,
        )
        table = stop_automaton.token_table(protocol.stop_machine(), self.tokenizer.token_bytes())
        self.engine = SteppedEngine(
            config, sampler, table, stop_token_ids=self.tokenizer.stop_token_ids, seed=0
        )
        self.limits = TurnLimits(
            max_code_calls=8, max_new_tokens=NEW_TOKENS // scale, max_observation_tokens=48
        )
        self.engine.load(self.weights)
        self.engine.warm_up()

    def requests(self, seed: int, batches: float = 1.0, first: int = 0) -> list[Request]:
        """Make complete groups for this many batches, from group `first` on."""
        setting, agent = self.setting, agents.CodeAgent()
        groups = round(batches * setting.slots * setting.per_slot / GROUP)
        return [
            Request(
                example=_example(number),
                agent=agent,
                rollout_id=RolloutId(seed * MAX_GROUPS + number, sample_index),
            )
            for number in range(first, first + groups)
            for sample_index in range(GROUP)
        ]

    def runner(self, box: Sandbox) -> runners.Runner:
        """Return our runner."""
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


def ours(world: World, box: Sandbox, seed: int) -> tuple[Made, int, float]:
    """Return the trajectories' tokens, the number sampled, and seconds waiting for scripts."""
    runner = world.runner(box)
    world.engine.load(world.weights)
    trajectories = runner.run(world.requests(seed))
    sampled = sum(sum(trajectory.sampled) for trajectory in trajectories)
    return [trajectory.tokens for trajectory in trajectories], sampled, runner.waited_seconds


def partial(world: World, box: Sandbox, seed: int) -> tuple[Made, int, float]:
    """Run `PARTIAL_STEPS` steps of a batch each; unfinished trajectories count too."""
    runner = world.runner(box)
    wanted = world.setting.slots * world.setting.per_slot // GROUP
    trained, left = [], []
    for step in range(PARTIAL_STEPS):
        runner.load(world.weights)  # like new weights
        first = 0 if step == 0 else round((step + EXTRA) * wanted)
        new = world.requests(seed, 1 + EXTRA if step == 0 else 1, first)
        done, left = runner.run_groups(
            new, left, num_groups=wanted, step=step, max_staleness=PARTIAL_STEPS
        )
        trained += done
    sampled = sum(sum(trajectory.sampled) for trajectory in trained)
    sampled += sum(sum((episode.trajectory or episode).sampled) for episode in left)
    return [trajectory.tokens for trajectory in trained], sampled, runner.waited_seconds


@dataclasses.dataclass(kw_only=True)
class _Row:
    request: Request
    tokens: list[int]
    sampled: int = 0
    turn_start: int = 0
    calls: int = 0
    pending: concurrent.futures.Future[ExecResult] | None = None
    is_done: bool = False


def lockstep(world: World, box: Sandbox, seed: int) -> tuple[Made, int, float]:
    """Run the lock-step loop; unfinished trajectories are prefilled again every turn."""
    rows = [
        _Row(request=request, tokens=chatml.prompt_ids(world.tokenizer, request.example.question))
        for request in world.requests(seed)
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
    return [tuple(row.tokens) for row in rows], sum(row.sampled for row in rows), waited


def _turn(world: World, rows: Sequence[_Row]) -> None:
    """Prefill full conversations and decode until the last row's turn has ended."""
    engine = world.engine
    engine.load(world.weights)  # this clears the record of cached prompts
    for row in rows:
        row.turn_start = len(row.tokens)
    engine.feed(
        [
            SlotInput(
                slot=slot,
                tokens=tuple(row.tokens),
                position=0,
                budget=world.limits.max_new_tokens - row.sampled,
                rollout_id=row.request.rollout_id,
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
        going = any(not part.is_paused for part in emitted)


def _after_turn(world: World, row: _Row, box: Sandbox) -> None:
    """Start the row's script, or end the row."""
    code = protocol.last_code(world.tokenizer.decode(row.tokens[row.turn_start :]))
    left = world.limits.max_new_tokens - row.sampled
    if code is None or left <= 0 or row.calls >= world.limits.max_code_calls:
        row.is_done = True
        return
    row.calls += 1
    row.pending = box.submit(code)


def _observe(world: World, row: _Row) -> None:
    if row.pending is None:
        return
    ids = world.tokenizer.encode(protocol.observation(row.pending.result()))
    mark = world.tokenizer.encode(protocol.CLIP_MARK)
    limit = world.limits.max_observation_tokens
    row.tokens.extend(protocol.clip_observation_ids(ids, limit, mark))
    row.pending = None


type Loop = Callable[[World, Sandbox, int], tuple[Made, int, float]]
LOOPS: Mapping[str, Loop] = {"ours": ours, "lockstep": lockstep, "partial": partial}


# --- report --------------------------------------------------------------------------------------


def simulated(world: World) -> dict[str, Any]:
    """Run all loops on the step clock; check that ours and lock-step sample equal tokens."""
    engine, setting = world.engine, world.setting
    sums: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in LOOPS}
    for seed in range(setting.seeds):
        made = {}
        for name, loop in LOOPS.items():
            engine.reset()
            # The runner uses only `submit` of its sandbox.
            box: Any = StandIn(engine, setting.tool_steps)
            began = time.monotonic()
            with engine.keeps_time():
                made[name], sampled, _ = loop(world, box, seed)
            sums[name] += collections.Counter(
                seconds=time.monotonic() - began,  # type: ignore[arg-type]  # a sum of floats
                tokens=sampled,
                steps=engine.now,
                decoded_steps=engine.decoded_steps,
                prefilled_tokens=engine.prefilled_tokens,
                shared_prompt_tokens=engine.shared_tokens,
            )
        if made["ours"] != made["lockstep"]:
            raise AssertionError("the two loops made different tokens and cannot be compared")
    report = {}
    for name, found in sums.items():
        report |= {
            f"useful_per_slot_step_{name}": found["tokens"] / found["steps"] / setting.slots,
            f"useful_per_decoded_slot_step_{name}": found["tokens"]
            / found["decoded_steps"]
            / setting.slots,
            f"tokens_per_s_{name}": found["tokens"] / found["seconds"],
            **{f"{key}_{name}": value for key, value in found.items()},
        }
    for infix in ("", "decoded_"):
        report[f"ratio_{infix}lockstep"] = (
            report[f"useful_per_{infix}slot_step_ours"]
            / report[f"useful_per_{infix}slot_step_lockstep"]
        )
    report["ratio_lockstep_tokens_per_s"] = (
        report["tokens_per_s_ours"] / report["tokens_per_s_lockstep"]
    )
    return report


def with_sandbox(world: World, workers: int) -> dict[str, Any]:
    """Run ours and lock-step with real scripts in the real sandbox."""
    report: dict[str, Any] = {}
    with Sandbox(SandboxConfig(workers=workers)) as sandbox:
        sandbox.submit("print(1)").result()
        for name in ("ours", "lockstep"):
            tokens, waited, began = 0, 0.0, time.monotonic()
            for seed in range(world.setting.seeds):
                _, more, longer = LOOPS[name](world, sandbox, seed)
                tokens, waited = tokens + more, waited + longer
            seconds = time.monotonic() - began
            report |= {
                f"sandbox_tokens_per_s_{name}": tokens / seconds,
                f"sandbox_waited_seconds_{name}": waited,
                f"sandbox_seconds_{name}": seconds,
            }
    report["ratio_lockstep_sandbox_tokens_per_s"] = (
        report["sandbox_tokens_per_s_ours"] / report["sandbox_tokens_per_s_lockstep"]
    )
    return report


def measure(setting: Setting, *, sandbox: bool, late: float | None) -> dict[str, Any]:
    """Return the report of one chunk length."""
    world = World(setting)
    if late is not None:
        figures = late_script.measure(world, late)
    else:
        figures = with_sandbox(world, workers=2) if sandbox else simulated(world)
    return {"setting": dataclasses.asdict(setting), **figures}


def table(reports: Sequence[Mapping[str, Any]]) -> str:
    """Format the reports with a column per chunk length."""
    lines = [
        "".ljust(40) + "".join(f"{'chunk':>7} {r['setting']['chunk_steps']:<4}" for r in reports)
    ]
    for key in list(reports[0])[1:]:
        lines.append(key.ljust(40) + "".join(f"{r[key]:>12.3f}" for r in reports))
    return "\n".join(lines)


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--sandbox", action="store_true", help="real scripts in the real sandbox")
    parser.add_argument("--late", type=float, metavar="SECONDS", help="one script takes so long")
    parser.add_argument("--chunk", type=int, nargs="+", default=[32], help="before scaling")
    parser.add_argument("--lag", type=int, help="chunks; default: as many as a tool takes")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--per-slot", type=int, default=4, help="trajectories a slot")
    parser.add_argument("--scale", type=int, default=8, help="lengths are divided by it")
    parser.add_argument("--seeds", type=int, default=3, help="batches over which is summed")
    args = parser.parse_args()
    try:
        alternate.bind_to_cores()
        reports = []
        for chunk in args.chunk:
            lag = args.lag if args.lag is not None else math.ceil(TOOL_STEPS / chunk)
            setting = Setting(
                scale=args.scale,
                slots=args.slots,
                per_slot=args.per_slot,
                chunk_steps=chunk,
                lag=lag,
                seeds=args.seeds,
            )
            alternate.say(f"{setting}")
            reports.append(measure(setting, sandbox=args.sandbox, late=args.late))
    except UserError as error:
        print(f"benchmarks/rollout.py: {error}", file=sys.stderr)
        return 2
    # The first chunk length's metrics are at the top level, for lookup by one key.
    told = {"host": alternate.host(), **reports[0], "runs": reports}
    print(json.dumps(told) if args.json else table(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
