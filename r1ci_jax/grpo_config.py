"""Settings of reinforcement learning. The defaults are the paper's, as far as it is published."""

import dataclasses
from typing import Annotated, Literal, get_args

from r1ci_jax.ranges import (
    Ascending,
    Checked,
    Count,
    Entries,
    Fraction,
    NameOrPlace,
    Natural,
    NonNegative,
    Positive,
    Range,
    require,
)

AgentName = Literal["code_agent", "all_text", "all_code", "codesteer"]
"""Agents of the paper's Table 2; rollout/agents.py implements them."""
AgentPlace = Annotated[str, NameOrPlace(names=get_args(AgentName))]
"""One of them, or the class of a user's own agent: package.module:Class (CONTRIBUTING.md)."""
OldLogprobs = Literal["rollout", "recompute", "decoupled"]
Surrogate = Literal["clip", "gspo", "cispo", "dppo"]
Aggregation = Literal["sequence_mean", "token_mean", "prompt_mean", "constant"]
AdvantageScale = Literal["group_std", "batch_std", "none"]
Importance = Literal["none", "truncate", "mask"]
KlEstimator = Literal["k1", "k2", "k3"]
KlPlace = Literal["loss", "reward"]
Baseline = Literal["group", "critic"]
TurnCount = Literal["turns", "code_calls"]
Diagnostics = Literal["all", "groups", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Checked, section="grpo.objective"):
    """Variants of the loss; the defaults are the paper's form as far as it is published."""

    baseline: Baseline = "group"
    """Number that a reward is compared with. "group": the mean reward of the group (GRPO).
    "critic": a second model's prediction before each token (PPO), set by grpo.critic."""
    surrogate: Surrogate = "clip"
    """Objective of a token or sequence. "clip": PPO's clipped ratio. "gspo": the clipped ratio of
    a whole sequence (clip ranges of about 4e-4). "cispo": log-probability weighted by the ratio, at
    most 1 + clip_high (of about 4) and without its gradient. "dppo": the ratio, but a token whose
    probability changed by more than dppo_max_change is masked; both clip ranges are unused."""
    aggregation: Aggregation = "sequence_mean"
    """Mean over a step's tokens. "sequence_mean": mean of each trajectory's mean (the paper's).
    "token_mean": over all tokens alike. "prompt_mean": mean of each question's token mean.
    "constant": mean of each trajectory's sum divided by constant_tokens (Dr. GRPO)."""
    constant_tokens: Natural = 0
    """Divisor in tokens of aggregation "constant", which must be set with it."""
    advantage_scale: AdvantageScale = "group_std"
    """Divisor of an advantage: the standard deviation of its group, of the batch (all rewards
    around the means of their groups), or none."""
    leave_one_out: bool = False
    """True: the baseline of a trajectory is the mean reward of the others of its group."""
    dual_clip: NonNegative = 0.0
    """Bound above 1 of the ratio where the advantage is negative (for "clip" and "gspo"); 0: no
    bound."""
    dppo_max_change: Annotated[float, Range(above=0, at_most=1)] = 0.2
    """Change of a token's probability beyond which "dppo" masks it."""
    importance: Importance = "none"
    """Weights old / sampler, constant in the loss, for old log-probabilities that are not the
    sampler's (grpo.old_logprobs). "truncate": at most importance_high. "mask": 0 outside
    importance_low to importance_high. "none": no weights; with "decoupled", as they are."""
    importance_low: NonNegative = 0.5
    """Smallest weight that "mask" keeps; at most 1."""
    importance_high: Positive = 2.0
    """Largest weight of "truncate" and "mask"; at least 1."""
    kl_estimator: KlEstimator = "k3"
    """Estimate of the KL divergence per token, with d = log reference - log policy. "k1": -d, whose
    gradient in the loss is 0 on average. "k2": d squared over 2. "k3": exp(d) - 1 - d."""
    kl_in: KlPlace = "loss"
    """Where kl_coef applies. "loss": to its mean over tokens. "reward": its sum over a
    trajectory's tokens is subtracted from the reward before groups are compared; a group of equal
    rewards then differs by that alone, which advantage_scale "none" does not blow up. With a critic
    each token's own is subtracted at that token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        is_constant = self.aggregation == "constant"
        require(
            is_constant == (self.constant_tokens > 0),
            f"grpo.objective.constant_tokens = {self.constant_tokens} with aggregation "
            f'"{self.aggregation}"; "constant" needs it above 0 (such as the largest number of '
            "sampled tokens), the others need 0",
        )
        require(
            self.dual_clip == 0 or self.dual_clip > 1,
            f"grpo.objective.dual_clip = {self.dual_clip} bounds ratios; set it above 1, or to 0 "
            "for no bound",
        )
        require(
            self.dual_clip == 0 or self.surrogate in ("clip", "gspo"),
            f'grpo.objective.dual_clip belongs to surrogate "clip" or "gspo"; set it to 0 with '
            f'"{self.surrogate}"',
        )
        require(
            self.importance_low <= 1 <= self.importance_high,
            f"grpo.objective.importance_low = {self.importance_low} to importance_high = "
            f"{self.importance_high} must include 1, the weight where trainer and sampler agree",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticConfig(Checked, section="grpo.critic"):
    """The value model of PPO, for grpo.objective.baseline = "critic"; defaults are verl's.

    The paper's trainer is a copy of verl's (Search-R1), whose PPO script has the same numbers.
    """

    lr: NonNegative = 1e-5
    """Learning rate of the critic's AdamW (verl, Search-R1: 1e-5)."""
    clip_norm: Positive = 1.0
    """Global norm above which the critic's gradient is scaled down (verl: 1)."""
    gamma: Fraction = 1.0
    """Discount of the reward per token that the policy chose; 1: none (verl: 1)."""
    gae_lambda: Fraction = 1.0
    """Weight of later tokens in generalized advantage estimation. 1: an advantage is the reward
    that followed less the value (verl: 1; TRL: 0.95). 0: one token's own gain in value."""
    value_clip: NonNegative = 0.5
    """Distance from the value before the step up to which a value may gain by moving (verl: 0.5;
    TRL: 0.2); 0: no bound."""
    num_iterations: Count = 1
    """Iterations of the critic over a rollout batch, in the policy's minibatches (verl: 1)."""
    lead_steps: Natural = 0
    """First steps of the training in which the critic learns alone and the policy waits (verl:
    critic_warmup, 0)."""
    whiten: bool = True
    """True: advantages are shifted and scaled to mean 0 and deviation 1 over all tokens of the
    policy in the step's batch (verl and TRL do so)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardConfig(Checked, section="grpo.reward"):
    """Terms of the reward."""

    correct: NonNegative = 1.0
    """Added for a correct final answer (paper: 1)."""
    format: NonNegative = 0.1
    """Added where every response keeps the format, else subtracted (paper: 0.1)."""
    turn_penalty: NonNegative = 0.1
    """Subtracted from a trajectory with too many turns (paper: 0.1)."""
    turn_penalty_counts: TurnCount = "turns"
    """What turn_penalty_after counts: "turns" of generation, or "code_calls", one less than turns
    (notes on the paper disagree)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalConfig(Checked, section="grpo.signal"):
    """Which trajectories a step trains on; the defaults take all."""

    refill_rounds: Natural = 0
    """Rounds in which groups whose answers are all correct or all wrong are replaced by groups of
    the next questions (DAPO's dynamic sampling); what is left of them after the last round is
    dropped, and the batch is smaller. 0: all groups are kept (as far as the paper says)."""
    mask_void_turns: bool = False
    """True: a trajectory with a turn that closed neither code nor an answer carries no loss
    (SimpleTIR)."""
    mask_cut_off: bool = False
    """True: a trajectory that a limit ended (tokens, turns, code calls, time, context) carries no
    loss (DAPO's overlong filtering)."""
    masked_in_baseline: bool = True
    """True: the rewards of masked trajectories count in their group's mean and deviation."""
    oversampling: Count = 1
    """Rollouts per kept rollout. GRPO-RoC samples 2 and keeps half of each kind: wrong ones at
    random, correct ones rather with few failed code calls and a kept format. 1: all are kept."""
    retire_above: Annotated[float, Range(above=0, at_most=1)] = 1.0
    """Pass rate over all its groups so far above which a question is not asked again. When all
    questions of a stage are retired, its last steps change nothing. 1: never."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig(Checked, section="grpo.stages"):
    """What changes from stage to stage, besides the questions."""

    reset_reference: bool = False
    """True: the reference of the KL term is the policy at the start of the stage."""
    reset_optimizer: bool = False
    """True: the optimizer's moments start from zero at the start of the stage."""
    lr: tuple[NonNegative, ...] = ()
    """Learning rate per stage; empty: grpo.lr in all. The warm-up is not repeated."""
    replay_fraction: tuple[Fraction, ...] = ()
    """Share of a step's questions that come from earlier stages' groups, per stage; the rest comes
    from the groups that the stage adds. It has no effect where a stage adds none or has none before
    it. Empty: all groups of the stage alike (the paper's)."""
    advance_accuracy: Fraction = 0.0
    """Mean accuracy over advance_window steps from which the next stage begins early; 0: never. The
    steps left over go to the last stage, so that the training has as many as planned. A step whose
    questions are all retired (grpo.signal.retire_above) counts as 1."""
    advance_window: Count = 10
    """Steps of a stage over which its accuracy is averaged."""
    remeasure_every: Natural = 0
    """Steps after which order "online" measures the potential again; other orders never do."""

    @property
    def changes_at_borders(self) -> bool:
        """True if something besides the questions changes at a stage's start."""
        return self.reset_reference or self.reset_optimizer or bool(self.lr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpoConfig(Checked, section="grpo"):
    """Group-relative policy optimization (paper section 5)."""

    prompts_per_step: Count = 128
    """Questions per rollout batch (paper: batch 128)."""
    agent: AgentPlace = "code_agent"
    """Way of answering that is trained, like one of eval.agents. A run that resumes needs the same
    one: its partial rollouts go on with it."""
    rollouts_per_prompt: Annotated[int, Range(at_least=2)] = 5
    """Rollouts per question, the group size G (paper: 5)."""
    steps_per_stage: Annotated[tuple[Natural, ...], Entries()] = (150, 150, 150, 150)
    """Rollout batches per curriculum stage (paper: 150); uniform order spends their sum at once."""
    rollout_budget: Natural = 0
    """Rollouts after which a training begins no more, so that arms are compared at equal rollouts;
    the steps that are left change nothing. The step that spends it may go beyond. 0: no limit (the
    paper's)."""
    lr: NonNegative = 1e-6
    """Learning rate of AdamW (paper: 1e-6); its betas are 0.9 and 0.999, its weight decay is 0."""
    warmup_steps: Natural = 0
    """Optimizer steps over which the learning rate rises linearly."""
    clip_norm: Positive = 1.0
    """Global gradient norm above which the gradient is scaled down."""
    clip_low: Annotated[float, Range(above=0, at_most=1)] = 0.2
    """Clip range ε below one: the ratio counts no less than 1 - clip_low."""
    clip_high: Positive = 0.2
    """Clip range ε above one: the ratio counts no more than 1 + clip_high."""
    kl_coef: NonNegative = 0.001
    """Weight β of the KL divergence from the SFT model (paper: 0.001)."""
    temperature: Positive = 1.0
    """Sampling temperature of rollouts (paper: 1.0)."""
    sequence_lengths: Ascending = (128, 256)
    """Padded row lengths of a microbatch in tokens; the last holds any trajectory."""
    microbatch_tokens: Count = 16384
    """Tokens per forward and backward pass, padding counted: as many rows as fit at their padded
    length. Gradients are accumulated over microbatches, so the step is the same."""
    num_minibatches: Count = 1
    """Optimizer steps per iteration; each uses an equal part of the rollout batch's questions."""
    num_iterations: Count = 1
    """Iterations over a rollout batch, the μ of GRPO."""
    old_logprobs: OldLogprobs = "rollout"
    """Source of the old log-probabilities. "rollout": recorded while sampling. "recompute": the
    trainer's own under the same weights, one more forward pass, where the sampler rounds
    (bfloat16, int8). Tokens that older weights sampled keep what was recorded. "decoupled": the
    trainer's own at the start of the step for all tokens, and weights old / sampler (see
    objective.importance), so that max_staleness may be above 1."""
    turn_penalty_after: Natural = 6
    """Turns (or code calls, reward.turn_penalty_counts) without penalty; a trajectory with more
    loses reward.turn_penalty (paper: 6)."""
    checkpoint_every: Count = 10
    """Steps between checkpoints."""
    checkpoint_keep: Count = 2
    """Newest checkpoints that are kept."""
    checkpoint_keep_best: Natural = 1
    """Further checkpoints that are kept: those with the highest mean reward."""
    logged_trajectories: Natural = 4
    """Trajectories per step in trajectories.jsonl: best, worst, and a spread between."""
    learn_observations: bool = False
    """True: tokens that scripts printed carry loss like those that the policy chose, an ablation.
    The sampler has no log-probability of them, so old_logprobs must be "recompute". False: they
    carry none (the paper's)."""
    diagnostics: Diagnostics = "all"
    """Parts of a step's batch that diagnostics.jsonl describes. "all": tasks, suites and potential
    groups. "groups": suites and potential groups, a tenth of the size. "none": no file, and neither
    self-checks nor the expected share of groups with signal are measured."""
    max_staleness: Natural = 0
    """Steps by which a group may be older than the weights it trains; 0 is on-policy. Else one more
    batch is in flight, and a step ends when enough groups are complete (partial rollouts)."""
    dump_rollouts: bool = False
    """True: the exact trajectories of each step are kept in the run's rollouts/<arm>/."""
    replay_rollouts: str = ""
    """Directory rollouts/ of such a run: it is trained on, without sampler and interpreter."""
    objective: ObjectiveConfig = ObjectiveConfig()
    critic: CriticConfig = CriticConfig()
    reward: RewardConfig = RewardConfig()
    signal: SignalConfig = SignalConfig()
    stages: StageConfig = StageConfig()
    max_sandbox_fault_fraction: Fraction = 0.25
    """Largest fraction of a step's scripts about which the sandbox may give no verdict (their
    trajectories are left out); with more (and at least four) the run stops. 1: it never does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.prompts_per_step % self.num_minibatches == 0,
            f"grpo.num_minibatches = {self.num_minibatches} does not divide "
            f"grpo.prompts_per_step = {self.prompts_per_step}",
        )
        for name in ("lr", "replay_fraction"):
            given = getattr(self.stages, name)
            require(
                len(given) in (0, len(self.steps_per_stage)),
                f"grpo.stages.{name} = {given} needs one entry per stage, as many as "
                f"grpo.steps_per_stage = {self.steps_per_stage}; or none",
            )
        require(
            sum(self.steps_per_stage) > 0,
            f"grpo.steps_per_stage = {self.steps_per_stage} has no step; give a stage at least one",
        )
        require(
            not (self.max_staleness and self.signal.refill_rounds),
            f"grpo.signal.refill_rounds = {self.signal.refill_rounds} refills a batch that is "
            f"complete, and with grpo.max_staleness = {self.max_staleness} none is; set one to 0",
        )
        importance = self.objective.importance
        require(
            importance == "none" or self.old_logprobs != "rollout",
            f'grpo.objective.importance = "{importance}" weighs old against sampler, which are the '
            'same with grpo.old_logprobs = "rollout"; use "recompute" or "decoupled"',
        )
        is_measured = self.old_logprobs == "recompute" and self.objective.importance == "none"
        require(
            not self.learn_observations or (is_measured and not self.max_staleness),
            "grpo.learn_observations needs log-probabilities that the sampler does not have: set "
            'grpo.old_logprobs="recompute", grpo.objective.importance="none" and '
            "grpo.max_staleness=0",
        )
        self._check_critic()

    def _check_critic(self) -> None:
        """Refuse settings that say nothing of this baseline, or contradict it."""
        objective, signal = self.objective, self.signal
        if not self.has_critic:
            require(
                self.critic == CriticConfig(),
                'grpo.critic is set, but nothing reads it with grpo.objective.baseline = "group"; '
                'set grpo.objective.baseline="critic"',
            )
            return
        require(
            objective.advantage_scale == "group_std" and not objective.leave_one_out,
            "grpo.objective.advantage_scale and leave_one_out are about groups, which "
            'baseline = "critic" does not compare; leave them at their defaults (its advantages '
            "are scaled by grpo.critic.whiten)",
        )
        require(
            not signal.refill_rounds,
            f"grpo.signal.refill_rounds = {signal.refill_rounds} drops groups of equal outcome, of "
            'which baseline = "critic" learns as much as of others; set it to 0',
        )
        has_masks = signal.mask_void_turns or signal.mask_cut_off
        require(
            not (has_masks and signal.masked_in_baseline),
            "grpo.signal.masked_in_baseline = True counts masked trajectories in a group's mean, "
            'but baseline = "critic" trains on none of them; set it to False',
        )
        require(
            not self.learn_observations,
            "grpo.learn_observations has a loss on tokens that nobody chose, for which "
            'baseline = "critic" has no value and no advantage; set one of the two back',
        )
        require(
            self.critic.lead_steps < sum(self.steps_per_stage),
            f"grpo.critic.lead_steps = {self.critic.lead_steps} leaves the policy no step of the "
            f"{sum(self.steps_per_stage)} that there are; lower it",
        )

    @property
    def has_critic(self) -> bool:
        """True if a critic is trained beside the policy."""
        return self.objective.baseline == "critic"

    @property
    def sampled_per_prompt(self) -> int:
        """Rollouts that are sampled per question; `rollouts_per_prompt` of them are kept."""
        return self.rollouts_per_prompt * self.signal.oversampling

    @property
    def num_rollouts(self) -> int:
        """Trajectories that a step samples, those of refills not counted."""
        return self.prompts_per_step * self.sampled_per_prompt

    def microbatch_rows(self, length: int, num_batch_shards: int) -> int:
        """Rows of a microbatch of this padded length, a multiple of `num_batch_shards`."""
        rows_per_shard = self.microbatch_tokens // length // num_batch_shards
        return max(rows_per_shard, 1) * num_batch_shards
