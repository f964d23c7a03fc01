"""Every setting of an experiment, as frozen dataclasses.

An experiment file returns one `Experiment`; `r1ci run FILE --config.sft.lr=1e-3` overrides one
field. A setting that a single experiment needs belongs in that experiment's file, not here.
"""

import dataclasses
import re
from typing import Annotated, Final, Literal

from r1ci_jax.demonstration_config import DemonstrationConfig
from r1ci_jax.grpo_config import AgentPlace, GrpoConfig
from r1ci_jax.ranges import (
    Ascending,
    Checked,
    Count,
    Entries,
    Fraction,
    Int32Count,
    Int32Natural,
    Natural,
    NonNegative,
    Positive,
    Range,
    require,
)
from r1ci_jax.sandbox.settings import SandboxConfig

Quantization = Literal["none", "int8"]
"""Format of an array in the sampler: `dtype` as it is, or eight-bit integers with scales."""
Dtype = Literal["float32", "bfloat16"]
Attention = Literal["auto", "dense", "blocked", "splash"]
Remat = Literal["none", "dots", "attention", "layer"]
PromptChoice = Literal["auto", "none", "r1ci", "paper"]
EvalPromptChoice = Literal["auto", "none", "r1ci", "boxed", "paper"]
"""Those of `r1ci eval`, where an answer need not stand between the marks."""
ObservationRule = Literal["clip", "replace"]
Order = Literal[
    "curriculum", "uniform", "equal_groups", "difficulty", "accuracy", "random_subset", "online"
]
"""Order of the questions in reinforcement learning; r1ci_jax/curriculum/orders.py has each."""
SinkName = Literal["tensorboard", "wandb", "trackio"]
"""Places that show the metrics besides metrics.jsonl; r1ci_jax/runtime/sinks has them."""
Start = Literal["sft", "untrained"]
"""Model that an arm starts from."""
LARGEST_SEED: Final = 20_000_000
"""A hundred seeds of stages are made of each, and they fit into 32 bits."""
Seed = Annotated[int, Range(at_least=0, at_most=LARGEST_SEED)]
Samples = Annotated[int, Range(at_least=1, at_most=10_000)]
"""Answers to one question: all are asked for at once."""

BASE_MODELS = ("untrained", "sft")
"""Models that every run evaluates before those of its arms."""
ARM_PREFIX = "grpo_"
"""Beginning of every arm's name, which tells its metrics from those of other stages."""
COLD_ARM_PREFIX = "grpo_no_sft"
"""Beginning of the name of an arm that starts from the untrained model: results have names only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked, section="model"):
    """Architecture, first weights, tokenizer and instructions of the policy."""

    preset: str = "toy"
    """Architecture by name (see r1ci_jax/model/presets.py), initialized at random."""
    checkpoint: str = ""
    """Hugging Face directory, GGUF file or hub id; it decides architecture and weights."""
    architecture: str = ""
    """Preset whose sizes the checkpoint must have, for `r1ci plan` offline; empty: any."""
    tokenizer: str = ""
    """Directory, GGUF file or hub id; empty: the checkpoint's, else a byte-level BPE of the run's
    own data."""
    tokenizer_vocab: Annotated[int, Range(at_least=259)] = 512
    """Vocabulary size of the byte-level BPE in tokens, special tokens included."""
    prompts: PromptChoice = "auto"
    """Instructions before each question (r1ci_jax/text/prompts.py). "r1ci": ours; CodeSteer's first
    answer is sent back by one fixed sentence. "paper": what is known of the paper's Table 1, in our
    words, and CodeSteer's guide. "none": the question alone. "auto": r1ci for a checkpoint, none
    for a model that is trained from scratch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.architecture or bool(self.checkpoint),
            "model.architecture says what a checkpoint must have, and model.checkpoint is empty; "
            "name a checkpoint, or set model.preset instead",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(Checked, section="dataset"):
    """Tasks, and the number of questions per task and split."""

    tasks: Annotated[tuple[str, ...], Entries(order="distinct")] = ()
    """Names from the task registry (`r1ci tasks list`). Tasks for training are also evaluated,
    tasks for testing are only evaluated."""
    difficulties: Annotated[tuple[Count, ...], Entries(order="distinct")] = (1, 2, 3)
    """Difficulty levels, mixed evenly."""
    sft_per_task: Count = 70
    """Questions per task for demonstrations (paper: at most 70 trajectories per task)."""
    grpo_per_task: Count = 50
    """Questions per task for reinforcement learning, disjoint from the supervised ones."""
    eval_per_task: Count = 40
    """Held-out questions per task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig(Checked, section="sampler"):
    """The sampler: slots, KV cache and number formats."""

    slots: Count = 64
    """Trajectories decoded together."""
    cache_length: Count = 256
    """Longest trajectory in tokens: prompt, completion and observations."""
    cache_tokens: Natural = 0
    """Memory of the cache in tokens, which the trajectories share as they grow; when it is short,
    the youngest gives up its own and is computed again later. 0: full rows for all slots."""
    page_length: Natural = 0
    """Tokens of a page, the unit in which a trajectory takes memory. 0: 64, or whole rows where
    `cache_tokens` is 0 and either `cache_length` is 512 at most or the devices are CPUs."""
    chunk_steps: Count = 16
    """Decode steps per device call."""
    speculative_tokens: Natural = 0
    """Tokens per decode step that are guessed from the trajectory's own text and verified in the
    same pass (prompt lookup). What is sampled is the same without; it pays where few rows are
    decoded and the text repeats itself. 0: none."""
    prefill_buckets: Ascending = (16, 32, 64, 128)
    """Padded lengths of an input in tokens; a longer input takes several prefill calls."""
    prefill_rows: Count = 16
    """Rows of one prefill call."""
    observation_lag: Count = 1
    """Chunks of decoding that a script stands for where grpo.max_staleness counts where a step ends
    (it must not depend on time). A script should take about as long: with another value a step
    samples more that is dropped. Nothing else depends on it."""
    dtype: Dtype = "float32"
    """Type of weights, activations and of a cache that is not quantized."""
    weight_quantization: Quantization = "none"
    """"int8": matrices in eight bits, one scale per output channel; norms and biases in `dtype`."""
    cache_quantization: Quantization = "none"
    """"int8": keys and values in eight bits with one scale per slot, head and position."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.prefill_buckets[-1] <= self.cache_length,
            f"sampler.prefill_buckets holds {self.prefill_buckets[-1]}, a bucket longer than "
            f"sampler.cache_length = {self.cache_length}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingParams(Checked, section="eval.sampling"):
    """Distribution of a sampled token.

    The repetition penalty comes first, then the temperature, then the filters in this order.
    """

    temperature: NonNegative = 1.0
    """Divisor of the logits; 0 takes the most likely token."""
    top_k: Int32Natural = 0
    """Top-k filter in tokens (of equally likely ones those with the smaller ids); 0 disables it."""
    top_p: Annotated[float, Range(above=0, at_most=1)] = 1.0
    """Nucleus filter: keeps the fewest most likely tokens whose probabilities reach this sum."""
    min_p: Fraction = 0.0
    """Keeps tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: Annotated[float, Range(at_least=0.01, at_most=100)] = 1.0
    """Divides positive logits of the tokens that the trajectory holds already, prompt included, and
    multiplies negative ones; 1 does nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TurnLimits(Checked, section="limits"):
    """Limits of one trajectory. Each has its own stop reason."""

    max_code_calls: Int32Natural = 8
    """Code calls per trajectory (paper: 8)."""
    max_turns: Int32Count | None = None
    """Turns per trajectory, one more than the observations between them; None: no limit."""
    max_turn_tokens: Int32Count | None = None
    """Sampled tokens per turn; None: as many as the trajectory has left."""
    max_new_tokens: Int32Count = 128
    """Sampled tokens per trajectory."""
    max_wall_seconds: Positive | None = None
    """Seconds per trajectory. It depends on the machine which trajectories exceed it, so a run that
    sets it is not reproduced bit for bit. Scripts have limits of their own (sandbox.limits)."""
    max_observation_tokens: Int32Count = 48
    """Tokens per observation; longer output is shortened by `observation_rule`."""
    observation_rule: ObservationRule = "clip"
    """Longer output: "clip" keeps its beginning and its end. "replace" shows a short notice in its
    place, as the authors' related code does above 8,000 tokens; the paper does not say."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked, section="train"):
    """Compute settings shared by both trainers. All but LoRA change results by rounding only."""

    dtype: Dtype = "float32"
    """Type of activations and matmuls. Parameters, optimizer state and accumulated gradients stay
    float32; the gradient of one layer in one microbatch has this type."""
    remat: Remat = "attention"
    """Rematerialization: activations that are saved for the backward pass. "none": all of them,
    which takes the most memory and, for its traffic, more time on CPUs. "dots": results of weight
    matmuls. "attention": each layer's input and its attention output. "layer": each layer's input
    alone, with the least memory and a third more operations."""
    attention: Attention = "auto"
    """"dense": scores are materialized. "blocked": one block of queries at a time. "splash": the
    TPU kernel. "auto": splash on TPUs, elsewhere dense for short rows and blocked for long ones."""
    logits_chunk: Count = 1024
    """Positions per logits chunk and device; peak memory is this x vocabulary x 4 bytes."""
    lora_rank: Natural = 0
    """Rank of low-rank adapters of every matrix of the layers; 0 trains all weights."""
    lora_alpha: Positive = 16.0
    """Adapters are scaled by lora_alpha / lora_rank."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SftConfig(Checked, section="sft"):
    """Multi-turn supervised fine-tuning (paper section 4.1)."""

    epochs: Count = 3
    """Passes over the demonstrations (paper: 3)."""
    batch_size: Count = 32
    """Rows per optimizer step (paper: 32 demonstrations)."""
    packing: bool = True
    """True: a row holds as many demonstrations as fit. False: one per row, in more time."""
    num_microbatches: Count = 1
    """Parts of a batch whose gradients are accumulated: the same step in less memory."""
    sequence_length: Count = 256
    """Tokens per row; a longer demonstration is an error, never truncated."""
    learn_observations: bool = False
    """True: what scripts print is learned like the policy's own words: an ablation. False: it is
    read without loss (the paper's)."""
    lr: NonNegative = 1e-5
    """Peak learning rate of AdamW, whose beta1 is 0.9."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: "cosine" decays to zero at the last step."""
    warmup_fraction: Fraction = 0.03
    """Fraction of the steps over which the learning rate rises linearly."""
    weight_decay: NonNegative = 0.0
    """AdamW's decoupled weight decay, times the learning rate; not of norms and biases."""
    adam_b2: Annotated[float, Range(above=0, below=1)] = 0.999
    """AdamW's decay rate beta2 of the second moment; short trainings from scratch want less."""
    clip_norm: Positive = 1.0
    """Global gradient norm above which the gradient is scaled down."""
    checkpoint_every: Count = 100
    """Steps between checkpoints."""
    checkpoint_keep: Count = 2
    """Newest checkpoints that are kept."""
    checkpoint_keep_best: Natural = 1
    """Further checkpoints that are kept: those with the lowest loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.batch_size % self.num_microbatches == 0,
            f"sft.num_microbatches = {self.num_microbatches} does not divide "
            f"sft.batch_size = {self.batch_size}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PotentialConfig(Checked, section="potential"):
    """Improvement potential Π = 4p(1-p) of every GRPO question (paper section 4.2)."""

    agents: Annotated[tuple[AgentPlace, ...], Entries(order="distinct")] = (
        *("all_text", "all_code", "code_agent", "codesteer"),
    )
    """Agents whose answers count, like eval.agents."""
    samples_per_agent: Count = 5
    """Trajectories per question and agent; four agents make the paper's N = 20."""
    temperatures: Annotated[tuple[Positive, ...], Entries()] = (0.6, 0.8, 1.0, 1.1, 1.2)
    """Sampling temperature of an agent's i-th trajectory, repeated in a cycle."""
    lower_bounds: Annotated[
        tuple[Annotated[float, Range(above=0, below=1)], ...],
        Entries(order="descending", may_be_empty=True),
    ] = (0.64, 0.48, 0.32)
    """Smallest potential Π of groups 1 to 3; group 4 takes the rest."""
    chance_corrected: bool = False
    """True: Π is that of p' = max(0, (p - c) / (1 - c)), where c is what a constant answer scores
    on the task's GRPO questions, so that guessing alone has no potential. False: the paper's."""
    max_sandbox_fault_fraction: Fraction = 0.25
    """The same as in grpo, of the scripts of a block of questions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm(Checked, section="arm"):
    """One GRPO training of an experiment: a named variant of curriculum order and settings.

    All arms use the same seed.
    """

    name: str
    """Name of the trained model in metrics, results and checkpoints: "grpo_" and then letters."""
    order: Order = "curriculum"
    """Groups of the questions; stage s trains on groups 1 to s. "curriculum": by potential (paper).
    "uniform": no groups, all questions alike (paper: "w/o curriculum"). "equal_groups": by
    potential, groups of equal size. "difficulty": from the lowest level up. "accuracy": from the
    highest pass rate down. "random_subset": at random, as many as by potential. "online": by
    potential, measured again every grpo.stages.remeasure_every steps."""
    start: Start = "sft"
    """Model whose weights the arm starts from, and its KL term refers to. "untrained": a cold
    start, an ablation of the paper (Fig. 15); the potential is that of the SFT model all the
    same."""
    grpo: GrpoConfig | None = None
    """Settings of this arm, its stages among them; None: the experiment's `grpo`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            re.fullmatch(rf"{ARM_PREFIX}[a-z0-9_]+", self.name) is not None,
            f"arm {self.name!r}: a name is {ARM_PREFIX} and small letters, digits, underscores",
        )
        require(
            (self.start == "untrained") == self.name.startswith(COLD_ARM_PREFIX),
            f"arm {self.name!r} has start {self.start!r}; names that begin with {COLD_ARM_PREFIX} "
            'are those of arms with start "untrained", and of no others',
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig(Checked, section="eval"):
    """Accuracy on held-out questions."""

    sampling: SamplingParams = SamplingParams(temperature=0.6)
    samples_per_question: Samples = 1
    """Trajectories per held-out question and agent."""
    agents: Annotated[tuple[AgentPlace, ...], Entries(order="distinct")] = ("code_agent",)
    """Ways of answering: "all_text" in words alone, "all_code" by one script whose output is the
    answer, "code_agent" by both in any order, "codesteer" with a guide; or package.module:Class, an
    agent of your own in a file beside the experiment's."""
    ask_for_answer: bool = False
    """True: a policy that ends its message without an answer is asked for it once, all_code
    excepted. For models that were not trained for our answer marks."""
    max_sandbox_fault_fraction: Fraction = 0.25
    """The same as in grpo, of the scripts of a block of questions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig(Checked, section="mesh"):
    """Devices along each axis of the mesh; all ones: the first device alone."""

    slices: Count = 1
    """TPU slices on the data-center network: full replicas, so that only gradients cross."""
    data: Count = 1
    """Replicas of the parameters, each with its part of the batch."""
    fsdp: Count = 1
    """Shards of the parameters and of the batch."""
    tensor: Count = 1
    """Shards of heads, feed-forward width and vocabulary."""

    @property
    def num_devices(self) -> int:
        """Number of all devices of the mesh."""
        return self.slices * self.data * self.fsdp * self.tensor

    @property
    def num_batch_shards(self) -> int:
        """Number of shards of a batch."""
        return self.slices * self.data * self.fsdp


_SANDBOX = SandboxConfig()
_DEMONSTRATIONS = DemonstrationConfig()
_GRPO = GrpoConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Checked):
    """One run, from data to report."""

    name: str
    """Name of the experiment, and of its run directory under runs/."""
    paper_row: str = ""
    """Row of the paper's tables (experiments/paper_numbers.py) to compare with; empty: none."""
    seed: Seed = 0
    """Seed of weights, batches and sampling: a repetition of the training changes it alone."""
    data_seed: Seed = 0
    """Seed of questions, splits and demonstrations; those made elsewhere fit any `seed` with it."""
    model: ModelConfig = ModelConfig()
    dataset: DatasetConfig
    demonstrations: DemonstrationConfig = _DEMONSTRATIONS
    mesh: MeshConfig = MeshConfig()
    sinks: Annotated[tuple[SinkName, ...], Entries(order="distinct", may_be_empty=True)] = ()
    """Places that show the metrics while the run goes on, besides metrics.jsonl; each needs the
    extra of its name. A run may be resumed with others."""
    sandbox: SandboxConfig = _SANDBOX
    sampler: SamplerConfig = SamplerConfig()
    limits: TurnLimits = TurnLimits()
    train: TrainConfig = TrainConfig()
    sft: SftConfig = SftConfig()
    potential: PotentialConfig = PotentialConfig()
    grpo: GrpoConfig = _GRPO
    arms: tuple[Arm, ...] = (Arm(name="grpo_uniform", order="uniform"), Arm(name="grpo_curriculum"))
    """GRPO trainings, in the order of training, results and tables. On the command line: names of
    the experiment's arms, of which the others are left out."""
    eval: EvalConfig = EvalConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            re.fullmatch(r"\.*[^./\s][^/]*", self.name) is not None
            and self.name.isprintable()
            and len(self.name.encode()) <= 200,
            f"name {self.name!r} cannot be a directory under runs/; use letters, digits and dashes",
        )
        names = [arm.name for arm in self.arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"arms has {', '.join(twice)} more than once; give each its own name")
        for arm in self.arms:
            self._check_order(arm)
            self._check_grpo(self.grpo_of(arm), "" if arm.grpo is None else f" of arm {arm.name}")
        self._check_grpo(self.grpo, "")
        longest, room = self.limits.max_new_tokens, self.sampler.cache_length
        require(
            room > longest,
            f"sampler.cache_length = {room} has no room for a prompt and limits.max_new_tokens = "
            f"{longest}; raise the one or lower the other",
        )
        num_shards = self.mesh.num_batch_shards
        microbatch = self.sft.batch_size // self.sft.num_microbatches
        for name, rows in (
            ("sampler.slots", self.sampler.slots),
            ("sft.batch_size", self.sft.batch_size),
            ("sft.batch_size / sft.num_microbatches", microbatch),
        ):
            shards = f"mesh.slices x mesh.data x mesh.fsdp = {num_shards}"
            require(rows % num_shards == 0, f"{name} = {rows} is not a multiple of {shards}")

    def _check_grpo(self, grpo: GrpoConfig, owner: str) -> None:
        require(
            grpo.sequence_lengths[-1] >= self.sampler.cache_length,
            f"grpo.sequence_lengths{owner} end at {grpo.sequence_lengths[-1]}; the last must be at "
            f"least sampler.cache_length = {self.sampler.cache_length}",
        )
        stages = len(self.potential.lower_bounds) + 1
        require(
            len(grpo.steps_per_stage) == stages,
            f"grpo.steps_per_stage{owner} needs {stages} entries, one per curriculum group",
        )

    def _check_order(self, arm: Arm) -> None:
        grpo = self.grpo_of(arm)
        if arm.order != "online":
            return
        require(
            grpo.stages.remeasure_every > 0,
            f"arm {arm.name} has order online and grpo.stages.remeasure_every = 0; set the steps "
            "after which the potential is measured again",
        )
        require(
            not grpo.replay_rollouts,
            f"arm {arm.name} has order online, which samples answers, and grpo.replay_rollouts, "
            "which samples none; leave one of them out",
        )

    def grpo_of(self, arm: Arm) -> GrpoConfig:
        """Settings that an arm is trained with."""
        return self.grpo if arm.grpo is None else arm.grpo

    @property
    def agents(self) -> tuple[str, ...]:
        """Names and places of all agents that the experiment trains, measures or evaluates."""
        trained = [self.grpo_of(arm).agent for arm in self.arms]
        return tuple(dict.fromkeys((*trained, *self.potential.agents, *self.eval.agents)))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that are evaluated, in the order of training and of tables."""
        return (*BASE_MODELS, *(arm.name for arm in self.arms))
