"""The model that is evaluated: found by its name at once, loaded when a question is open."""

import dataclasses
import functools
from pathlib import Path

from r1ci_jax.model.hf import hf_config
from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tools.model_evaluation import (
    checkpoint_defaults,
    evaluation_settings,
    weights_fingerprint,
)
from r1ci_jax.tools.model_evaluation.checkpoint_defaults import CheckpointDefaults
from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices, EvaluationSettings
from r1ci_jax.train import load_model
from r1ci_jax.train.load_model import SamplerModel


def make_runner(model: SamplerModel, settings: EvaluationSettings, sandbox: Sandbox) -> Runner:
    """Return a runner that samples from the model."""
    engine = runners.make_engine(
        model.config, settings.sampler, model.tokenizer, seed=settings.seed
    )
    runner = Runner(
        engine,
        sandbox,
        model.tokenizer,
        settings.limits,
        instructions=settings.instructions,
        system=settings.system,
    )
    runner.load(model.weights)
    return runner


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """A published model, or one that a run has trained."""

    path: str
    """What `load_model.load_published` takes, or a run directory."""
    run: RunDir | None
    trained: str | None = None
    """Model of the run; None: the newest."""

    def settings(self, choices: Choices) -> EvaluationSettings:
        """Complete the user's choices by what fits the model.

        Raises:
            UserError: There is no such model, or a choice is impossible.
        """
        if self.run is not None:
            name = load_model.trained_name(self.run, self.trained)
            return evaluation_settings.for_run(
                self.run,
                name,
                choices,
                max_positions=load_model.architecture_of_run(self.run).max_positions,
                weights=weights_fingerprint.of_file(
                    Path(self.run.checkpoints / name / "final" / "step.json")
                ),
            )
        directory = self._directory
        positions = hf_config.parse(hf_config.read_json(directory), directory).max_positions
        return evaluation_settings.for_published(
            self.path,
            choices,
            max_positions=positions,
            defaults=self._defaults,
            weights=weights_fingerprint.of_checkpoint(directory),
        )

    def deviations(self, settings: EvaluationSettings) -> list[str]:
        """List what the checkpoint asks for and is not done, a sentence each."""
        if self.run is not None:
            return []
        defaults, found = self._defaults, []
        own, used = (dataclasses.asdict(s) for s in (defaults.sampling, settings.eval.sampling))
        replaced = [f"{name} {value:g}" for name, value in own.items() if value != used[name]]
        if defaults.has_sampling and replaced:
            found.append(f"its own sampling has {', '.join(replaced)}")
        if settings.system != defaults.system:
            found.append(f"its own system message is {defaults.system!r}")
        return [*defaults.deviations, *found]

    def load(self, settings: EvaluationSettings) -> SamplerModel:
        """Load the model. It is not kept: a runner may need the memory for another layout."""
        if self.run is not None:
            return load_model.load_sampler_from_run(
                self.run, settings.trained, settings.sampler.dtype
            )
        return load_model.load_published(self.path, settings.sampler.dtype)

    @functools.cached_property
    def _defaults(self) -> CheckpointDefaults:
        return checkpoint_defaults.read(self._directory)

    @functools.cached_property
    def _directory(self) -> Path:
        return load_model.published_directory(self.path)
