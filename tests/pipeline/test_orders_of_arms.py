"""Arms of every order: the questions that each stage asks, and as many rollouts for all."""

import dataclasses
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax import pipeline
from r1ci_jax.config import Arm, DatasetConfig, Experiment, Order
from r1ci_jax.curriculum import potential
from r1ci_jax.data import datasets
from r1ci_jax.data.records import GradedExample
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import StageConfig
from r1ci_jax.model import presets
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from tests.pipeline.test_arms import EXPERIMENT, GRPO, MICRO

ORDERS: tuple[Order, ...] = typing.get_args(Order)
GROUPS = (4, 1, 1, 2, 3, 4, 1, 2)
"""As if measured: the groups of the eight questions."""
TRAINED = dataclasses.replace(
    GRPO, steps_per_stage=(1, 0, 0, 1), stages=StageConfig(remeasure_every=1)
)
ALL_ORDERS = dataclasses.replace(
    EXPERIMENT,
    name="orders",
    dataset=DatasetConfig(
        tasks=("toy_letters",),
        difficulties=(1, 2),
        sft_per_task=8,
        grpo_per_task=8,
        eval_per_task=1,
    ),
    grpo=TRAINED,
    arms=tuple(Arm(name=f"grpo_{order}", order=order) for order in ORDERS),
)


def fixed_measurement(
    runner: Runner, examples: Any, config: Any, path: Path, **options: Any
) -> Any:
    """In the place of the first measurement."""
    del runner, path
    options["on_done"](len(examples))
    graded = potential.grade(examples, {each.id: 0.5 for each in examples}, config)
    return [
        dataclasses.replace(row, group=group) for row, group in zip(graded, GROUPS, strict=True)
    ]


def test_every_order_trains_on_its_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", MICRO)  # pyright: ignore[reportArgumentType]
    asked: list[list[Request]] = []
    run = Runner.run

    def noted(runner: Runner, requests: Iterable[Request], **settings: Any) -> list[Trajectory]:
        asked.append(list(requests))
        return run(runner, asked[-1], **settings)

    monkeypatch.setattr(Runner, "run", noted)
    with RunDir.open(tmp_path, ALL_ORDERS) as directory, Sandbox(ALL_ORDERS.sandbox) as sandbox:
        for stage in ("data", "sft"):
            pipeline.run(ALL_ORDERS, directory, sandbox, only=stage)
        with monkeypatch.context() as patch:
            patch.setattr(potential, "measure", fixed_measurement)
            pipeline.run(ALL_ORDERS, directory, sandbox, only="potential")
        pipeline.run(ALL_ORDERS, directory, sandbox, only="grpo")

    def rows(order: str, split: str) -> list[GradedExample]:
        return list(datasets.load_curriculum(tmp_path / "data", split, order=order))

    everything = {row.example.id for row in rows("", "group1+group2+group3+group4")}
    assert len(everything) == 8
    # Two steps of two questions and two rollouts for each arm.
    assert [len(requests) for requests in asked] == [4] * (2 * len(ORDERS))
    for order, first in zip(ORDERS, asked[::2], strict=True):
        config = "" if order in ("curriculum", "uniform", "online") else order
        split = "group1+group2+group3+group4" if order == "uniform" else "group1"
        found = rows(config, split)
        sizes = {"uniform": 8, "curriculum": 3, "online": 3, "random_subset": 3}
        assert len(found) == sizes.get(order, 2)
        assert {request.example.id for request in first} <= {row.example.id for row in found}
        assert {row.example.id for row in rows(config, "group1+group2+group3+group4")} == everything
    assert {row.example.difficulty for row in rows("difficulty", "group1+group2")} == {1}
    # The last stage of `online` began with a measurement, of eight questions by four agents.
    costs = {
        (row["stage"], row["step"]): row["curriculum/remeasured_rollouts"]
        for row in metrics.read(tmp_path / "metrics.jsonl")
        if "curriculum/remeasured_rollouts" in row
    }
    assert costs == {("grpo_online", 2): 32}
    assert len(metrics.read(tmp_path / "remeasured.jsonl")) == 8


def test_an_order_that_samples_needs_to_know_when() -> None:
    arms = (Arm(name="grpo_online", order="online"),)

    def make(**grpo: Any) -> Experiment:
        return dataclasses.replace(EXPERIMENT, arms=arms, grpo=dataclasses.replace(GRPO, **grpo))

    with pytest.raises(UserError, match=r"order online and grpo.stages.remeasure_every = 0; set"):
        make()
    again = StageConfig(remeasure_every=5)
    assert make(stages=again).grpo.stages == again
    with pytest.raises(UserError, match=r"order online, .* and grpo.replay_rollouts"):
        make(stages=again, replay_rollouts="runs/x/rollouts")
