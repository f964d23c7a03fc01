"""The tasks alone: questions from a seed, answers scored by rules.

    python examples/tasks_alone.py

No JAX is imported, no model is needed. `r1ci tasks list` names all tasks.
"""

from r1ci_jax.tasks import registry


def main() -> None:
    """Show a question, score answers to it, and count what a constant answer is worth."""
    task = registry.get("blocksworld")
    example = task.generate(index=0, seed=0, difficulty=1)
    print(example.question)

    # `score` takes a text as a model writes it, and `gold` returns such a text. `example.answer` is
    # the same as JSON text: do not score that.
    gold = task.gold(example)
    assert gold is not None, "this task stores an answer of every question"
    print("\ngold:   ", gold.replace("\n", "; "))
    print("verdict:", task.score(example, gold))
    print("wrong:  ", task.score(example, "Move nothing"))

    # A question is the same in every process: task, seed, difficulty and index decide it.
    assert task.generate(index=0, seed=0, difficulty=1) == example

    for name in registry.names(suite="toy"):
        task = registry.get(name)
        examples = [task.generate(index=index, seed=0, difficulty=2) for index in range(50)]
        right = sum(task.score(each, "12").correct for each in examples)
        print(f"{name:20} the answer 12 is right {right} of {len(examples)} times")


if __name__ == "__main__":
    main()
