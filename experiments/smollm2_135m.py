"""The whole method on SmolLM2-135M-Instruct: real weights, real tasks, two CPU cores.

Question   Do SFT and GRPO with a curriculum raise a real model's accuracy on tasks that it never
           trained on, and is it the curriculum's order that does? Three seeds.
Command    r1ci weights import SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2-135m-instruct
           r1ci run experiments/smollm2_135m.py --config.seed=0 --workdir runs/smollm2-135m-0
           or with the published weights:
           --config.model.checkpoint=HuggingFaceTB/SmolLM2-135M-Instruct
Needs      2 CPU cores, 6 GiB; in bfloat16 2 h 20 min a seed with one arm of GRPO
           (--config.arms=grpo_curriculum), an hour more for each other one; resumable
Expect     seed 0, bfloat16, 24 questions a task, in percent (95 % over questions):
                          ten training tasks      twelve test tasks
           untrained       0.0                     0.0
           SFT            51.7 (46.1 to 57.2)      3.8 (2.0 to 5.6)
           + GRPO         87.9 (84.5 to 91.3)     10.1 (8.3 to 11.8), the curriculum's
                          90.0 (86.6 to 93.0)     10.8 (8.6 to 12.9), drawing uniformly
           So no gain by the order is shown (-2.1, -5.9 to 1.8; -0.7, -2.8 to 1.8), as in toy.py.
           Seed 1, with the curriculum alone: SFT 53.3 and 4.9, + GRPO 85.0 and 9.0
           (+31.7, 25.3 to 38.1; +4.2, 2.0 to 6.3). Seed 2: SFT 47.5 and 2.4, + GRPO 78.8 and 12.5
           (+31.2, 24.4 to 38.5; +10.1, 7.6 to 12.6), uniform 70.8 and 11.1: there the order gains
           (+7.9, 2.4 to 13.9; +1.4, -0.4 to 3.2). The other two arms have not been run
Variants   :cpu  the same as none     :choose  measures p of all candidate tasks, no GRPO
           :gpu  the paper's recipe and its 107 tasks on one GPU
           :smoke  the same code with random weights, a minute

Tasks. Those for training are the ten that the rule of task_choice.py takes: `r1ci table task_choice
--runs runs/smollm2-135m-choose`. For testing it takes one alone (rg_products, p 0.45; of the others
rg_lcm alone is above 0), and fewer than four say little: all twelve candidates stay.

Time in bfloat16 on a processor that has it, partly beside other work: SFT 71 steps of 18 s, 26
minutes; potential 160 questions of 20 answers, 36 minutes; GRPO 24 steps of 108 s (64 trajectories:
half of it samples, half updates), 46 minutes; evaluation of 3 models on 528 questions, 29 minutes.
In float32 about twice as long. `:choose` took two hours.
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
