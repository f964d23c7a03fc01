"""The diagnostics of a step: totals for metrics.jsonl, its parts for diagnostics.jsonl.

A part is a task, a suite or a potential group. A name means the same in both files, so a total is
the mean of its parts, weighted by the counts that each record holds:

    trajectories     stop/*
    valid            reward, accuracy, len/*, calls per trajectory, self-checks
    groups           group/signal_fraction and what it is compared with
    trained_groups   group/zero_advantage_fraction
    tokens           optim/entropy, optim/clip_fraction

What was sampled is described, also what the step did not train on (`grpo.signal`), but for the last
two rows.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from r1ci_jax.grpo_config import Diagnostics
from r1ci_jax.rollout import group_selection, summaries
from r1ci_jax.rollout.diagnostics import group_signal, self_check, token_sums
from r1ci_jax.rollout.diagnostics.group_signal import Grades
from r1ci_jax.rollout.diagnostics.token_sums import RowSums, TokenSums
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.tasks import registry
from r1ci_jax.text.tokenizer import Tokenizer

DIGITS = 6
"""Significant digits of a value in diagnostics.jsonl."""
NO_SUITE = "none"
"""Name of the part of the tasks that no suite has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepDiagnostics:
    """A step's batch, measured trajectory by trajectory."""

    sampled: Sequence[Trajectory]
    """Complete groups, in the order of the rollout ids."""
    trained: Sequence[Trajectory]
    """Those that the step trained on."""
    sums: TokenSums
    """Of the trained ones, in their order."""
    num_sampled: Sequence[int]
    """Number of sampled tokens of each trained one."""
    has_self_check: Sequence[bool]
    """Of each sampled one."""
    rates: Mapping[str, float]
    """Pass rate p of each question by its id."""
    grades: Grades

    @classmethod
    def of(
        cls,
        sampled: Sequence[Trajectory],
        trained: Sequence[Trajectory],
        rows: Sequence[RowSums],
        tokenizer: Tokenizer,
        grades: Grades,
    ) -> Self:
        """Measure a batch.

        Args:
            sampled: All trajectories of the step.
            trained: Those that it trained on; both hold the members of a group one after the other.
            rows: The update's sums, on the host.
            tokenizer: Decodes what the policy wrote between its scripts.
            grades: Questions with their potential.
        """
        return cls(
            sampled=sampled,
            trained=trained,
            sums=token_sums.gather(rows, len(trained)),
            num_sampled=[sum(one.sampled) for one in trained],
            has_self_check=[
                one.is_valid and self_check.has_self_check(one, tokenizer) for one in sampled
            ],
            rates=group_signal.pass_rates(sampled, grades),
            grades=grades,
        )

    def totals(self) -> dict[str, float]:
        """Return the metrics of the whole batch that nothing else measures."""
        if not self.sampled:
            return {}
        found = self._measure(range(len(self.sampled)), range(len(self.trained)))
        return {name: found[name] for name in found if name not in _MEASURED_ELSEWHERE}

    def records(self, level: Diagnostics) -> Iterator[dict[str, Any]]:
        """Yield the records of a step in diagnostics.jsonl, without its stage and number."""
        kinds: dict[str, Callable[[Trajectory], str | None]] = {
            "task": lambda one: one.task,
            "suite": lambda one: registry.suite_of(one.task) or NO_SUITE,
            "potential_group": self._potential_group,
        }
        names = {"all": [*kinds], "groups": ["suite", "potential_group"], "none": []}
        for kind in names[level]:
            sampled = _positions(self.sampled, kinds[kind])
            trained = _positions(self.trained, kinds[kind])
            for name in sorted(sampled):
                described = self._describe(sampled[name], trained.get(name, []))
                yield {"by": kind, "name": name, **described}

    def _potential_group(self, one: Trajectory) -> str | None:
        graded = self.grades.get(one.example_id)
        return None if graded is None else str(graded.group)

    def _describe(self, members: Sequence[int], trained: Sequence[int]) -> dict[str, Any]:
        chosen = [self.sampled[member] for member in members]
        values = summaries.compute_means(chosen) | self._measure(members, trained)
        return {
            "trajectories": len(chosen),
            "valid": sum(one.is_valid for one in chosen),
            "groups": len(group_selection.by_group(chosen)),
            "trained_groups": len(
                group_selection.by_group([self.trained[member] for member in trained])
            ),
            "tokens": int(self.sums.tokens[list(trained)].sum()),
            **{name: float(f"{value:.{DIGITS}g}") for name, value in values.items()},
        }

    def _measure(self, members: Sequence[int], trained: Sequence[int]) -> dict[str, float]:
        """Measure sampled members, and those that were trained on, of a part or of all."""
        chosen = [self.sampled[member] for member in members]
        valid = sum(one.is_valid for one in chosen)
        learned = [self.trained[member] for member in trained]
        carrying = [member for member in trained if self.trained[member].is_valid]
        return {
            "tool/self_check_rate": sum(self.has_self_check[member] for member in members)
            / max(valid, 1),
            **group_signal.measure(chosen, self.rates),
            **group_signal.measure_trained(learned),
            **token_sums.measure(self.sums, self.num_sampled, carrying),
        }


def _positions(
    trajectories: Sequence[Trajectory], name_of: Callable[[Trajectory], str | None]
) -> dict[str, list[int]]:
    """Return the positions of each part's trajectories by its name."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for position, one in enumerate(trajectories):
        if (name := name_of(one)) is not None:
            found[name].append(position)
    return found


_MEASURED_ELSEWHERE = frozenset(
    ("optim/entropy", "optim/clip_fraction", "optim/kl", "group/zero_advantage_fraction")
)
"""The trainer logs these itself."""
