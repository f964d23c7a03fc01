"""An experiment file of two tasks, for commands that run whole."""


def source(tasks: tuple[str, str], sft_per_task: int) -> str:
    """Return the text of the file."""
    return f"""
from r1ci_jax.config import DatasetConfig, Experiment, ModelConfig, SftConfig, TurnLimits

def get_config(variant=""):
    return Experiment(
        name="tiny",
        model=ModelConfig(preset="toy", tokenizer_vocab=400),
        dataset=DatasetConfig(
            tasks={tasks}, difficulties=(1,),
            sft_per_task={sft_per_task}, grpo_per_task=4, eval_per_task=4,
        ),
        sft=SftConfig(epochs=1, batch_size=8),
        limits=TurnLimits(max_new_tokens=40, max_observation_tokens=40),
    )
"""
