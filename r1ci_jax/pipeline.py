"""The stages of an experiment in order, each resumable, each skipped once it is finished.

data        questions, and the teacher's demonstrations with really executed code
sft         supervised fine-tuning
potential   improvement potential of the GRPO questions; its groups become TFDS splits
grpo        two trainings from the SFT model: over the curriculum, and uniformly
eval        untrained, SFT and both GRPO models on questions never trained on
table       the comparison as Markdown
report      one HTML file
"""

import contextlib
import dataclasses
import zlib
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from r1ci_jax.config import Experiment, MeshConfig
from r1ci_jax.curriculum import potential, stages
from r1ci_jax.data import build, datasets, encoding
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import evaluation, tables
from r1ci_jax.model import presets
from r1ci_jax.rollout import summaries
from r1ci_jax.rollout.replay import Replay
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.runtime import hosts, metrics, preemption, progress
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chatml, prompts, protocol
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.tools.report import page
from r1ci_jax.train import checkpoint, grpo, policy, sft
from r1ci_jax.train.policy import LoadedPolicy, Params, Weights
from r1ci_jax.train.training_run import TrainingRun

ARMS = ("grpo_curriculum", "grpo_uniform")
"""The two GRPO trainings, by the name of their model in results.jsonl."""
MODELS = ("untrained", "sft", *ARMS)

# Salts that keep the random numbers of the stages apart.
_SEED_SFT, _SEED_POTENTIAL, _SEED_GRPO, _SEED_EVAL = range(1, 5)


@dataclasses.dataclass
class Run:
    """One run in progress: what the stages share."""

    experiment: Experiment
    directory: RunDir
    sandbox: Sandbox
    _policy: LoadedPolicy | None = None

    def seed(self, salt: int) -> int:
        """Seed of a stage."""
        return self.experiment.seed * 100 + salt

    @property
    def instructions(self) -> str:
        """Instructions before each question."""
        return build.instructions(self.experiment)

    @property
    def data_dir(self) -> Path:
        """Where the run's TFDS datasets lie."""
        return self.directory.path / "data"

    @property
    def tokenizer_dir(self) -> Path:
        """Where the run's own tokenizer lies."""
        return self.directory.path / "tokenizer"

    def policy(self) -> LoadedPolicy:
        """Load the policy, its untrained weights and its tokenizer, once."""
        if self._policy is None:
            self._policy = policy.load(self.experiment, self.tokenizer_dir)
        return self._policy

    def check_model(self) -> None:
        """Say now, not after the data are made, that the model cannot be had."""
        source = self.experiment.model
        if source.checkpoint or source.tokenizer:
            self.policy()
            return
        if source.tokenizer_vocab > presets.get(source.preset).vocab_size:
            raise UserError(
                f"model.tokenizer_vocab = {source.tokenizer_vocab} is more than the "
                f"{presets.get(source.preset).vocab_size} embeddings of {source.preset}; lower it"
            )

    def check_prompt_lengths(self) -> None:
        """Say now, not after supervised fine-tuning, that a question does not fit the cache."""
        tokenizer = self.policy().tokenizer
        room = self.experiment.sampler.cache_length
        for example in self.load_examples("grpo+eval"):
            for agent in prompts.AGENT_NAMES:
                turn = prompts.render_question(
                    example.question, agent, instructions=self.instructions
                )
                size = len(chatml.prompt_ids(tokenizer, turn))
                if size >= room:
                    raise UserError(
                        f"the prompt of {example.id} has {size} tokens and does not fit into "
                        f"sampler.cache_length = {room}; raise it or ask shorter questions"
                    )

    def load_weights(self, model: str) -> Params:
        """Final weights of a model by its name in results.jsonl."""
        params = self.policy().params
        if model == "untrained":
            return params
        loaded, _ = checkpoint.load_params(
            self.directory.checkpoints / model / "final", checkpoint.abstract(params)
        )
        return loaded

    def save_weights(self, model: str, params: Params) -> None:
        """Write the final weights of a model."""
        checkpoint.save_params(self.directory.checkpoints / model / "final", params)

    def make_runner(self, salt: int) -> Runner:
        """A runner without weights."""
        chosen, _, tokenizer = self.policy()
        table = stop_automaton.token_table(protocol.stop_machine(), tokenizer.token_bytes())
        engine = Engine(
            chosen.config,
            self.experiment.sampler,
            table,
            eos_id=tokenizer.eos_id,
            seed=self.seed(salt),
        )
        return Runner(
            engine,
            self.sandbox,
            tokenizer,
            self.experiment.limits,
            instructions=self.instructions,
            turn_penalty_after=self.experiment.grpo.turn_penalty_after,
        )

    def load_into(self, runner: Runner, params: Params) -> None:
        """Let the runner sample from these weights."""
        policy = self.policy().policy
        runner.load(policy.to_sampler_weights(Weights(params), runner.sampler))

    def load_examples(self, split: str) -> list[Example]:
        """Questions of a split of `r1ci_tasks`."""
        return list(datasets.load_examples(self.data_dir, self.experiment.dataset.tasks, split))


def make_data(run: Run) -> None:
    """Questions of all splits, demonstrations, and the run's own tokenizer."""
    tasks = len(run.experiment.dataset.tasks)
    with progress.Progress("data", tasks, unit="tasks") as bar:
        build.build_questions(run.experiment, run.data_dir, report=_report_to(bar))
    with progress.Progress("demonstrations", unit="scripts") as bar:
        build.build_demonstrations(
            run.experiment,
            run.data_dir,
            run.sandbox,
            report=_report_to(bar),
        )
    source = run.experiment.model
    if not source.tokenizer and not source.checkpoint:
        # Also where there is one: a killed run may have written half of it.
        texts = encoding.iterate_texts(datasets.load_trajectories(run.data_dir))
        tokenizers.train_byte_bpe(texts, source.tokenizer_vocab).save(run.tokenizer_dir)
    run.check_prompt_lengths()
    if hosts.count() > 1:
        hosts.require_same("the data", _checksums(run.directory.path))


def _checksums(directory: Path) -> dict[str, int]:
    """Of every file of rows, and of the tokenizer."""
    found = [*directory.glob("data/**/*.array_record*"), *directory.glob("tokenizer/*")]
    return {str(path.relative_to(directory)): zlib.crc32(path.read_bytes()) for path in found}


def _report_to(bar: progress.Progress) -> Callable[[int, int], None]:
    """Shows how many of the data are there; between two of them the run may be stopped."""

    def report(done: int, total: int) -> None:
        bar.update(done)
        preemption.raise_if_preempted_locally()

    return report


def train_sft(run: Run) -> None:
    """Supervised fine-tuning."""
    config = run.experiment.sft
    chosen, params, tokenizer = run.policy()
    rows = encoding.encode_all(
        datasets.load_trajectories(run.data_dir),
        tokenizer,
        sequence_length=config.sequence_length,
        max_observation_tokens=run.experiment.limits.max_observation_tokens,
    )
    trained = sft.train(
        chosen,
        jax.tree.map(jnp.copy, params),  # the trainer uses its argument up
        rows,
        config,
        TrainingRun.in_directory(run.directory, "sft", seed=run.seed(_SEED_SFT)),
        pad_id=tokenizer.pad_id,
    )
    run.save_weights("sft", trained)


def measure_potential(run: Run) -> None:
    """Potential of every GRPO question under the SFT model, and the curriculum's splits."""
    examples = run.load_examples("grpo")
    _keep_common_records(run.directory.potential_path, ("example_id",))
    runner = run.make_runner(_SEED_POTENTIAL)
    run.load_into(runner, run.load_weights("sft"))
    with progress.Progress("potential", len(examples), unit="questions") as bar:
        with bar.compiling("sampler", about=15):
            runner.warm_up()
        graded = potential.measure(
            runner,
            examples,
            run.experiment.potential,
            run.directory.potential_path,
            on_done=bar.update,
        )
        groups = range(1, len(run.experiment.potential.lower_bounds) + 2)
        sizes = {group: sum(row.group == group for row in graded) for group in groups}
        bar.note("questions a group: " + ", ".join(f"{g}: {n}" for g, n in sizes.items()))
    datasets.build_curriculum(graded, data_dir=run.data_dir)
    mean = sum(row.potential for row in graded) / len(graded)
    with metrics.MetricsWriter(run.directory.metrics_path) as writer:
        facts = {f"curriculum/group{group}": size for group, size in sizes.items()}
        writer.truncate_after("potential", 0)
        writer.write("potential", 1, facts | {"curriculum/potential_mean": mean})


def train_grpo(run: Run) -> None:
    """Reinforcement learning from the SFT model, with the curriculum and without."""
    config = run.experiment.grpo
    chosen, _, tokenizer = run.policy()
    sizes = {
        group: len(datasets.load_curriculum(run.data_dir, f"group{group}"))
        for group in range(1, len(config.steps_per_stage) + 1)
    }
    plans = {
        "grpo_curriculum": stages.curriculum_stages(config.steps_per_stage, sizes),
        "grpo_uniform": stages.uniform_stages(config.steps_per_stage),
    }
    for arm in ARMS:
        trained = grpo.train(
            chosen,
            run.load_weights("sft"),
            tokenizer,
            plans[arm],
            lambda split: [row.example for row in datasets.load_curriculum(run.data_dir, split)],
            _rollout_source(run, arm),
            config,
            TrainingRun.in_directory(run.directory, arm, seed=run.seed(_SEED_GRPO)),
        )
        run.save_weights(arm, trained)


def _rollout_source(run: Run, arm: str) -> TrajectorySource:
    """Where a training's trajectories come from."""
    replayed = run.experiment.grpo.replay_rollouts
    return Replay(Path(replayed) / arm) if replayed else run.make_runner(_SEED_GRPO)


def evaluate_models(run: Run) -> None:
    """Accuracy of every model on held-out questions; models with results are not asked again."""
    examples = run.load_examples("eval")
    tokenizer = run.policy().tokenizer
    runner = run.make_runner(_SEED_EVAL)
    tasks = set(run.experiment.dataset.tasks)
    _keep_common_records(run.directory.results_path, ("model", "task"))
    with (
        metrics.JsonlLog(run.directory.results_path) as results,
        metrics.JsonlLog(run.directory.trajectories_path) as trajectory_log,
    ):
        for model in MODELS:
            rows = metrics.read(run.directory.results_path)
            if tasks <= {row["task"] for row in rows if row["model"] == model}:
                continue
            # A killed run may have written the rows of some tasks.
            results.keep(lambda row, model=model: row["model"] != model)
            stage = f"eval_{model}"
            trajectory_log.truncate_after(stage, 0)
            run.load_into(runner, run.load_weights(model))
            total = len(examples) * run.experiment.eval.samples_per_question
            with progress.Progress(stage, total, unit="questions") as bar:
                trajectories = evaluation.evaluate(
                    runner, examples, run.experiment.eval, on_done=bar.update
                )
            for kept in summaries.sample_by_reward(trajectories, 12):
                trajectory_log.append(summaries.to_record(kept, tokenizer, stage=stage, step=1))
            for row in evaluation.make_records(model, trajectories, examples):
                results.append(row)


def _keep_common_records(path: Path, names: Sequence[str]) -> None:
    """Drop rows that a lost run has left on some hosts and not on others; `names` tell rows."""
    present = [[row[name] for name in names] for row in metrics.read(path)]
    everywhere = hosts.gather(path.name, present)
    with metrics.JsonlLog(path) as log:
        log.keep(lambda row: all([row[name] for name in names] in rows for rows in everywhere))


def write_tables(run: Run) -> None:
    """Markdown tables of the run."""
    tables.write_results(run.directory.path)


def write_report(run: Run) -> None:
    """The HTML report."""
    page.write(run.directory.path)


STAGES: dict[str, Callable[[Run], None]] = {
    "data": make_data,
    "sft": train_sft,
    "potential": measure_potential,
    "grpo": train_grpo,
    "eval": evaluate_models,
    "table": write_tables,
    "report": write_report,
}

MODEL_STAGES = {"sft", "potential", "grpo", "eval"}
"""Stages that need the model."""


def run(
    experiment: Experiment, directory: RunDir, sandbox: Sandbox, *, only: str | None = None
) -> None:
    """Run the unfinished stages in order, or one stage alone (which makes its data first).

    Raises UserError when `only` names a stage whose predecessors are not finished.
    """
    names = list(STAGES)
    # What one host has not finished, none has: they go through every stage together.
    finished = set.intersection(*map(set, hosts.gather("stages", [*directory.finished_stages()])))
    if only is not None:
        _require_finished(names[1 : names.index(only)], only, finished)
        names = ["data", only]
    names = [name for name in names if name not in finished]
    with _mesh(experiment.mesh):
        state = Run(experiment, directory, sandbox)
        if "data" in names and not datasets.is_built(state.data_dir, "r1ci_trajectories"):
            build.require_demonstrations(experiment)
        if set(names) & MODEL_STAGES:
            state.check_model()
        for name in names:
            preemption.raise_if_preempted()
            if experiment.sandbox.unsafe:
                progress.warn(f"{name}: {UNSAFE_WARNING}")
            STAGES[name](state)
            directory.mark_finished(name)


def _require_finished(names: Sequence[str], wanted: str, finished: Set[str]) -> None:
    missing = [name for name in names if name not in finished]
    if missing:
        raise UserError(
            f"stage {wanted} needs {missing[0]} first: run `r1ci {missing[0]}`, or `r1ci run` for "
            "all, on the same experiment and workdir"
        )


def _mesh(config: MeshConfig) -> contextlib.AbstractContextManager[Any]:
    """The mesh of all devices; one device needs none.

    Several hosts always have more: each would train a model of its own, to the first checkpoint.
    """
    if config.num_devices == 1 and hosts.count() == 1:
        return contextlib.nullcontext()
    return jax.set_mesh(meshes.from_config(config))
