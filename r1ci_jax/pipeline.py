"""The method: the stages of an experiment in order.

data        questions, and demonstrations whose code is really executed
sft         supervised fine-tuning on the demonstrations
potential   improvement potential of the GRPO questions; its groups become TFDS splits
grpo        one training per arm of the experiment, all from the SFT model
eval        accuracy of the untrained model, the SFT model and every arm on held-out questions
table       the comparison as Markdown
report      one HTML file

Each stage is resumable, and skipped once it is finished.
"""

import contextlib
import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import jax

from r1ci_jax.config import Arm, Experiment, GrpoConfig, MeshConfig
from r1ci_jax.curriculum import online, orders, potential, stages
from r1ci_jax.curriculum.online import OnlineGroups
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.data import build, datasets, encoding
from r1ci_jax.data.records import GradedExample
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import evaluation, tables
from r1ci_jax.model import presets
from r1ci_jax.rollout import agents, summaries
from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout.replay import Replay
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import hosts, metrics, preemption, progress
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.runtime.sinks import metric_sinks
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chatml, prompts
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.tools.report import page
from r1ci_jax.train import checkpoint, grpo, sft
from r1ci_jax.train import policy as policies
from r1ci_jax.train.policy import LoadedPolicy, Params, Weights
from r1ci_jax.train.training_run import TrainingRun

STAGE_SEEDS = {"sft": 1, "potential": 2, "grpo": 3, "eval": 4}
"""Offsets that keep the random streams of the stages apart."""

LOGGED_EVALUATION_TRAJECTORIES = 12
"""About this many trajectories of each evaluated model and agent are logged."""


@dataclasses.dataclass(frozen=True)
class Run:
    """State that the stages share: the experiment, its files, the sandbox and the policy."""

    experiment: Experiment
    directory: RunDir
    sandbox: Sandbox
    sinks: Sequence[metrics.Follower] = ()
    """Other places that get the metrics."""

    @functools.cached_property
    def loaded(self) -> LoadedPolicy:
        """The policy and its tokenizer, loaded once; weights stay nowhere but in their stage."""
        return policies.load(self.experiment, self.directory.tokenizer)

    def seed(self, stage: str) -> int:
        """Return the seed of a stage."""
        return self.experiment.seed * 100 + STAGE_SEEDS[stage]

    def load_examples(self, split: str) -> list[Example]:
        """Load the questions of a split of `r1ci_tasks`."""
        tasks = self.experiment.dataset.tasks
        return list(datasets.load_examples(self.directory.data, tasks, split))

    def load_weights(self, model: str) -> Params:
        """Load the final weights of a model by its name in results.jsonl."""
        policy = self.loaded.policy
        if model == "untrained":
            return policies.load_untrained(self.experiment, policy)
        path = self.directory.checkpoints / model / "final"
        return checkpoint.load_params(path, policy.abstract_params)[0]

    def save_weights(self, model: str, params: Params) -> None:
        """Save the final weights of a model."""
        checkpoint.save_params(self.directory.checkpoints / model / "final", params)

    def training(self, name: str, *, seed: int) -> TrainingRun:
        """Return the files and sinks of a training."""
        return TrainingRun.in_directory(self.directory, name, seed=seed, sinks=self.sinks)

    def make_runner(self, stage: str, *, grpo: GrpoConfig | None = None) -> Runner:
        """Make a stage's runner, without weights; `grpo` are the settings of its arm."""
        grpo = grpo or self.experiment.grpo
        policy, tokenizer = self.loaded
        sampler = self.experiment.sampler
        return Runner(
            runners.make_engine(policy.config, sampler, tokenizer, seed=self.seed(stage)),
            self.sandbox,
            tokenizer,
            self.experiment.limits,
            instructions=build.instructions(self.experiment),
            reward_config=grpo.reward,
            turn_penalty_after=grpo.turn_penalty_after,
        )

    def load_into(self, runner: Runner, model: str) -> None:
        """Let a runner sample from the weights of a model."""
        weights = Weights(self.load_weights(model))
        runner.load(self.loaded.policy.to_sampler_weights(weights, runner.sampler))


# --- data ----------------------------------------------------------------------------------------


def make_data(run: Run) -> None:
    """Build the questions of all splits, the demonstrations, and the run's own tokenizer."""
    experiment, data_dir = run.experiment, run.directory.data
    with progress.Progress("data", len(experiment.dataset.tasks), unit="tasks") as bar:
        build.build_questions(experiment, data_dir, report=_report_to(bar))
    with progress.Progress("demonstrations", unit="scripts") as bar:
        build.build_demonstrations(experiment, data_dir, run.sandbox, report=_report_to(bar))
    source = experiment.model
    if not source.tokenizer and not source.checkpoint:
        # Also where there is one: a killed run may have written half of it.
        texts = encoding.iterate_texts(datasets.load_trajectories(data_dir))
        tokenizers.train_byte_bpe(texts, source.tokenizer_vocab).save(run.directory.tokenizer)
    check_splits(run)
    check_prompt_lengths(run)
    if hosts.count() > 1:
        hosts.require_same("the data", _checksums(run.directory.path))


def check_model(run: Run) -> None:
    """Refuse a model that cannot be loaded before any data are made."""
    source = run.experiment.model
    if source.checkpoint or source.tokenizer:
        _ = run.loaded
        return
    vocab_size = presets.get(source.preset).vocab_size
    if source.tokenizer_vocab > vocab_size:
        raise UserError(
            f"model.tokenizer_vocab = {source.tokenizer_vocab} is more than the {vocab_size} "
            f"embeddings of {source.preset}; lower it"
        )


def check_splits(run: Run) -> None:
    """Refuse splits without a question before any training: tasks may have too few for three."""
    for split in ("grpo", "eval") if run.experiment.arms else ("eval",):
        if not run.load_examples(split):
            raise UserError(
                f"the split {split!r} has no question, for the tasks have too few different ones; "
                f"lower dataset.*_per_task of the other splits, or add tasks to dataset.tasks"
            )


def check_prompt_lengths(run: Run) -> None:
    """Refuse questions that do not fit into the cache before any training."""
    tokenizer = run.loaded.tokenizer
    instructions = build.instructions(run.experiment)
    cache_length = run.experiment.sampler.cache_length
    asking = agents.get_all((*prompts.AGENT_NAMES, *run.experiment.agents))
    for example in run.load_examples("grpo+eval"):
        for agent in asking:
            before = prompts.instructions_of(agent.name, instructions)
            text = before + example.question + agent.hint
            size = len(chatml.prompt_ids(tokenizer, text))
            if size >= cache_length:
                raise UserError(
                    f"the prompt of {example.id} has {size} tokens and does not fit into "
                    f"sampler.cache_length = {cache_length}; raise it or use shorter questions"
                )


def _checksums(directory: Path) -> dict[str, int]:
    """Compute the checksum of every file of records, and of the tokenizer's."""
    found = [*directory.glob("data/**/*.array_record*"), *directory.glob("tokenizer/*")]
    return {str(path.relative_to(directory)): zlib.crc32(path.read_bytes()) for path in found}


def _report_to(bar: progress.Progress) -> Callable[[int, int], None]:
    """Return a callback that shows the number of finished items, and stops after a preemption."""

    def report(done: int, total: int) -> None:
        bar.update(done)
        preemption.raise_if_preempted_locally()

    return report


# --- sft -----------------------------------------------------------------------------------------


def train_sft(run: Run) -> None:
    """Fine-tune the policy on the demonstrations."""
    config = run.experiment.sft
    policy, tokenizer = run.loaded
    sequences = encoding.encode_all(
        datasets.load_trajectories(run.directory.data),
        tokenizer,
        sequence_length=config.sequence_length,
        limits=run.experiment.limits,
        learn_observations=config.learn_observations,
    )
    trained = sft.train(
        policy,
        run.load_weights("untrained"),
        sequences,
        config,
        run.training("sft", seed=run.seed("sft")),
        pad_id=tokenizer.pad_id,
    )
    run.save_weights("sft", trained)


# --- potential -----------------------------------------------------------------------------------


def measure_potential(run: Run) -> None:
    """Measure the potential of every GRPO question, and group the questions by it."""
    config, path = run.experiment.potential, run.directory.potential_path
    examples = run.load_examples("grpo")
    _keep_common_records(path, ("example_id",))
    runner = run.make_runner("potential")
    run.load_into(runner, "sft")
    with progress.Progress("potential", len(examples), unit="questions") as bar:
        with bar.compiling("sampler", about=15):
            runner.warm_up()
        graded = potential.measure(runner, examples, config, path, on_done=bar.update)
        facts = online.group_metrics(graded, config)
        sizes = [(n.removeprefix("curriculum/group"), x) for n, x in facts.items() if "/group" in n]
        bar.note("questions per group: " + ", ".join(f"{g}: {n}" for g, n in sizes))
    datasets.build_curriculum(graded, data_dir=run.directory.data)
    with metrics.MetricsWriter(run.directory.metrics_path, run.sinks) as writer:
        writer.truncate_after("potential", 0)
        writer.write("potential", 1, facts)


# --- grpo ----------------------------------------------------------------------------------------


def train_grpo(run: Run) -> None:
    """Train every arm by reinforcement learning."""
    for arm in run.experiment.arms:
        run.save_weights(arm.name, train_arm(run, arm))


def train_arm(run: Run, arm: Arm) -> Params:
    """Train one arm, from its last checkpoint if there is one."""
    policy, tokenizer = run.loaded
    config = run.experiment.grpo_of(arm)
    source = _rollout_source(run, arm)
    online_groups = None
    if arm.order == "online" and isinstance(source, Runner):
        online_groups = _make_online_groups(run, arm, source)
    return grpo.train(
        policy,
        run.load_weights(arm.start),
        tokenizer,
        plan_stages(run, arm),
        functools.partial(_load_questions, run, arm),
        source,
        config,
        run.training(arm.name, seed=run.seed("grpo")),
        online=online_groups,
        grades=_load_grades(run),
    )


def plan_stages(run: Run, arm: Arm) -> list[Stage]:
    """Lay out the stages of an arm over the groups of its order, and store those groups."""
    config = run.experiment.grpo_of(arm)
    steps, data_dir = config.steps_per_stage, run.directory.data
    if arm.order == "uniform":
        return stages.uniform_stages(steps, has_borders=config.stages.changes_at_borders)
    groups = range(1, len(steps) + 1)
    if not orders.keeps_groups(arm.order):
        graded = _load_graded(run)
        grouped = orders.regroup(arm.order, graded, num_groups=len(steps), seed=run.seed("grpo"))
        datasets.build_curriculum(grouped, data_dir=data_dir, order=arm.order)
    sizes = {group: len(_load_questions(run, arm, f"group{group}")) for group in groups}
    return stages.curriculum_stages(steps, sizes)


def _load_graded(run: Run) -> list[GradedExample]:
    """Load all questions with their potential, group after group."""
    groups = range(1, len(run.experiment.potential.lower_bounds) + 2)
    return list(datasets.load_curriculum(run.directory.data, stages.group_split(groups)))


def _load_grades(run: Run) -> dict[str, GradedExample]:
    """Load the questions of all potential groups, by id."""
    return {each.example.id: each for each in _load_graded(run)}


def _load_questions(run: Run, arm: Arm, split: str) -> list[Example]:
    """Load the questions of some groups of an arm's order, for example group1+group2."""
    order = "" if orders.keeps_groups(arm.order) else arm.order
    found = datasets.load_curriculum(run.directory.data, split, order=order)
    return [each.example for each in found]


def _rollout_source(run: Run, arm: Arm) -> Runner | Replay:
    """Return a runner, or the dumped rollouts that the arm replays."""
    config = run.experiment.grpo_of(arm)
    if config.replay_rollouts:
        return Replay(Path(config.replay_rollouts) / arm.name)
    return run.make_runner("grpo", grpo=config)


def _make_online_groups(run: Run, arm: Arm, runner: Runner) -> OnlineGroups:
    """Make the groups of an arm that measures them again."""
    path = run.directory.remeasured_path
    _keep_common_records(path, ("arm", "step", "example_id"))
    return OnlineGroups(
        runner,
        _load_graded(run),
        run.experiment.potential,
        arm=arm.name,
        every=run.experiment.grpo_of(arm).stages.remeasure_every,
        path=path,
    )


# --- eval ----------------------------------------------------------------------------------------


def evaluate_models(run: Run) -> None:
    """Evaluate every model on held-out questions; questions that have an answer are skipped."""
    runner = run.make_runner("eval")
    _keep_common_records(run.directory.evaluation_path, ("model", "agent", "example_id"))
    _keep_common_records(run.directory.results_path, ("model", "task"))
    for model in run.experiment.models:
        evaluate_model(run, runner, model)


def evaluate_model(run: Run, runner: Runner, model: str) -> None:
    """Evaluate one model: its accuracy per agent and task, and a few of its trajectories."""
    examples, path = run.load_examples("eval"), run.directory.evaluation_path
    if not evaluation.is_complete(path, model, run.experiment.eval, examples):
        _answer_questions(run, runner, model, examples)
    records = evaluation.make_records(model, evaluation.read(path, model), examples)
    evaluation.write_records(run.directory.results_path, model, records)


def _answer_questions(run: Run, runner: Runner, model: str, examples: Sequence[Example]) -> None:
    """Let a model answer the questions that it has not answered yet; log a few trajectories."""
    config, stage = run.experiment.eval, f"eval_{model}"
    run.load_into(runner, model)
    block_size = evaluation.questions_per_block(config, runner.sampler.slots)
    num_blocks = evaluation.blocks_per_agent(len(examples), block_size)
    num_logged = math.ceil(LOGGED_EVALUATION_TRAJECTORIES / num_blocks)

    def log_some(block: int, trajectories: Sequence[Trajectory]) -> None:
        trajectory_log.truncate_after(stage, block - 1)
        for each in summaries.sample_by_reward(trajectories, num_logged):
            trajectory_log.append(
                summaries.to_record(each, runner.tokenizer, stage=stage, step=block)
            )

    total = len(examples) * config.samples_per_question * len(config.agents)
    with (
        metrics.JsonlLog(run.directory.trajectories_path) as trajectory_log,
        progress.Progress(stage, total, unit="questions") as bar,
    ):
        evaluation.evaluate(
            runner,
            examples,
            config,
            run.directory.evaluation_path,
            model=model,
            block_size=block_size,
            on_done=bar.update,
            on_block=log_some,
        )


def _keep_common_records(path: Path, keys: Sequence[str]) -> None:
    """Drop records that a lost run has left on some hosts only; `keys` tell records apart."""
    fields = dict.fromkeys(keys, (str, int))
    present = [[record[key] for key in keys] for record in metrics.read(path, required=fields)]
    everywhere = hosts.gather(path.name, present)
    with metrics.JsonlLog(path) as log:
        log.keep(lambda record: all([record[key] for key in keys] in each for each in everywhere))


# --- table, report -------------------------------------------------------------------------------


def write_tables(run: Run) -> None:
    """Write the tables of the run as Markdown."""
    tables.write_results(run.directory.path)


def write_report(run: Run) -> None:
    """Write the HTML report."""
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


# --- all stages ----------------------------------------------------------------------------------


def run(
    experiment: Experiment, directory: RunDir, sandbox: Sandbox, *, only: str | None = None
) -> None:
    """Run the unfinished stages in order, or one stage alone (which makes its data first).

    Raises:
        UserError: `only` names a stage whose predecessors are not finished.
    """
    names = list(STAGES)
    # A stage that one host has not finished is repeated by all: they pass every stage together.
    finished = set.intersection(*map(set, hosts.gather("stages", [*directory.finished_stages()])))
    if only is not None:
        _require_finished(names[1 : names.index(only)], only, finished)
        names = ["data", only]
    names = [name for name in names if name not in finished]
    facts = metric_sinks.RunFacts(directory.path, experiment.name, directory.config["experiment"])
    with (
        _mesh(experiment.mesh),
        metric_sinks.opened(experiment.sinks, facts, directory.metrics_path) as sinks,
    ):
        state = Run(experiment, directory, sandbox, sinks)
        if "data" in names and not datasets.is_built(directory.data, "r1ci_trajectories"):
            build.require_demonstrations(experiment)
        if set(names) & MODEL_STAGES:
            check_model(state)
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
    """Set the experiment's mesh; several hosts always have more than one device."""
    return jax.set_mesh(meshes.from_config(config))
