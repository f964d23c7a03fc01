"""The runner: trajectories sampled from a policy, with the interpreter in the loop."""

import collections
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import override

from r1ci_jax.config import SamplerConfig, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import RewardConfig
from r1ci_jax.model import qwen2
from r1ci_jax.rollout import agents, partial_rollouts, reward
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.scheduler import Observer, RolloutScheduler
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.rollout.trajectory_source import Extend, MakeWeights, StartEarly, TrajectorySource
from r1ci_jax.runtime import hosts
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry
from r1ci_jax.text import chatml, long_output, prompts, protocol
from r1ci_jax.text.tokenizer import Tokenizer

__all__ = ["Request", "Runner", "make_engine"]

SHORTEST_PREFIX = 64
"""Tokens that an agent's prompts have in common, from which on they are computed once for all."""


def make_engine(
    config: qwen2.Qwen2Config, sampler: SamplerConfig, tokenizer: Tokenizer, *, seed: int
) -> Engine:
    """Make an engine, without weights, whose slots pause where code or an answer is closed."""
    table = stop_automaton.token_table(protocol.stop_machine(), tokenizer.token_bytes())
    return Engine(config, sampler, table, stop_token_ids=tokenizer.stop_token_ids, seed=seed)


class Runner(TrajectorySource):
    """Samples trajectories with one engine, one sandbox and one tokenizer."""

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        tokenizer: Tokenizer,
        limits: TurnLimits,
        *,
        instructions: Mapping[str, str] = prompts.NO_INSTRUCTIONS,
        reward_config: RewardConfig = reward.PAPER,
        turn_penalty_after: int = 6,
        system: str = "",
    ) -> None:
        """`instructions` precede every question, by agent; see text/prompts.py.

        `system` is the system message before each question; empty: there is none.

        Raises:
            UserError: `limits` cannot be kept.
        """
        self.engine = engine
        self.sampler = engine.sampler
        self.sandbox = sandbox
        self.tokenizer = tokenizer
        self.limits = limits
        self.instructions = instructions
        self.reward_config = reward_config
        self.turn_penalty_after = turn_penalty_after
        self.system = system
        self.waited_seconds = self.slot_waited_seconds = 0.0
        self.num_evicted = 0
        self.num_dropped = 0
        self._prefixes: dict[str, list[int]] = {}
        """The tokens that the prompts of each agent begin with."""
        long_output.ObservationEncoder(tokenizer, limits)
        if limits.max_wall_seconds is not None and hosts.count() > 1:
            raise UserError(
                "limits.max_wall_seconds ends trajectories by the clock, and every host has its "
                "own: leave it out on several hosts"
            )

    def load(self, weights: qwen2.DecoderWeights) -> None:
        """Sample from these weights from now on."""
        self.engine.load(weights)

    def unload(self) -> None:
        """Free the weights' memory until the next `load`."""
        self.engine.unload()

    @override
    @contextlib.contextmanager
    def weights_loaded(self, make_weights: MakeWeights) -> Generator[None]:
        self.load(make_weights(self.sampler))
        try:
            yield
        finally:
            self.unload()

    @override
    def warm_up(self) -> None:
        self.engine.warm_up()

    @override
    def run(
        self,
        requests: Iterable[Request],
        *,
        on_done: Callable[[int], None] | None = None,
        observer: Observer | None = None,
    ) -> list[Trajectory]:
        """Sample all trajectories; the result is in the order of the requests.

        Args:
            requests: May outnumber the slots.
            on_done: Called with the number of finished trajectories after every chunk.
            observer: Receives the events of each.

        Raises:
            UserError: A prompt does not fit into the cache; nothing has been sampled yet.
        """
        episodes = [self.new_episode(request) for request in requests]
        with self._scheduler(episodes, observer) as scheduler:
            for num_done in scheduler.chunks():
                if on_done is not None:
                    on_done(num_done)
            scheduler.collect_scores(episodes)
        return [episode.trajectory for episode in episodes if episode.trajectory is not None]

    def run_batches(
        self,
        batches: Iterable[Sequence[Request]],
        *,
        on_done: Callable[[int], None] | None = None,
        observer: Observer | None = None,
    ) -> Generator[list[Trajectory]]:
        """Sample batch by batch, and yield the trajectories of each in the order of its requests.

        Requests of later batches fill the slots that the last ones of a batch leave free, and no
        slot waits for a score. `on_done` is called with the number of finished trajectories after
        every chunk, `observer` receives the events of each.

        Raises:
            UserError: A prompt does not fit into the cache.
        """
        started: collections.deque[list[Episode]] = collections.deque()

        def episodes() -> Generator[Episode]:
            for batch in batches:
                started.append([self.new_episode(request) for request in batch])
                yield from started[-1]

        with self._scheduler(episodes(), observer) as scheduler:
            for num_done in itertools.chain(scheduler.chunks(), (None,)):
                if on_done is not None and num_done is not None:
                    on_done(num_done)
                while started and scheduler.can_collect_scores(started[0]):
                    batch = started.popleft()
                    scheduler.collect_scores(batch)
                    yield [each.trajectory for each in batch if each.trajectory is not None]

    @override
    def run_extended(
        self,
        requests: Iterable[Request],
        extend: Extend,
        *,
        start_early: StartEarly | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Trajectory]:
        """Sample whole groups, and those that `extend` adds, in one stream.

        What a complete group adds enters the first slots that are free, while the others decode on:
        no slot waits for the last group of a round. Slots that no group wants yet start those of
        `start_early`.
        """
        waiting: dict[int, list[Episode]] = collections.defaultdict(list)
        early: dict[int, list[Episode]] = collections.defaultdict(list)
        trajectories: list[Trajectory] = []

        def start(requests: Iterable[Request], groups: dict[int, list[Episode]]) -> list[Episode]:
            episodes = [self.new_episode(request) for request in requests]
            for episode in episodes:
                groups[episode.group_id].append(episode)
            return episodes

        def ask(requests: Iterable[Request]) -> list[Episode]:
            """Start the groups that were not started early."""
            new = [each for each in requests if each.rollout_id.group_id not in early]
            for number in {each.rollout_id.group_id for each in requests} & early.keys():
                waiting[number] = early.pop(number)
            return start(new, waiting)

        with self._scheduler(start(requests, waiting)) as scheduler:
            for num_done in scheduler.chunks():
                if on_done is not None:
                    on_done(num_done)
                while complete := [
                    each for each in waiting.values() if scheduler.can_collect_scores(each)
                ]:
                    for group in complete:
                        del waiting[group[0].group_id]
                        scheduler.collect_scores(group)
                        found = [each.trajectory for each in group if each.trajectory is not None]
                        trajectories += found
                        scheduler.add(ask(extend(found)))
                if not waiting:
                    break
                if start_early is not None and (num_free := scheduler.num_unwanted_slots):
                    scheduler.add(start(start_early(num_free), early))
        assert not waiting, "a group was not completed"
        self.num_dropped += sum(map(len, early.values()))
        return sorted(trajectories, key=lambda each: each.rollout_id)

    @override
    def run_groups(
        self,
        requests: Iterable[Request],
        partial: Sequence[Episode],
        *,
        num_groups: int,
        step: int,
        max_staleness: int,
        on_done: Callable[[int], None] | None = None,
    ) -> tuple[list[Trajectory], list[Episode]]:
        """Sample until `num_groups` groups are complete, and all that would become too stale.

        Returns the trajectories of the `num_groups` oldest complete groups, in the order of their
        rollout ids, and all other episodes, to be handed in at the next step.

        Raises:
            UserError: A prompt does not fit into the cache.
        """
        partial_rollouts.mark_stale(partial)
        new = [self.new_episode(request, first_step=step) for request in requests]
        episodes = [*partial, *new]
        assert num_groups <= len({episode.group_id for episode in episodes}), "too few groups"
        rule = partial_rollouts.StepEnd.of(
            episodes, num_groups=num_groups, step=step, max_staleness=max_staleness
        )
        if not rule.is_reached(episodes):
            self._sample_until(rule, episodes, on_done)
        return partial_rollouts.split(episodes, num_groups=num_groups)

    def _sample_until(
        self,
        rule: partial_rollouts.StepEnd,
        episodes: Sequence[Episode],
        on_done: Callable[[int], None] | None,
    ) -> None:
        """Continue the episodes up to where the rule ends the step."""
        begun = [episode for episode in episodes if episode.is_done]
        queue = [episode for episode in episodes if not episode.is_done]
        for episode in queue:
            episode.start_step()
        clocks = None
        with self._scheduler(queue) as scheduler:
            for num_done in scheduler.chunks():
                if on_done is not None:
                    on_done(num_done)
                if rule.is_reached(episodes):  # else the simulation below would not end either
                    clocks = rule.clocks(begun, queue, self.sampler)
                if clocks is not None:
                    break
            assert clocks is not None, "the episodes ended, and the step did not"
            sizes = {
                episode: partial_rollouts.tokens_at(episode, clock, self.sampler)
                for episode, clock in clocks.items()
            }
            ahead = {episode for episode, size in sizes.items() if size < len(episode.tokens)}
            scheduler.finish_tools(sizes.keys() - ahead)
            scheduler.collect_scores(queue)
        for episode in ahead:
            episode.rewind(sizes[episode])

    @contextlib.contextmanager
    def _scheduler(
        self, episodes: Iterable[Episode], observer: Observer | None = None
    ) -> Generator[RolloutScheduler]:
        """Return a scheduler that ends with the context, and count how long it waited."""
        scheduler = RolloutScheduler(
            self.engine,
            self.sandbox,
            self.tokenizer,
            self.limits,
            episodes,
            self.score,
            observer,
            guide=self.instructions.get(prompts.GUIDE, ""),
        )
        try:
            yield scheduler
        finally:
            scheduler.close()
            self.waited_seconds += scheduler.waited_seconds
            self.slot_waited_seconds += scheduler.slot_waited_seconds
            self.num_evicted += scheduler.num_evicted

    def new_episode(self, request: Request, *, first_step: int = 0) -> Episode:
        """Return an episode that is its prompt, with room for at least one sampled token."""
        prompt, capacity = self.prompt_ids(request), self.sampler.cache_length
        if len(prompt) >= capacity:
            raise UserError(
                f"the prompt of question {request.example.id} has {len(prompt)} tokens, which does "
                f"not fit into the cache; raise sampler.cache_length = {capacity} or leave it out"
            )
        episode = Episode(request=request, first_step=first_step)
        episode.append_context(prompt)
        prefix = self._prefix_of(request.agent)
        if prefix and prompt[: len(prefix)] == prefix:
            episode.num_prefix_tokens = len(prefix)
        return episode

    def prompt_ids(self, request: Request) -> list[int]:
        """Return the ids before the policy's first token."""
        return self._prompt_ids(request.agent, request.example.question)

    def _prompt_ids(self, agent: agents.Agent, question: str) -> list[int]:
        instructions = prompts.instructions_of(agent.name, self.instructions)
        text = instructions + question + agent.hint
        return chatml.prompt_ids(self.tokenizer, text, system=self.system)

    def _prefix_of(self, agent: agents.Agent) -> list[int]:
        """Return the tokens that the agent's prompts begin with; none if they are few.

        Without the last of them, which a tokenizer may merge with the question. A prompt that does
        not begin so all the same is computed as a whole.
        """
        if agent.name not in self._prefixes:
            pair = zip(self._prompt_ids(agent, "A"), self._prompt_ids(agent, "7"), strict=False)
            common = [one for one, _ in itertools.takewhile(lambda ids: ids[0] == ids[1], pair)]
            is_long = len(common) > SHORTEST_PREFIX
            self._prefixes[agent.name] = common[:-1] if is_long else []
        return self._prefixes[agent.name]

    def fits(self, request: Request) -> bool:
        """Return True if the prompt leaves room for at least one sampled token."""
        return len(self.prompt_ids(request)) < self.sampler.cache_length

    def score(
        self, episode: Episode, stop: StopReason, answer: str | None, is_local: bool = True
    ) -> Trajectory:
        """Score the answer and compute the reward; a question of no task has no correct answer.

        An episode that another host owns counts as not correct until that host's score is known.
        """
        request, example = episode.request, episode.request.example
        correct = (
            is_local
            and answer is not None
            and example.task != ""
            and registry.get(example.task).score(example, answer).correct
        )
        turn_texts = episode.turn_texts(self.tokenizer)
        keeps_format = protocol.keeps_format("\n".join(turn_texts))
        terms = reward.compute_terms(
            correct,
            keeps_format,
            len(episode.code_calls) + episode.num_tool_calls,
            config=self.reward_config,
            penalty_after=self.turn_penalty_after,
        )
        return Trajectory(
            example_id=example.id,
            task=example.task,
            question=example.question,
            agent=request.agent.name,
            rollout_id=request.rollout_id,
            tokens=tuple(episode.tokens),
            sampled=tuple(episode.sampled),
            logprobs=tuple(episode.logprobs),
            code_calls=tuple(episode.code_calls),
            stop=stop,
            answer=answer,
            correct=correct,
            reward=terms.total,
            reward_terms=terms,
            keeps_format=keeps_format,
            num_void_turns=sum(map(protocol.is_void, turn_texts)),
            num_stale_tokens=episode.num_stale_tokens,
            guide_starts=tuple(episode.guide_starts),
            num_tool_calls=episode.num_tool_calls,
        )
