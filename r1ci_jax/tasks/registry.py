"""All tasks by name. A task's module is imported on first use of the task."""

import difflib
import functools
import importlib
from typing import Final

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import user_modules
from r1ci_jax.tasks import train_test_split
from r1ci_jax.tasks.base import Task
from r1ci_jax.tasks.bbh.bbh_files import PUBLISHED as _BBH
from r1ci_jax.tasks.reasoning_gym.gym_algorithms import CHOSEN as _RG_ALGORITHMS
from r1ci_jax.tasks.reasoning_gym.gym_arithmetic import CHOSEN as _RG_ARITHMETIC
from r1ci_jax.tasks.reasoning_gym.gym_puzzles import CHOSEN as _RG_PUZZLES

_SYMBENCH: Final = {
    "2048": "tile_2048:Tile2048",
    "blocksworld": "blocksworld:Blocksworld",
    "boxlift": "boxlift:BoxLift",
    "boxnet": "boxnet:BoxNet",
    "combinatorial_calculation": "combinatorial_calculation:CombinatorialCalculation",
    "constrained_linear_arrangement": "constrained_linear_arrangement:ConstrainedLinearArrangement",
    "cryptanalysis": "cryptanalysis:Cryptanalysis",
    "eight_queens": "eight_queens:EightQueens",
    "game24": "game24:Game24",
    "gridworld": "gridworld:GridWorld",
    "letter_logic_diagram": "letter_logic_diagram:LetterLogicDiagram",
    "letters": "letters:Letters",
    "light_puzzles": "light_puzzles:LightPuzzles",
    "logic_puzzle": "logic_puzzle:LogicPuzzle",
    "logical_equation": "logical_equation:LogicalEquation",
    "mahjong_pattern": "mahjong_pattern:MahjongPattern",
    "matrix_transformation": "matrix_transformation:MatrixTransformation",
    "new_operator": "new_operator:NewOperator",
    "number_multiply": "number_multiply:NumberMultiply",
    "pattern_recognition": "pattern_recognition:PatternRecognition",
    "permutations_and_combinations": "permutations_and_combinations:PermutationsAndCombinations",
    "pooling": "pooling:Pooling",
    "reversi": "reversi:Reversi",
    "standard_sudoku": "standard_sudoku:StandardSudoku",
    "statistical_counting": "statistical_counting:StatisticalCounting",
    "string_deletion_and_modification": "string_deletion_and_modification:"
    "StringDeletionAndModification",
    "string_insertion": "string_insertion:StringInsertion",
    "string_splitting": "string_splitting:StringSplitting",
    "string_synthesis": "string_synthesis:StringSynthesis",
    "synthesis_decomposition": "synthesis_decomposition:SynthesisDecomposition",
}

_SUITES: Final[dict[str, dict[str, str]]] = {
    "toy": {
        "toy_arithmetic": "r1ci_jax.tasks.toy.arithmetic:Arithmetic",
        "toy_letters": "r1ci_jax.tasks.toy.letter_counting:Letters",
        "toy_sorting": "r1ci_jax.tasks.toy.sorting:Sorting",
        "toy_gcd_lcm": "r1ci_jax.tasks.toy.gcd_lcm:GcdLcm",
        "toy_base_conversion": "r1ci_jax.tasks.toy.base_conversion:BaseConversion",
        "toy_search": "r1ci_jax.tasks.toy.search:Search",
    },
    "symbench": {
        name: f"r1ci_jax.tasks.symbench.{location}" for name, location in _SYMBENCH.items()
    }
    | dict.fromkeys(
        ("gsm_hard", "math_geometry", "math_counting_and_probability"),
        "r1ci_jax.tasks.math.math_tasks:make",
    ),
    "extra": {
        "gridworld_moves": "r1ci_jax.tasks.extra.gridworld_moves:GridWorldMoves",
        "boxnet_actions": "r1ci_jax.tasks.extra.boxnet_actions:BoxNetActions",
    },
    "bbh": {f"bbh_{file}": "r1ci_jax.tasks.bbh.bbh_tasks:make" for file in _BBH},
    "reasoning_gym": {
        f"rg_{dataset}": "r1ci_jax.tasks.reasoning_gym.gym_tasks:make"
        for chosen in (_RG_ALGORITHMS, _RG_ARITHMETIC, _RG_PUZZLES)
        for dataset in chosen
    },
    "ood": dict.fromkeys(train_test_split.OUT_OF_DISTRIBUTION, "r1ci_jax.tasks.ood.ood_tasks:make"),
}
"""The constructor of each task: a class, or `make`, which takes the name."""

_ADDED: Final[dict[str, tuple[str, str]]] = {}

PAPER_SUITES: Final = ("symbench", "bbh", "reasoning_gym")
"""The paper's 144 tasks; the others are additions of this project."""


def suites() -> tuple[str, ...]:
    """Return the names of the suites."""
    return tuple(_SUITES)


def names(*, suite: str | None = None) -> tuple[str, ...]:
    """Return the names of all tasks, or of one suite's, in the order of the registry."""
    if suite is not None and suite not in _SUITES:
        raise UserError(f"unknown suite {suite!r}; there are: {', '.join(_SUITES)}")
    chosen = _SUITES.values() if suite is None else [_SUITES[suite]]
    return tuple(name for tasks in chosen for name in tasks)


def suite_of(name: str) -> str | None:
    """Return the suite of a task; None for a name that no suite has. Nothing is imported."""
    return next((suite for suite, tasks in _SUITES.items() if name in tasks), None)


def register(name: str, location: str, *, suite: str) -> None:
    """Add a user's task: `location` is "package.module:Class", and the class takes no arguments.

    Raises:
        UserError: A task of that name exists.
    """
    if name in names():
        raise UserError(f"there is a task {name!r} already; choose another name")
    _SUITES.setdefault(suite, {})[name] = location
    _ADDED[name] = (location, suite)


def unregister(name: str) -> None:
    """Forget a task that `register` added."""
    _location, suite = _ADDED.pop(name)
    del _SUITES[suite][name]
    if not _SUITES[suite]:
        del _SUITES[suite]
    get.cache_clear()


def registered() -> dict[str, tuple[str, str]]:
    """Return path and suite of tasks that `register` added; other processes do not know them."""
    return dict(_ADDED)


@functools.cache
def get(name: str) -> Task:
    """Return the task of that name."""
    for tasks in _SUITES.values():
        if name in tasks:
            return _make(name, tasks[name])
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else "see r1ci tasks list"
    raise UserError(f"unknown task {name!r}; {hint}")


def _make(name: str, location: str) -> Task:
    task = _make_added(name, location) if name in _ADDED else _make_built_in(name, location)
    if not isinstance(task, Task) or task.name != name:
        raise UserError(
            f"{location} is no task of the name {name!r}; correct the class or its name"
        )
    task.split = train_test_split.split_of_task(name)
    return task


def _make_built_in(name: str, location: str) -> Task:
    module, _, attribute = location.partition(":")
    maker = getattr(importlib.import_module(module), attribute)
    return maker(name) if attribute == "make" else maker()


def _make_added(name: str, location: str) -> object:
    maker = user_modules.load(location, what="the task")
    with user_modules.explain(location):
        return maker(name) if location.endswith(":make") else maker()
