"""Options and run of the teachers that are not scripted: a model of ours, or an endpoint."""

import argparse
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.cli import import_conversations
from r1ci_jax.config import Experiment
from r1ci_jax.data import build, datasets
from r1ci_jax.data.demonstration_source import Report
from r1ci_jax.data.external import selection
from r1ci_jax.data.external.endpoint_config import EndpointConfig
from r1ci_jax.data.external.selection import Made, Selection
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import progress, run_dir
from r1ci_jax.runtime.progress import Progress
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.tasks.base import Example
from r1ci_jax.tools.synth.model_teacher_config import ModelTeacherConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of both teachers."""
    both = parser.add_argument_group("teachers model and endpoint")
    both.add_argument(
        "--model",
        metavar="NAME",
        help="model: a run directory, a Hugging Face directory or hub id, or a preset; endpoint: "
        "the model's name there",
    )
    both.add_argument("--samples", type=int, metavar="N", help="trajectories to a question at most")
    both.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="model: correct trajectories of a question that are collected (default 1); of more "
        "than a task takes, those with several turns are preferred (demonstrations.multi_turn)",
    )
    both.add_argument(
        "--temperatures", metavar="T,T", help="of the trajectories to a question, in a cycle"
    )
    both.add_argument("--agents", metavar="A,A", help="ways of answering (default code_agent)")
    endpoint = parser.add_argument_group("teacher endpoint")
    endpoint.add_argument("--url", help=f"address up to the version (default {EndpointConfig.url})")
    endpoint.add_argument(
        "--key-variable",
        metavar="NAME",
        help=f"variable of the environment with the key (default {EndpointConfig.key_variable}; "
        "empty: no key)",
    )
    endpoint.add_argument(
        "--token-budget", type=int, metavar="N", help="tokens that may be paid for, over all runs"
    )
    endpoint.add_argument(
        "--money-budget", type=float, metavar="X", help="money that may be spent, over all runs"
    )
    for name, what in (("prompt", "prompts"), ("answer", "answers")):
        endpoint.add_argument(
            f"--{name}-price", type=float, metavar="X", help=f"of a million tokens of {what}"
        )
    endpoint.add_argument("--concurrency", type=int, metavar="N", help="requests in flight")
    endpoint.add_argument(
        "--max-answer-tokens", type=int, metavar="N", help="tokens of one answer at most"
    )
    endpoint.add_argument(
        "--token-field",
        choices=("max_tokens", "max_completion_tokens"),
        help="name of that limit in a request",
    )
    endpoint.add_argument(
        "--no-stop", action="store_true", help="for models that do not know `stop`"
    )


type TeacherConfig = EndpointConfig | ModelTeacherConfig


def teacher_config(args: argparse.Namespace) -> TeacherConfig:
    """Return the settings of the teacher that the command line names.

    Raises:
        UserError: A setting is missing or wrong.
    """
    if args.model is None:
        raise UserError(f"--teacher {args.teacher} needs --model")
    if args.teacher == "model":
        kept = {} if args.keep is None else {"keep_per_question": args.keep}
        return ModelTeacherConfig(**_shared(args), **kept)
    names = {field.name for field in dataclasses.fields(EndpointConfig)}
    given = {
        name: value for name, value in vars(args).items() if name in names and value is not None
    }
    given |= _shared(args)
    if "samples_per_question" not in given and given.get("temperatures") == (0.0,):
        given["samples_per_question"] = 1  # it would say the same again
    return EndpointConfig(**given, send_stop=not args.no_stop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a teacher is to do, and with what."""

    model: str
    """Name of the model, here or at the endpoint."""
    config: TeacherConfig
    experiment: Experiment
    """Its limits, sampler and instructions are used."""
    examples: Sequence[Example]
    """The questions of the sft split."""
    sandbox: Sandbox
    """Runs the scripts."""
    collected: Selection
    """Takes what is kept."""
    directory: Path
    """Keeps what was asked and answered; an interrupted run continues from it."""
    report: Report


def teach(task: Task) -> Made:
    """Let the teacher answer the questions.

    Raises:
        UserError: There is no such model, or the endpoint answers nothing.
    """
    task.directory.mkdir(parents=True, exist_ok=True)
    if isinstance(task.config, EndpointConfig):
        return _ask_endpoint(task, task.config)
    return _sample_model(task, task.config)


def _ask_endpoint(task: Task, config: EndpointConfig) -> Made:
    from r1ci_jax.data.external.endpoint_client import EndpointClient
    from r1ci_jax.data.external.endpoint_teacher import EndpointTeacher

    client = EndpointClient(config, task.directory)
    try:
        teacher = EndpointTeacher(
            client=client,
            sandbox=task.sandbox,
            max_scripts=task.experiment.limits.max_code_calls,
            instructions=build.instructions(task.experiment),
        )
        return teacher.teach(task.examples, task.collected, report=task.report)
    finally:
        client.close()


def _sample_model(task: Task, config: ModelTeacherConfig) -> Made:
    # Import only now: the sandbox's fork servers are not children of a process with JAX's threads.
    import jax

    from r1ci_jax.sharding import mesh as meshes
    from r1ci_jax.tools.synth import model_teacher

    name, experiment = task.model, task.experiment
    with jax.set_mesh(meshes.from_config(experiment.mesh)):
        runner = model_teacher.open_runner(
            name, experiment, task.sandbox, seed=experiment.data_seed
        )
        # Samples of other settings are never taken for these.
        settings = (name, experiment.limits, experiment.sampler, experiment.data_seed, config)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        teacher = model_teacher.ModelTeacher(
            runner=runner,
            config=config,
            path=task.directory / f"samples_{digest}.jsonl",
            instructions=build.instructions(experiment),
        )
        return teacher.teach(task.examples, task.collected, report=task.report)


def synthesize(args: argparse.Namespace) -> int:
    """Make demonstrations of an experiment's questions: a dataset of the run, and `args.out`.

    `args` has `experiment`, `overrides`, `teacher`, `jobs`, `workdir`, `out` and `json` beside the
    options of `add_arguments`.
    """
    teacher = teacher_config(args)  # mistakes end it before questions are generated
    experiment = experiments.load(args.experiment, args.overrides)
    names = experiment.dataset.tasks
    collected = import_conversations.new_selection(experiment, args.tokenizer)
    path = args.workdir or run_dir.default_path(experiment)
    out = args.out or path / f"made_by_{args.teacher}.jsonl"
    with run_dir.RunDir.open(path, experiment):
        with Progress("questions", len(names), unit="tasks") as bar:
            build.build_questions(
                experiment, path / "data", jobs=args.jobs, report=lambda done, _: bar.update(done)
            )
        examples = list(datasets.load_examples(path / "data", names, "sft"))
        if experiment.sandbox.unsafe:
            progress.warn(UNSAFE_WARNING)
        workers = args.jobs or experiment.sandbox.workers
        config = dataclasses.replace(experiment.sandbox, workers=workers)
        with Sandbox(config) as sandbox, Progress(args.teacher, unit="steps") as bar:
            task = Task(
                model=args.model,
                config=teacher,
                experiment=experiment,
                examples=examples,
                sandbox=sandbox,
                collected=collected,
                directory=path / "teacher",
                report=_report_to(bar),
            )
            made = teach(task)
        selection.write(out, made.demonstrations)
        if made.demonstrations:
            datasets.replace_trajectories(made.demonstrations, data_dir=path / "data")
    import_conversations.show(made, out, as_json=args.json)
    return 0


def _report_to(bar: Progress) -> Report:
    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    return report


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that both teachers have."""
    given: dict[str, Any] = {}
    if args.samples is not None:
        given["samples_per_question"] = args.samples
    if args.temperatures is not None:
        given["temperatures"] = _numbers(args.temperatures)
    if args.agents is not None:
        given["agents"] = tuple(args.agents.split(","))
    return given


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part)
    except ValueError:
        raise UserError(f"--temperatures {text}: numbers with commas, such as 0.6,1.0") from None
