"""Every knob of an experiment, as frozen dataclasses.

An experiment file returns one `Experiment`; `r1ci run FILE --config.sft.lr=1e-3` overrides one
field. A knob that a single experiment needs belongs into that experiment's file, not here.
"""

import dataclasses
from typing import Literal, get_args

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.settings import SandboxConfig

Quantization = Literal["none", "int8"]
"""How the sampler holds an array: as it comes, or in eight bits with scales."""
Dtype = Literal["float32", "bfloat16"]
Attention = Literal["auto", "dense", "blocked", "splash"]
Remat = Literal["none", "dots", "attention", "layer"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Where the policy comes from."""

    preset: str = "toy"
    """Architecture by name (see r1ci_jax/model/presets.py), initialised at random."""
    checkpoint: str = ""
    """Hugging Face directory or hub id; when set, it decides architecture and weights."""
    architecture: str = ""
    """The preset whose sizes the checkpoint must have: known to `r1ci plan` without a download.
    Empty: the checkpoint may have any."""
    tokenizer: str = ""
    """Directory or hub id of a tokenizer. Empty: a byte-level BPE trained on the run's own data."""
    tokenizer_vocab: int = 512
    """Vocabulary of the byte-level BPE, special tokens included."""

    def __post_init__(self) -> None:
        _require(
            not self.architecture or bool(self.checkpoint),
            "model.architecture says what a checkpoint must have, and model.checkpoint is empty; "
            "name a checkpoint, or set model.preset instead",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Which questions are asked, and how many of each task in each split."""

    tasks: tuple[str, ...] = ()
    """Names from the task registry. Those for training are also evaluated on, those for testing
    (`r1ci tasks list`) are only evaluated on."""
    difficulties: tuple[int, ...] = (1, 2, 3)
    """Difficulty levels, mixed evenly."""
    sft_per_task: int = 70
    """Questions a task that the teacher answers (paper: at most 70 trajectories a task stay)."""
    grpo_per_task: int = 50
    """Questions a task for reinforcement learning, disjoint from the supervised ones."""
    eval_per_task: int = 40
    """Held-out questions a task."""

    def __post_init__(self) -> None:
        _require(
            len(self.tasks) > 0,
            "dataset.tasks is empty: name at least one task (r1ci tasks list)",
        )
        for name in ("sft_per_task", "grpo_per_task", "eval_per_task"):
            _require(getattr(self, name) > 0, f"questions.{name} must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemonstrationConfig:
    """Where demonstrations come from, and what the scripted teacher shows.

    Shares are weights: they need not sum to one. The scripted teacher knows the toy tasks.
    """

    path: str = ""
    """Demonstrations made elsewhere, in place of the scripted teacher's: a file of JSON lines or
    its URL, see docs/demonstrations.md."""
    code_agent: float = 0.7
    """Free choice of text and code."""
    all_text: float = 0.1
    """Told to answer without code."""
    all_code: float = 0.1
    """Told to answer with code."""
    codesteer: float = 0.1
    """A first answer, then the request to check it with code."""
    code: float = 0.55
    """Among code_agent: one script, then the answer."""
    repair: float = 0.10
    """Among code_agent: a script that raises (shown, not learnt), then its repair."""
    check: float = 0.10
    """Among code_agent: a script, a second one that checks the result, then the answer."""
    direct: float = 0.25
    """Among code_agent: the answer without any script."""
    wrong_first: float = 0.5
    """Among codesteer: the first answer is wrong (shown, not learnt)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """The slot sampler."""

    slots: int = 64
    """Rows decoded together."""
    cache_length: int = 256
    """Tokens a row can hold: prompt, completion and observations."""
    chunk_steps: int = 16
    """Decode steps between two looks by the host."""
    prefill_buckets: tuple[int, ...] = (16, 32, 64, 128)
    """Lengths to which prompts and observations are padded; a longer input takes several passes."""
    prefill_rows: int = 16
    """Rows of one prefill call."""
    observation_lag: int = 1
    """Chunks that the other rows decode between a pause and its observation's entry. Scripts should
    take about as long: a shorter lag waits for them, a longer one leaves their slots empty."""
    dtype: Dtype = "float32"
    """Of weights, activations, and a cache that is held in full."""
    weight_quantization: Quantization = "none"
    """"int8": every matrix in eight bits, one factor an output channel; norms and biases stay."""
    cache_quantization: Quantization = "none"
    """"int8": keys and values in eight bits, one factor a slot, head and position."""

    def __post_init__(self) -> None:
        for name in ("slots", "chunk_steps", "prefill_rows", "observation_lag"):
            _require(getattr(self, name) > 0, f"sampler.{name} must be positive")
        for name, choices in (
            ("dtype", Dtype),
            ("weight_quantization", Quantization),
            ("cache_quantization", Quantization),
        ):
            _require(
                getattr(self, name) in get_args(choices),
                f"sampler.{name} must be one of {', '.join(get_args(choices))}",
            )
        _require(
            tuple(sorted(self.prefill_buckets)) == self.prefill_buckets
            and self.prefill_buckets[0] > 0,
            "sampler.prefill_buckets must be positive and ascending",
        )
        _require(
            self.prefill_buckets[-1] <= self.cache_length,
            "sampler.prefill_buckets holds a bucket longer than sampler.cache_length",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. The filters apply in this order, after the temperature."""

    temperature: float = 1.0
    """0 takes the most likely token."""
    top_k: int = 0
    """Keep so many of the most likely tokens, and those that tie with the last; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest most likely tokens whose probabilities reach this sum."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the most likely one."""

    def __post_init__(self) -> None:
        _require(self.temperature >= 0, "temperature must not be negative")
        _require(self.top_k >= 0, "top_k must not be negative (0 keeps all tokens)")
        _require(0 < self.top_p <= 1, "top_p must be above 0 and at most 1")
        _require(0 <= self.min_p <= 1, "min_p must lie between 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TurnLimits:
    """Where a trajectory ends. Each limit has its own stop reason."""

    max_code_calls: int = 8
    """Code blocks run in one trajectory (paper: 8)."""
    max_turns: int | None = None
    """Stretches that the policy may sample, one more than the observations between; None: any."""
    max_turn_tokens: int | None = None
    """Tokens of one such stretch; None: as many as the trajectory has left."""
    max_new_tokens: int = 128
    """Tokens the policy may sample in one trajectory."""
    max_wall_seconds: float | None = None
    """Time of one trajectory. Which ones exceed it depends on the machine: a run that sets it is
    not reproduced bit for bit. Scripts have limits of their own, which do not depend on it."""
    max_observation_tokens: int = 48
    """Tokens of one interpreter output; longer output keeps its head and its tail."""

    def __post_init__(self) -> None:
        _require(self.max_code_calls >= 0, "limits.max_code_calls must not be negative")
        _require(self.max_new_tokens > 0, "limits.max_new_tokens must be positive")
        for name in ("max_turns", "max_turn_tokens", "max_wall_seconds"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"limits.{name} must be positive, or None")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How both trainers compute; none of it changes what is computed, but for rounding and LoRA."""

    dtype: Dtype = "float32"
    """Of activations and products. Weights, moments and summed gradients are float32 all the same;
    the gradient of one layer in one micro-batch comes out in this type."""
    remat: Remat = "attention"
    """What the backward pass finds, and what it computes again. "none": all that it needs is kept,
    which takes most memory and, for its traffic, more time on a processor. "dots": products of
    weights are kept. "attention": inputs of each layer and what attention gave. "layer": the inputs
    alone, least memory and a third more operations."""
    attention: Attention = "auto"
    """"dense": scores are kept. "blocked": a block of queries at a time. "splash": the TPU
    kernel. "auto": splash on TPUs, elsewhere dense for short rows and blocked for long ones."""
    logits_chunk: int = 1024
    """Positions of a device whose logits exist at the same time: so many x vocabulary x 4 bytes."""
    lora_rank: int = 0
    """0 trains all weights; else low-rank additions of this rank to every matrix of the layers."""
    lora_alpha: float = 16.0
    """The additions count lora_alpha / lora_rank times."""

    def __post_init__(self) -> None:
        for name, choices in (("dtype", Dtype), ("remat", Remat), ("attention", Attention)):
            _require(
                getattr(self, name) in get_args(choices),
                f"train.{name} must be one of {', '.join(get_args(choices))}",
            )
        _require(self.logits_chunk > 0, "train.logits_chunk must be positive")
        _require(self.lora_rank >= 0, "train.lora_rank must not be negative (0 trains all weights)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SftConfig:
    """Multi-turn supervised fine-tuning."""

    epochs: int = 3
    batch_size: int = 32
    """Rows a step."""
    packing: bool = True
    """Rows hold as many demonstrations as fit. False: one each, so that a batch is `batch_size`
    demonstrations, for more time and the same memory."""
    num_microbatches: int = 1
    """Parts of a batch that go through the model one after the other; the step is the same."""
    sequence_length: int = 256
    """Tokens a row; a longer demonstration is an error, not a truncation."""
    lr: float = 1e-5
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: down to zero by the last step, or no change."""
    warmup_fraction: float = 0.03
    weight_decay: float = 0.0
    adam_b2: float = 0.999
    """Decay of Adam's second moment; short trainings from scratch want less."""
    clip_norm: float = 1.0
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    checkpoint_keep: int = 2
    """Newest checkpoints that stay."""
    checkpoint_keep_best: int = 1
    """CheckpointManager that stay besides, those with the lowest loss."""

    def __post_init__(self) -> None:
        _require(
            self.num_microbatches > 0 and self.batch_size % self.num_microbatches == 0,
            f"sft.num_microbatches = {self.num_microbatches} does not divide "
            f"sft.batch_size = {self.batch_size}",
        )
        _require(self.schedule in ("cosine", "constant"), "sft.schedule must be cosine or constant")
        _require(self.checkpoint_keep > 0, "sft.checkpoint_keep must be positive")
        _require(self.checkpoint_keep_best >= 0, "sft.checkpoint_keep_best must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """Improvement potential Π = 4p(1-p) of every GRPO question (paper section 4.2)."""

    samples_per_agent: int = 5
    """Answers by each agent; with four agents N = 20."""
    temperatures: tuple[float, ...] = (0.6, 0.8, 1.0, 1.1, 1.2)
    """Temperature of the i-th answer of an agent."""
    lower_bounds: tuple[float, ...] = (0.64, 0.48, 0.32)
    """Lower edges of groups 1 to 3; group 4 takes the rest."""

    def __post_init__(self) -> None:
        _require(self.samples_per_agent > 0, "potential.samples_per_agent must be positive")
        _require(len(self.temperatures) > 0, "potential.temperatures must name at least one")
        _require(
            tuple(sorted(self.lower_bounds, reverse=True)) == self.lower_bounds,
            "potential.lower_bounds must descend: the first group has the largest potential",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """Group-relative policy optimisation (paper section 5)."""

    prompts_per_step: int = 128
    rollouts_per_prompt: int = 5
    steps_per_stage: tuple[int, ...] = (150, 150, 150, 150)
    """Optimiser steps of each curriculum stage; uniform training spends their sum at once."""
    lr: float = 1e-6
    warmup_steps: int = 0
    clip_norm: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.001
    temperature: float = 1.0
    sequence_lengths: tuple[int, ...] = (128, 256)
    """Lengths to which the rows of a micro-batch are padded; the last holds any trajectory."""
    microbatch_tokens: int = 16384
    """Tokens of one forward and backward pass, padding counted: as many rows as that makes at the
    length to which they are padded. Gradients are summed over the passes."""
    num_minibatches: int = 1
    """Optimiser steps that share the questions of a step, each with its part of them."""
    num_iterations: int = 1
    """How often the questions of a step are gone through."""
    old_logprobs: Literal["rollout", "recompute"] = "rollout"
    """Log-probabilities that ratios start from: those noted while sampling, or the trainer's own
    under the same weights (worth a pass where the sampler rounds: bfloat16, eight bits). Tokens
    carried over from older weights keep what was noted."""
    turn_penalty_after: int = 6
    """More generation turns than this cost 0.1 of reward."""
    checkpoint_every: int = 10
    """Steps between checkpoints."""
    checkpoint_keep: int = 2
    """Newest checkpoints that stay."""
    checkpoint_keep_best: int = 1
    """CheckpointManager that stay besides, those with the highest mean reward."""
    logged_trajectories: int = 4
    """Trajectories a step written to trajectories.jsonl: best, worst, and a spread between."""
    max_staleness: int = 0
    """Steps by which a group may be older than the weights it is trained on. 0: each step waits for
    its own questions. Else one batch more is in flight, and a step ends when enough groups have."""
    dump_rollouts: bool = False
    """Keep what each step was trained on, exactly, in rollouts/<training>/ of the run directory."""
    replay_rollouts: str = ""
    """The rollouts/ of such a run: train on what lies there, without sampler and interpreter."""

    def __post_init__(self) -> None:
        _require(
            self.max_staleness >= 0, "grpo.max_staleness must not be negative (0 switches it off)"
        )
        _require(
            self.num_minibatches > 0 and self.prompts_per_step % self.num_minibatches == 0,
            f"grpo.num_minibatches = {self.num_minibatches} does not divide "
            f"grpo.prompts_per_step = {self.prompts_per_step}",
        )
        _require(self.num_iterations > 0, "grpo.num_iterations must be positive")
        _require(self.checkpoint_keep > 0, "grpo.checkpoint_keep must be positive")
        _require(self.checkpoint_keep_best >= 0, "grpo.checkpoint_keep_best must not be negative")
        _require(
            self.old_logprobs in ("rollout", "recompute"),
            "grpo.old_logprobs must be sampled or recomputed",
        )

    def microbatch_rows(self, length: int, num_batch_shards: int) -> int:
        """Rows of a micro-batch of this padded length, a multiple of the mesh's `parts`."""
        return max(self.microbatch_tokens // length // num_batch_shards, 1) * num_batch_shards


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Accuracy on held-out questions."""

    sampling: SamplingParams = SamplingParams(temperature=0.6)
    samples_per_question: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many devices each axis of the mesh has; all ones: the first device alone."""

    slices: int = 1
    """TPU slices, joined by the data-centre network: replicas of everything within one, so that
    only gradients cross."""
    data: int = 1
    """Replicas of the parameters, each with its part of the batch."""
    fsdp: int = 1
    """Parts of the parameters and of the batch."""
    tensor: int = 1
    """Parts of heads, feed-forward width and vocabulary."""

    def __post_init__(self) -> None:
        _require(
            min(self.slices, self.data, self.fsdp, self.tensor) > 0,
            "mesh.slices, mesh.data, mesh.fsdp and mesh.tensor must be positive",
        )

    @property
    def num_devices(self) -> int:
        """Devices in all."""
        return self.slices * self.data * self.fsdp * self.tensor

    @property
    def num_batch_shards(self) -> int:
        """Parts that a batch is cut into."""
        return self.slices * self.data * self.fsdp


_SANDBOX = SandboxConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run, from data to report."""

    name: str
    """Also the name of the run directory under runs/."""
    paper_row: str = ""
    """Row of experiments/paper_numbers.py that this run is compared with; empty: none."""
    seed: int = 0
    model: ModelConfig = ModelConfig()
    dataset: DatasetConfig
    demonstrations: DemonstrationConfig = DemonstrationConfig()
    mesh: MeshConfig = MeshConfig()
    sandbox: SandboxConfig = _SANDBOX
    sampler: SamplerConfig = SamplerConfig()
    limits: TurnLimits = TurnLimits()
    train: TrainConfig = TrainConfig()
    sft: SftConfig = SftConfig()
    potential: PotentialConfig = PotentialConfig()
    grpo: GrpoConfig = GrpoConfig()
    eval: EvalConfig = EvalConfig()

    def __post_init__(self) -> None:
        lengths = self.grpo.sequence_lengths
        _require(
            tuple(sorted(lengths)) == lengths and lengths[-1] >= self.sampler.cache_length,
            "grpo.sequence_lengths must ascend to at least sampler.cache_length",
        )
        num_batch_shards = self.mesh.num_batch_shards
        for name, rows in (
            ("sampler.slots", self.sampler.slots),
            ("sft.batch_size", self.sft.batch_size),
            (
                "sft.batch_size / sft.num_microbatches",
                self.sft.batch_size // self.sft.num_microbatches,
            ),
        ):
            _require(
                rows % num_batch_shards == 0,
                f"{name} = {rows} is not a multiple of "
                f"mesh.slices x mesh.data x mesh.fsdp = {num_batch_shards}",
            )
        stages = len(self.potential.lower_bounds) + 1
        _require(
            len(self.grpo.steps_per_stage) == stages,
            f"grpo.steps_per_stage needs {stages} entries, one a curriculum group",
        )
