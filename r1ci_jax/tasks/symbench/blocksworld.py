"""Rebuild stacks of blocks by moving one top block at a time."""

import heapq
import itertools
import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

Stacks = tuple[str, ...]
"""The blocks of every stack from bottom to top, one letter per block."""
Move = tuple[str, int, int]
"""Block, source and destination, with stacks counted from 1."""

RELEASED_DEFECTS: Final[dict[str, int]] = {"the start is the goal already": 1}
"""Items that require no move at all, which the released checker does not accept as an answer."""

_LEVELS: Final = {1: (4, 3, 3), 2: (5, 3, 4), 3: (6, 4, 5), 4: (8, 4, 7), 5: (11, 5, 9)}
"""Blocks, stacks, least number of moves of the stored plan."""
_MOVES_A_BLOCK: Final = 4
_PATIENCE: Final = 4_000
"""The number of states after which the search for a plan gives up."""
_RELEASED_PATIENCE: Final = 100_000
"""The same for released items, which cannot be drawn again."""
_RELEASED_LIMIT: Final = 1_000

_LINE = re.compile(r"Move ([A-Z]) from ([0-9]{1,2}) to ([0-9]{1,2})")
_STACK = re.compile(r"stack *(\d+):(.*)")

_QUESTION: Final = """\
Blocks stand in {count} stacks, numbered 1 to {count}. Every block has a letter. The stacks are \
written from the bottom block on the left to the top block on the right.

Start:
{start}

Goal:
{goal}

One move takes the top block of a stack and puts it on top of another stack or on an empty one. \
There are no places beside the {count} stacks. Find moves that lead from the start to the goal; \
at the end every stack must hold exactly the blocks shown, in the order shown. Any such plan of 1 \
to {limit} moves is right.

Answer with the moves in their order, one on each line, in the form
Move K from 1 to 2
which takes block K from the top of stack 1 and puts it on stack 2."""


def _wrong_blocks(stack: str, goal: str) -> int:
    """Return the blocks of a stack that are on something that the goal does not have there."""
    for height, block in enumerate(stack):
        if height >= len(goal) or goal[height] != block:
            return len(stack) - height
    return 0


def _distance(stacks: Stacks, goal: Stacks) -> int:
    """Estimate the remaining work: blocks to be moved, and blocks that obstruct the next one."""
    places = {block: (stack, up) for stack in stacks for up, block in enumerate(stack, 1)}
    cost = 0
    for stack, wanted in zip(stacks, goal, strict=True):
        wrong = _wrong_blocks(stack, wanted)
        cost += 3 * wrong
        if len(stack) - wrong < len(wanted):
            beneath, up = places[wanted[len(stack) - wrong]]
            cost += 2 * (wrong + len(beneath) - up)
    return cost


def _steps(stacks: Stacks) -> list[tuple[Move, Stacks]]:
    found: list[tuple[Move, Stacks]] = []
    for source, stack in enumerate(stacks):
        for target in range(len(stacks)):
            if stack and target != source:
                after = list(stacks)
                after[source], after[target] = stack[:-1], stacks[target] + stack[-1]
                found.append(((stack[-1], source + 1, target + 1), tuple(after)))
    return found


def plan(start: Stacks, goal: Stacks, *, patience: int = _PATIENCE) -> list[Move] | None:
    """Find moves from start to goal by best-first search, not always the fewest.

    None: there are none, or the search gave up after `patience` states.
    """
    came: dict[Stacks, tuple[Stacks, Move] | None] = {start: None}
    queue = [(0, 0, 0, start)]
    order = itertools.count(1)
    for _ in range(patience):
        if not queue:
            return None
        _, _, length, here = heapq.heappop(queue)
        if here == goal:
            return _trace(came, here)
        for move, after in _steps(here):
            if after not in came:
                came[after] = here, move
                cost = length + 1 + _distance(after, goal)
                heapq.heappush(queue, (cost, next(order), length + 1, after))
    return None


def _trace(came: dict[Stacks, tuple[Stacks, Move] | None], here: Stacks) -> list[Move]:
    moves: list[Move] = []
    while (step := came[here]) is not None:
        here, move = step
        moves.append(move)
    return moves[::-1]


def _deal(rng: random.Random, blocks: int, stacks: int) -> Stacks:
    """Deal blocks in random order; every way to divide them among the stacks is equally likely."""
    letters = [chr(ord("A") + index) for index in range(blocks)]
    rng.shuffle(letters)
    cuts = sorted(rng.sample(range(blocks + stacks - 1), stacks - 1))
    lengths = [
        after - before - 1 for before, after in itertools.pairwise([-1, *cuts, blocks + stacks - 1])
    ]
    rest = iter(letters)
    return tuple("".join(itertools.islice(rest, length)) for length in lengths)


def _format_stacks(stacks: Stacks) -> str:
    return "\n".join(
        f"stack {number}: {' '.join(blocks) or '(empty)'}"
        for number, blocks in enumerate(stacks, 1)
    )


def _question(start: Stacks, goal: Stacks, limit: int) -> str:
    return _QUESTION.format(
        count=len(start), start=_format_stacks(start), goal=_format_stacks(goal), limit=limit
    )


def format_plan(moves: list[Move]) -> str:
    """Format the plan as an answer."""
    return "\n".join(f"Move {block} from {source} to {target}" for block, source, target in moves)


class Blocksworld(symbench_task.SymbenchTask):
    """Rebuild stacks of blocks by moving one top block at a time."""

    name = "blocksworld"
    kind = "planning"
    answer_format = "one move a line: Move K from 1 to 2"
    many_answers = True
    released_files = "Blocksworld_dataset/*/blocksworld_task.txt"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        blocks, stacks, least = _LEVELS[difficulty]
        limit = _MOVES_A_BLOCK * blocks
        while True:
            start, goal = _deal(rng, blocks, stacks), _deal(rng, blocks, stacks)
            moves = plan(start, goal)
            if moves is not None and least <= len(moves) <= limit:
                break
        return Puzzle(
            question=_question(start, goal, limit),
            answer=format_plan(moves),
            metadata={"start": start, "goal": goal, "limit": limit},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        if len(answer_text) > answers.MAX_PLAN_CHARS:
            return symbench_task.wrong_verdict("the answer is far too long")
        metadata = json.loads(example.metadata)
        lines = answer_text.strip().splitlines()
        if not 1 <= len(lines) <= metadata["limit"]:
            return symbench_task.wrong_verdict(f"{len(lines)} moves, not 1 to {metadata['limit']}")
        stacks = [list(blocks) for blocks in metadata["start"]]
        for line in lines:
            problem = _move(stacks, line.strip())
            if problem:
                return symbench_task.wrong_verdict(f"{answers.format_answer(line)}: {problem}")
        if ["".join(blocks) for blocks in stacks] != metadata["goal"]:
            return symbench_task.wrong_verdict("the moves do not end in the goal")
        return symbench_task.right_verdict(f"{len(lines)} moves lead to the goal")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        """Read one item.

        Args:
            number: The number of the item.
            question: Empty, as the release stores none; the question is then generated.
            solution: The text of blocksworld_task.txt, or an object with it under `state` or
                `text`.

        Raises:
            UserError: The text does not contain two states.
        """
        fields = solution if isinstance(solution, dict) else {"text": solution}
        text = fields.get("state", fields.get("text"))
        first, goal_mark, second = str(text).partition("Goal State:")
        start, goal = _stacks(first), _stacks(second)
        blocks, wanted = "".join(start), "".join(goal)
        if not goal_mark or not start or sorted(blocks) != sorted(wanted):
            raise self.malformed(number, "there are not two states of the same blocks")
        if len(goal) > len(start) or len(set(blocks)) != len(blocks):
            raise self.malformed(number, "the goal has too many stacks or a block twice")
        # Stacks that the goal does not name stay empty.
        goal += ("",) * (len(start) - len(goal))
        metadata = {"start": start, "goal": goal, "limit": _RELEASED_LIMIT}
        return self.item(
            number, question or _question(start, goal, _RELEASED_LIMIT), metadata, None
        )

    @override
    def solve(self, example: Example) -> str | None:
        metadata = json.loads(example.metadata)
        start, goal = tuple(metadata["start"]), tuple(metadata["goal"])
        moves = plan(start, goal, patience=_RELEASED_PATIENCE)
        if moves == []:
            # At least one move is asked for: a block goes to another stack and back.
            block, source, target = _steps(start)[0][0]
            moves = [(block, source, target), (block, target, source)]
        return None if moves is None else format_plan(moves)


def _move(stacks: list[list[str]], line: str) -> str:
    """Apply one line; return the error, if any."""
    match = _LINE.fullmatch(line)
    if match is None:
        return "not of the form Move K from 1 to 2"
    block, source, target = match[1], int(match[2]) - 1, int(match[3]) - 1
    if not (0 <= source < len(stacks) and 0 <= target < len(stacks)):
        return "there is no such stack"
    if source == target:
        return "source and destination are the same stack"
    if not stacks[source] or stacks[source][-1] != block:
        return "the block is not on top of that stack"
    stacks[target].append(stacks[source].pop())
    return ""


def _stacks(text: str) -> Stacks:
    found = [(int(number), "".join(blocks.split())) for number, blocks in _STACK.findall(text)]
    numbers = [number for number, _ in found]
    return tuple(blocks for _, blocks in found) if numbers == sorted(set(numbers)) else ()
