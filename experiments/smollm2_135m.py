"""The whole method on SmolLM2-135M-Instruct: real weights, real tasks, two CPU cores.

Question   Do SFT and GRPO with a curriculum raise a real model's accuracy on tasks that it never
           trained on, and is it the curriculum's order that does? Small enough for three seeds.
Command    r1ci weights import SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2-135m-instruct
           r1ci run experiments/smollm2_135m.py --config.seed=0 --workdir runs/smollm2-135m-0
           or with the published weights:
           --config.model.checkpoint=HuggingFaceTB/SmolLM2-135M-Instruct
Needs      2 CPU cores, 6 GiB, about 7 hours a seed in bfloat16 (below); every stage is resumable
Expect     `:choose`, seed 0, 20 questions a task: SFT 24.0 % of the 24 training candidates (95 %:
           20.6 to 27.3), 42.0 % (36.0 to 47.5) of the ten that are chosen, 4.2 % of the 12 test
           candidates; untrained 0.0. GRPO: not known yet. It should raise p where scripts half
           work, as in toy.py, by which the order of the questions makes no difference
Variants   :cpu  the same as none     :choose  measures p of all candidate tasks, no GRPO
           :gpu  the paper's recipe and its 107 tasks on one GPU
           :smoke  the same code with random weights, a minute

Tasks. Those for training are the ten that the rule of task_choice.py takes: `r1ci table task_choice
--runs runs/smollm2-135m-choose`. For testing it takes one alone (rg_products, p 0.45; of the others
rg_lcm alone is above 0), and fewer than four say little: all twelve candidates stay.

Time in bfloat16 on a processor that has it, by the rates of `:choose`: SFT 71 steps of 18 s, 21
minutes; potential 160 questions of 17 s, 45 minutes; evaluation of 6 models on 528 questions, 1 s
each, 50 minutes; a step of GRPO by arithmetic one minute (64 x 120 tokens sampled at 470 a second,
64 x 265 trained at 290), 4 arms of 80 steps 5 hours. In float32 about twice as long. `:choose` took
two hours beside other work.
"""

from experiments import small_recipe
from r1ci_jax.config import Experiment

VARIANTS = small_recipe.VARIANTS

TRAIN_TASKS = (
    "number_multiply",
    "rg_basic_arithmetic",
    "rg_bitwise_arithmetic",
    "rg_count_bits",
    "rg_decimal_arithmetic",
    "rg_gcd",
    "rg_power_function",
    "rg_quantum_lock",
    "rg_spell_backward",
    "rg_word_sequence_reversal",
)
TEST_TASKS = small_recipe.TEST_CANDIDATES

MODEL = small_recipe.SmallModel(
    name="smollm2-135m",
    directory="models/smollm2-135m-instruct",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    train_tasks=TRAIN_TASKS,
    test_tasks=TEST_TASKS,
    sft_lr=1e-3,
    sft_epochs=3,
    grpo_lr=2e-4,
    steps_per_stage=(6, 6, 6, 6),
    checkpoint_every=5,
    arms=("grpo_curriculum", "grpo_uniform", "grpo_uniform_refill", "grpo_random_subset"),
)


def get_config(variant: str = "") -> Experiment:
    """The run on a CPU, or a variant."""
    return small_recipe.get_config(variant, MODEL)
