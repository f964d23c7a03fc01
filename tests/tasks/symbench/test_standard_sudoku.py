"""Sudoku: uniqueness by another solver, the scorer against every broken rule."""

import itertools
import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import standard_sudoku

TASK = standard_sudoku.StandardSudoku()
BASE = [[(3 * r + r // 3 + c) % 9 + 1 for c in range(9)] for r in range(9)]


def examples(count: int = 20, seed: int = 3) -> list[Example]:
    return [TASK.generate(i, seed, level) for level in TASK.difficulties for i in range(count)]


def item(grid: list[list[int]]) -> Example:
    return TASK.item(0, "?", {"grid": grid}, None).example


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def solutions(grid: list[list[int]], limit: int = 2) -> list[list[list[int]]]:
    """Solutions by exact cover: 81 cells, and 9 digits in 27 units, each covered once."""
    covers: dict[tuple[int, int, int], list[tuple[str, int, int]]] = {}
    for r, c, d in itertools.product(range(9), range(9), range(1, 10)):
        covers[r, c, d] = [("c", r, c), ("r", r, d), ("k", c, d), ("b", r // 3 * 3 + c // 3, d)]
    open_: dict[tuple[str, int, int], set[tuple[int, int, int]]] = {}
    for choice, columns in covers.items():
        for column in columns:
            open_.setdefault(column, set()).add(choice)

    def choose(choice: tuple[int, int, int]) -> list[set[tuple[int, int, int]]]:
        removed = []
        for column in covers[choice]:
            for rival in open_[column]:
                for other in covers[rival]:
                    if other != column:
                        open_[other].remove(rival)
            removed.append(open_.pop(column))
        return removed

    def restore(choice: tuple[int, int, int], removed: list[set[tuple[int, int, int]]]) -> None:
        for column in reversed(covers[choice]):
            open_[column] = removed.pop()
            for rival in open_[column]:
                for other in covers[rival]:
                    if other != column:
                        open_[other].add(rival)

    found: list[list[list[int]]] = []
    chosen: list[tuple[int, int, int]] = []

    def search() -> None:
        if not open_:
            whole = [[0] * 9 for _ in range(9)]
            for r, c, d in chosen:
                whole[r][c] = d
            found.append(whole)
            return
        column = min(open_, key=lambda key: len(open_[key]))
        for choice in sorted(open_[column]):
            if len(found) < limit:
                chosen.append(choice)
                removed = choose(choice)
                search()
                restore(choice, removed)
                chosen.pop()

    for r, c in itertools.product(range(9), range(9)):
        if grid[r][c]:
            chosen.append((r, c, grid[r][c]))
            choose(chosen[-1])
    search()
    return found


def shown(question: str) -> list[list[int]]:
    rows = re.findall(r"^[1-9.](?: [1-9.]){8}$", question, re.MULTILINE)
    return [[0 if cell == "." else int(cell) for cell in row.split()] for row in rows]


def test_questions_have_exactly_one_solution_and_it_is_the_gold() -> None:
    for example in examples(8):
        grid = shown(example.question)
        assert grid == json.loads(example.metadata)["grid"]
        (only,) = solutions(grid)
        assert TASK.gold(example) == "\n".join(" ".join(map(str, row)) for row in only)
        blanks = sum(row.count(0) for row in grid)
        assert blanks == {1: 28, 2: 36, 3: 44, 4: 50, 5: 54}[example.difficulty]


def test_every_solution_of_an_open_grid_scores() -> None:
    open_grid = [[0] * 9 for _ in range(9)]
    open_grid[0][0] = 1
    swapped = [[{1: 1, 2: 3, 3: 2}.get(d, d) for d in row] for row in BASE]
    for grid in (BASE, swapped, [list(column) for column in zip(*BASE, strict=True)]):
        assert correct(item(open_grid), json.dumps(grid))


def test_each_rule_is_checked() -> None:
    empty = [[0] * 9 for _ in range(9)]
    example = item(empty)
    assert correct(example, json.dumps(BASE))
    rows_only = [list(range(1, 10))] * 9
    columns_only = [[d] * 9 for d in range(1, 10)]
    no_boxes = [[(r + c) % 9 + 1 for c in range(9)] for r in range(9)]
    boxes_only = [[r % 3 * 3 + c % 3 + 1 for c in range(9)] for r in range(9)]
    for grid in (rows_only, columns_only, no_boxes, boxes_only):
        assert not correct(example, json.dumps(grid))
    given = [row[:] for row in empty]
    given[8][8] = BASE[8][8] % 9 + 1
    assert not correct(item(given), json.dumps(BASE))
    for r, c in itertools.product(range(9), range(9)):
        changed = [row[:] for row in BASE]
        changed[r][c] = changed[r][c] % 9 + 1
        assert not correct(example, json.dumps(changed))


def test_forms_of_an_answer() -> None:
    example = item([[0] * 9 for _ in range(9)])
    for separator in ("", " ", ",", ", "):
        assert correct(example, "\n".join(separator.join(map(str, row)) for row in BASE))
    assert correct(example, f" {json.dumps(BASE)}\n")
    assert correct(example, json.dumps(BASE).replace(" ", ""))
    lines = ["".join(map(str, row)) for row in BASE]
    flat = json.dumps([d for row in BASE for d in row])
    strings = json.dumps([list(line) for line in lines])
    floats = json.dumps(BASE).replace("1", "1.0", 1)
    wrong = ("".join(lines), " ".join(lines), flat, strings, floats, json.dumps(BASE[:8]))
    for text in (*wrong, "\n".join(lines[:8]), "\n".join([*lines, lines[0]]), "\n\n".join(lines)):
        assert not correct(example, text)
    for text in (f"{json.dumps(BASE)} or 1", json.dumps({"a": BASE}), "[[]]", "[1,2]", "[" * 300):
        assert not correct(example, text)
    assert not correct(example, "\n".join(lines).replace("1", "\u0661"))


def test_released_grids_are_read(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "standard_sudoku.jsonl").read_text().splitlines()
    for number, row in enumerate(map(json.loads, lines)):
        read = TASK.parse_released(number, row["question"], row["solution"])
        assert json.loads(read.example.metadata)["grid"] == row["solution"]["puzzle"]


def test_released_items_of_another_form_are_refused() -> None:
    with pytest.raises(UserError, match="released item 7 of standard_sudoku"):
        TASK.parse_released(7, "1, , , , , , , , \n", {"solution": []})
