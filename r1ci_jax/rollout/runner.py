"""The runner: trajectories sampled from a policy, with the interpreter in the loop."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import override

from r1ci_jax.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.model import qwen2
from r1ci_jax.rollout import partial_rollouts, reward
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.scheduler import Observer, RolloutScheduler
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.rollout.trajectory_source import MakeWeights, TrajectorySource
from r1ci_jax.runtime import hosts
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry
from r1ci_jax.text import chatml, prompts, protocol
from r1ci_jax.text.tokenizer import Tokenizer

__all__ = ["Request", "Runner"]


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
        turn_penalty_after: int = 6,
    ) -> None:
        """`instructions` precede every question, by agent; see text/prompts.py."""
        self.engine = engine
        self.sampler = engine.sampler
        self.sandbox = sandbox
        self.tokenizer = tokenizer
        self.limits = limits
        self.instructions = instructions
        self.turn_penalty_after = turn_penalty_after
        self.waited_seconds = 0.0
        num_clip_tokens = len(tokenizer.encode(protocol.CLIP_MARK))
        if limits.max_observation_tokens < num_clip_tokens + 2:
            raise UserError(
                f"limits.max_observation_tokens = {limits.max_observation_tokens} is too small for "
                f"the {num_clip_tokens} tokens that mark shortened output; raise it"
            )
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
        self._sample(episodes, on_done=on_done, observer=observer)
        return [episode.trajectory for episode in episodes if episode.trajectory is not None]

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

        def has_enough() -> bool:
            return partial_rollouts.has_enough_groups(
                episodes, num_groups=num_groups, step=step, max_staleness=max_staleness
            )

        self._sample(episodes, on_done=on_done, has_enough=has_enough)
        return partial_rollouts.split(episodes, num_groups=num_groups)

    def _sample(
        self,
        episodes: Sequence[Episode],
        *,
        on_done: Callable[[int], None] | None,
        observer: Observer | None = None,
        has_enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Continue the episodes until all have ended, or `has_enough` is true."""
        if has_enough():
            return
        scheduler = RolloutScheduler(
            self.engine,
            self.sandbox,
            self.tokenizer,
            self.limits,
            [episode for episode in episodes if not episode.is_done],
            self.score,
            observer,
        )
        with contextlib.closing(scheduler.chunks()) as chunks:
            for num_done in chunks:
                if on_done is not None:
                    on_done(num_done)
                if has_enough():
                    break
            scheduler.flush_pending_tools()
        scheduler.collect_scores()
        self.waited_seconds += scheduler.waited_seconds

    def new_episode(self, request: Request, *, first_step: int = 0) -> Episode:
        """Return an episode that is its prompt, with room for at least one sampled token."""
        agent = request.agent
        instructions = prompts.instructions_of(agent.name, self.instructions)
        question = instructions + request.example.question + agent.hint
        prompt = chatml.prompt_ids(self.tokenizer, question)
        capacity = self.sampler.cache_length
        if len(prompt) >= capacity:
            raise UserError(
                f"the prompt of question {request.example.id} has {len(prompt)} tokens, which does "
                f"not fit into the cache; raise sampler.cache_length = {capacity} or leave it out"
            )
        episode = Episode(request=request, first_step=first_step)
        episode.append_context(prompt)
        return episode

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
            reward=reward.shaped_reward(
                correct,
                protocol.keeps_format(episode.completion_text(self.tokenizer)),
                len(episode.code_calls) + 1,
                penalty_after=self.turn_penalty_after,
            ),
            num_stale_tokens=episode.num_stale_tokens,
        )
