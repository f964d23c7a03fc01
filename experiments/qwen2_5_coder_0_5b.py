"""The whole method on Qwen2.5-Coder-0.5B-Instruct: the smallest of the paper's family, a CPU.

Question   Does the method work on real weights of the paper's family: do SFT and GRPO raise
           accuracy on tasks never trained on, and does the curriculum's order count?
Command    r1ci weights import qwen2.5-coder-0.5b-instruct.gguf models/qwen2.5-coder-0.5b-instruct
           r1ci run experiments/qwen2_5_coder_0_5b.py
           or with the published weights: --config.model.checkpoint=Qwen/Qwen2.5-Coder-0.5B-Instruct
Needs      2 CPU cores, 10 GiB, by arithmetic 9 hours (below); every stage is resumable
Expect     not known yet. It writes Python already, so that SFT should teach the format at once and
           leave p in the middle on many tasks, where GRPO learns most. One seed with three arms
           tells differences of about ten points
Variants   :cpu  the same as none     :choose  measures p of all candidate tasks, no GRPO
           :gpu  the paper's recipe and its 107 tasks on one GPU
           :smoke  the same code with random weights, a minute

Tasks. Those for training are the twelve that the rule of task_choice.py takes, by the potential
that `:choose` measured; for testing all candidates of small_recipe.py stay.

Time, at 60 tokens/s of training and 130 tokens/s of decoding: SFT 12 tasks x 60 demonstrations x
210 tokens x 1 epoch, 45 minutes; potential 12 x 16 questions x 20 answers x 120 tokens, 60
minutes; a step of GRPO 64 x 120 tokens sampled and, padded, 64 x 265 trained, 6 minutes, 3 arms of
20 steps each, 6 hours; evaluation of 5 models on 18 x 24 questions, 35 minutes. `:choose` takes 4
hours.
"""

from experiments import small_recipe
from r1ci_jax.config import Experiment

VARIANTS = small_recipe.VARIANTS

TRAIN_TASKS = (
    "letters",
    "number_multiply",
    "rg_bitwise_arithmetic",
    "rg_chain_sum",
    "rg_complex_arithmetic",
    "rg_count_bits",
    "rg_decimal_chain_sum",
    "rg_gcd",
    "rg_power_function",
    "rg_quantum_lock",
    "rg_spell_backward",
    "rg_word_sequence_reversal",
)
TEST_TASKS = small_recipe.TEST_CANDIDATES

MODEL = small_recipe.SmallModel(
    name="qwen2-5-coder-0-5b",
    directory="models/qwen2.5-coder-0.5b-instruct",
    hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
    train_tasks=TRAIN_TASKS,
    test_tasks=TEST_TASKS,
    sft_lr=3e-4,
    sft_epochs=1,
    grpo_lr=2e-4,
    steps_per_stage=(5, 5, 5, 5),
    checkpoint_every=2,
    arms=("grpo_curriculum", "grpo_uniform", "grpo_random_subset"),
)


def get_config(variant: str = "") -> Experiment:
    """The run on a CPU, or a variant."""
    return small_recipe.get_config(variant, MODEL)
