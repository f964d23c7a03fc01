"""The whole method on SmolLM2-135M-Instruct: real weights, real tasks, two CPU cores.

Question   Do SFT and GRPO with a curriculum raise a real model's accuracy on tasks that it never
           trained on, and is it the curriculum's order that does? Small enough for three seeds.
Command    r1ci weights import SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2-135m-instruct
           r1ci run experiments/smollm2_135m.py --config.seed=0 --workdir runs/smollm2-135m-0
           or with the published weights:
           --config.model.checkpoint=HuggingFaceTB/SmolLM2-135M-Instruct
Needs      2 CPU cores, 6 GiB, by arithmetic 12 hours a seed (below); every stage is resumable
Expect     not known yet. SFT should teach format and scripts; GRPO should raise p where scripts
           half work, as in toy.py. By toy.py the order of the questions makes no difference, which
           three seeds with four arms can show to within a few points only
Variants   :cpu  the same as none     :choose  measures p of all candidate tasks, no GRPO
           :gpu  the paper's recipe and its 107 tasks on one GPU
           :smoke  the same code with random weights, a minute

Tasks. The constants hold all candidates of small_recipe.py until `:choose` was run; then those
that `r1ci table task_choice --runs runs/smollm2-135m-choose` prints.

Time, at 160 tokens/s of training and 320 of decoding (both measured, float32, idle machine; in
bfloat16 290 and 470 on a processor that has it): SFT 12 tasks x 60 demonstrations x 210
tokens x 3 epochs, 45 minutes; potential 12 x 16 questions x 20 answers x 120 tokens, 20 minutes; a
step of GRPO 64 x 120 tokens sampled and, padded, 64 x 265 trained, 2 minutes, 4 arms of 80 steps
each, 11 hours; evaluation of 6 models on 18 x 24 questions, 15 minutes. `:choose` takes 1.5 hours.
"""

from experiments import small_recipe
from r1ci_jax.config import Experiment

VARIANTS = small_recipe.VARIANTS

TRAIN_TASKS = small_recipe.TRAIN_CANDIDATES
TEST_TASKS = small_recipe.TEST_CANDIDATES

MODEL = small_recipe.SmallModel(
    name="smollm2-135m",
    directory="models/smollm2-135m-instruct",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    train_tasks=TRAIN_TASKS,
    test_tasks=TEST_TASKS,
    sft_lr=1e-3,
    sft_epochs=3,
    grpo_lr=1e-4,
    steps_per_stage=(20, 20, 20, 20),
    checkpoint_every=5,
    arms=("grpo_curriculum", "grpo_uniform", "grpo_uniform_refill", "grpo_random_subset"),
)


def get_config(variant: str = "") -> Experiment:
    """The run on a CPU, or a variant."""
    return small_recipe.get_config(variant, MODEL)
