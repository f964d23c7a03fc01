"""Orders of the questions: whose groups hold what, and which of them are a control for which."""

import collections
import random
import typing

import pytest

from r1ci_jax.config import Order
from r1ci_jax.curriculum import orders, potential
from r1ci_jax.data.records import GradedExample
from r1ci_jax.tasks.base import Example

BOUNDS = (0.64, 0.48, 0.32)
REGROUPED: tuple[Order, ...] = ("equal_groups", "difficulty", "accuracy", "random_subset")


def graded(number: int, correct: int, level: int = 1) -> GradedExample:
    value = potential.potential(correct / 20)
    return GradedExample(
        example=Example(
            id=f"t/{number:03}", task="t", question="", answer="", difficulty=level
        ),
        group=potential.group_number(value, BOUNDS),
        accuracy=correct / 20,
        potential=value,
    )  # fmt: skip


# p = 0, .05, ... 1: 13 in group 1, 2, 2, and 4 in group 4; levels 1 to 3 in turn.
QUESTIONS = [graded(number, number, 1 + number % 3) for number in range(21)]


def groups(rows: list[GradedExample]) -> dict[int, list[GradedExample]]:
    found: dict[int, list[GradedExample]] = collections.defaultdict(list)
    for row in rows:
        found[row.group].append(row)
    return found


def regroup(order: Order, seed: int = 0) -> dict[int, list[GradedExample]]:
    return groups(orders.regroup(order, QUESTIONS, num_groups=4, seed=seed))


def test_every_order_is_one_or_the_other() -> None:
    kept = {order for order in typing.get_args(Order) if orders.keeps_groups(order)}
    assert kept == {"curriculum", "uniform", "online"}
    assert set(typing.get_args(Order)) - kept == set(REGROUPED)


@pytest.mark.parametrize("order", REGROUPED)
def test_an_order_holds_every_question_once(order: Order) -> None:
    made = orders.regroup(order, QUESTIONS, num_groups=4, seed=0)
    assert sorted(row.example.id for row in made) == [row.example.id for row in QUESTIONS]
    known = {row.example.id: row for row in QUESTIONS}
    assert all(row.potential == known[row.example.id].potential for row in made)
    # The sequence of the questions says nothing; the seed decides between equal ones.
    shuffled = random.Random(5).sample(QUESTIONS, len(QUESTIONS))
    assert orders.regroup(order, shuffled, num_groups=4, seed=0) == made
    again = orders.regroup(order, QUESTIONS, num_groups=4, seed=1)
    assert (again == made) == (order == "accuracy")  # where no two are equal


@pytest.mark.parametrize("order", REGROUPED[:3])
def test_groups_of_equal_size(order: Order) -> None:
    assert [len(regroup(order)[number]) for number in (1, 2, 3, 4)] == [6, 5, 5, 5]


def test_equal_groups_fall_in_potential() -> None:
    made = regroup("equal_groups")
    # From the largest: Π of k = 10, 9 and 11, 8 and 12, then one of 7 and 13.
    assert [each.potential for each in made[1]] == [1.0, 0.99, 0.99, 0.96, 0.96, 0.91]
    for earlier, later in ((1, 2), (2, 3), (3, 4)):
        assert min(x.potential for x in made[earlier]) >= max(x.potential for x in made[later])


def test_difficulty_rises_in_level() -> None:
    levels = [[each.example.difficulty for each in regroup("difficulty")[n]] for n in (1, 2, 3, 4)]
    assert levels == [[1] * 6, [1] + [2] * 4, [2] * 3 + [3] * 2, [3] * 5]


def test_accuracy_falls_in_pass_rate() -> None:
    rates = [[each.accuracy for each in regroup("accuracy")[n]] for n in (1, 2, 3, 4)]
    assert rates == [
        [1.0, 0.95, 0.9, 0.85, 0.8, 0.75],
        [0.7, 0.65, 0.6, 0.55, 0.5],
        [0.45, 0.4, 0.35, 0.3, 0.25],
        [0.2, 0.15, 0.1, 0.05, 0.0],
    ]


def test_random_subsets_are_as_large_as_the_potential_groups() -> None:
    made, measured = regroup("random_subset"), groups(QUESTIONS)
    sizes = {number: len(rows) for number, rows in made.items()}
    assert sizes == {number: len(rows) for number, rows in measured.items()}
    assert sizes == {1: 13, 2: 2, 3: 2, 4: 4}
    # A question is as likely to be in the first group as it is large: 13 of 21.
    counts = collections.Counter(
        row.example.id for seed in range(400) for row in regroup("random_subset", seed)[1]
    )
    # Standard deviation of a count: sqrt(400 · 13/21 · 8/21) = 9.7.
    assert all(abs(counts[row.example.id] - 400 * 13 / 21) < 45 for row in QUESTIONS)


def test_equal_questions_are_dealt_out_whatever_their_task() -> None:
    same = [graded(number, 10) for number in range(40)]
    made = groups(orders.regroup("equal_groups", same, num_groups=4, seed=0))
    assert [len(made[number]) for number in (1, 2, 3, 4)] == [10, 10, 10, 10]
    assert [row.example.id for row in made[1]] != [row.example.id for row in same[:10]]


def test_fewer_questions_than_groups_leave_the_rest_empty() -> None:
    made = orders.regroup("accuracy", QUESTIONS[:2], num_groups=4, seed=0)
    assert [row.group for row in made] == [1, 3]
