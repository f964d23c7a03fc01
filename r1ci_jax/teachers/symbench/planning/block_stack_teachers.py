"""Teacher of blocksworld (rebuild stacks of blocks)."""

import collections
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import join_words, literal, pick, read, script, step

Stacks = tuple[str, ...]

_STATES: Final = re.compile(r"Start:\n(.*?)\n\nGoal:\n(.*?)\n\n.*plan of 1 to ([0-9]+) moves", re.S)
_STACK: Final = re.compile(r"^stack [0-9]+: (.*)$", re.MULTILINE)

_DATA: Final = """
        $start = $first
        $goal = $last

        def $moves(state):
            for i, source in enumerate(state):
                for j in range(len(state)):
                    if source and i != j:
                        after = list(state)
                        after[i] = source[:-1]
                        after[j] += source[-1]
                        yield f"Move {source[-1]} from {i + 1} to {j + 1}", tuple(after)
"""
_DISTANCE: Final = """
        def $distance(state):
            \"\"\"Estimate the moves left: 2 for a wrong block, 1 for a missing one.\"\"\"
            wrong = 0
            for stack, wanted in zip(state, $goal):
                right = 0
                while right < min(len(stack), len(wanted)) and stack[right] == wanted[right]:
                    right += 1
                wrong += 2 * len(stack) - 2 * right + len(wanted) - right
            return wrong
"""
_FORMS: Final = {
    "breadth_first": """
        came = {$start: None}
        queue = deque([$start])
        while $goal not in came:
            state = queue.popleft()
            for move, after in $moves(state):
                if after not in came:
                    came[after] = (state, move)
                    queue.append(after)

        $plan = []
        state = $goal
        while came[state]:
            state, move = came[state]
            $plan.append(move)
        print("\\n".join(reversed($plan)))
    """,
    "best_first": """
        queue = [($distance($start), $start, [])]
        seen = {$start}
        while queue:
            _, state, $plan = heapq.heappop(queue)
            if state == $goal:
                break
            for move, after in $moves(state):
                if after not in seen:
                    seen.add(after)
                    longer = $plan + [move]
                    heapq.heappush(queue, (len(longer) + $distance(after), after, longer))
        print("\\n".join($plan))
    """,
    "both_ends": """
        # Every move can be undone, so a path from the goal is walked backwards.
        ahead, behind = {$start: []}, {$goal: []}
        front, back = [$start], [$goal]
        while not ahead.keys() & behind.keys():
            known, border = (ahead, front) if len(front) <= len(back) else (behind, back)
            fresh = []
            for state in border:
                for move, after in $moves(state):
                    if after not in known:
                        if known is behind:
                            _, block, _, i, _, j = move.split()
                            move = f"Move {block} from {j} to {i}"
                        known[after] = known[state] + [move]
                        fresh.append(after)
            border[:] = fresh
        middle = min(ahead.keys() & behind.keys())
        $plan = ahead[middle] + behind[middle][::-1]
        print("\\n".join($plan))
    """,
    "beam": """
        beam, seen = [($start, [])], {$start}
        while not any(state == $goal for state, _ in beam):
            fresh = []
            for state, $plan in beam:
                for move, after in $moves(state):
                    if after not in seen:
                        seen.add(after)
                        fresh.append((after, $plan + [move]))
            beam = sorted(fresh, key=lambda item: $distance(item[0]))[:$width]
        print("\\n".join(next($plan for state, $plan in beam if state == $goal)))
    """,
}
_IMPORTS: Final = {
    "breadth_first": "        from collections import deque\n",
    "best_first": "        import heapq\n",
}
_WORDS: Final = {
    "breadth_first": "A breadth-first search over the states of the stacks finds a shortest plan.",
    "best_first": "A best-first search, led by the number of blocks that are not in place, finds a "
    "short plan.",
    "both_ends": "Searching from start and goal at once keeps the search small, since every move "
    "can be undone.",
    "beam": "Level by level I keep only the states that are nearest to the goal.",
}
_MOST_BLOCKS: Final = {"breadth_first": 6, "both_ends": 8}
"""The largest number of blocks for the forms that visit every state."""


class Blocks(NamedTuple):
    """Stacks at the start and in the goal, and the largest number of moves."""

    start: Stacks
    goal: Stacks
    limit: int


class Blocksworld(Teacher[Blocks]):
    """Rebuilds stacks of blocks by moving one top block at a time."""

    task = "blocksworld"
    forms = tuple(_FORMS)

    @override
    def parse(self, question: str) -> Blocks:
        found = read(_STATES, question)
        start, goal = (
            tuple(text.replace("(empty)", "").replace(" ", "") for text in _STACK.findall(part))
            for part in (found[1], found[2])
        )
        return Blocks(start, goal, int(found[3]))

    def _fields(self, data: Blocks, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            start="start initial begin",
            goal="goal target final",
            moves="moves successors neighbours",
            distance="distance misplaced estimate",
            plan="plan path steps",
        )
        return names | {
            "first": literal(data.start),
            "last": literal(data.goal),
            "limit": data.limit,
            "width": rng.choice((100, 150, 200)),
        }

    @override
    def step(self, data: Blocks, form: str, rng: random.Random) -> Step:
        blocks = len("".join(data.start))
        if blocks > _MOST_BLOCKS.get(form, blocks):
            form = "best_first" if form == "breadth_first" else "beam"
        in_place = _in_place(data)
        opening = rng.choice(
            [
                f"{blocks} blocks in {len(data.start)} stacks have to be rearranged within "
                f"{data.limit} moves; only top blocks move.",
                f"{in_place or 'None'} of the {blocks} blocks stand in their final place, the "
                "others have to be moved.",
                f"With {len(data.start)} stacks every state is a tuple of strings, bottom block "
                "first.",
            ]
        )
        distance = _DISTANCE if "$distance" in _FORMS[form] else ""
        template = _IMPORTS.get(form, "") + _DATA + distance + _FORMS[form]
        return Step(
            words=f"{opening} {_WORDS[form]}",
            code=script(template.rstrip(" "), **self._fields(data, rng)),
        )

    @override
    def check(self, data: Blocks, answer: str, rng: random.Random) -> Step:
        code = """
            stacks = [list(stack) for stack in $first]
            $plan = $claim
            legal = 1 <= len($plan) <= $limit
            for block, source, target in $plan:
                legal = legal and source != target and stacks[source - 1][-1:] == [block]
                if legal:
                    stacks[target - 1].append(stacks[source - 1].pop())
            print(legal and tuple("".join(stack) for stack in stacks) == $last)
        """
        moves = [
            (block, int(source), int(target))
            for block, source, target in re.findall(r"Move (.) from ([0-9]+) to ([0-9]+)", answer)
        ]
        return step(
            rng,
            [
                f"I carry out the {len(moves)} moves and compare the stacks with the goal.",
                "Each move must take a top block, and at the end all stacks must be as wanted.",
            ],
            script(code, **self._fields(data, rng) | {"claim": literal(moves)}),
        )

    @override
    def small_case(self, data: Blocks, rng: random.Random) -> Step:
        code = """
            $start = $first
            $goal = $last
            for number, (stack, wanted) in enumerate(zip($start, $goal), 1):
                right = 0
                while stack[:right + 1] == wanted[:right + 1] and right < len(stack):
                    right += 1
                print(number, "in place:", stack[:right] or "-", "to move:", stack[right:] or "-")
        """
        return step(
            rng,
            [
                "First I see which blocks are in place already and which must be moved.",
                f"What has to move at all? I compare the {len(data.start)} stacks with the goal.",
            ],
            script(code, **self._fields(data, rng)),
        )

    @override
    def first_attempt(self, data: Blocks, rng: random.Random) -> Step:
        # The stacks would be numbered from 0.
        template = _IMPORTS["best_first"] + _DATA + _DISTANCE + _FORMS["best_first"]
        template = template.replace("{i + 1} to {j + 1}", "{i} to {j}").rstrip(" ")
        return Step(
            words=f"I search for moves that turn the {len(data.start)} stacks into the goal.",
            code=script(template, **self._fields(data, rng)),
        )

    @override
    def in_words(self, data: Blocks, rng: random.Random) -> tuple[str, str] | None:
        if len("".join(data.start)) > 5:
            return None
        lines: list[str] = []
        moves = _shortest(data)
        stacks = list(data.start)
        for block, source, target in moves:
            stacks[source - 1] = stacks[source - 1][:-1]
            stacks[target - 1] += block
            shown = ", ".join(stack or "empty" for stack in stacks)
            lines.append(f"{block} goes from {source} to {target} ({shown})")
        shown = join_words([stack or "empty" for stack in data.goal])
        opening = rng.choice(["The stacks are to become", "Wanted, from stack 1 on, are"])
        return (
            f"{opening} {shown}. {'; '.join(lines)}. That is the goal.",
            "\n".join(f"Move {block} from {source} to {target}" for block, source, target in moves),
        )

    @override
    def wrong_answer(self, data: Blocks, answer: str, rng: random.Random) -> str | None:
        lines = answer.splitlines()
        return "\n".join(lines[:-1]) if len(lines) > 1 else None


def _in_place(data: Blocks) -> int:
    """Count the blocks that stand right with all blocks beneath."""
    count = 0
    for stack, wanted in zip(data.start, data.goal, strict=True):
        height = 0
        while height < min(len(stack), len(wanted)) and stack[height] == wanted[height]:
            height += 1
        count += height
    return count


def _shortest(data: Blocks) -> list[tuple[str, int, int]]:
    """Return a shortest plan: block, source and target, stacks counted from 1."""
    plans: dict[Stacks, list[tuple[str, int, int]]] = {data.start: []}
    queue = collections.deque([data.start])
    while data.goal not in plans:
        state = queue.popleft()
        for i, stack in enumerate(state):
            for j in range(len(state)):
                if not stack or i == j:
                    continue
                after = list(state)
                after[i], after[j] = stack[:-1], state[j] + stack[-1]
                if tuple(after) not in plans:
                    plans[tuple(after)] = [*plans[state], (stack[-1], i + 1, j + 1)]
                    queue.append(tuple(after))
    return plans[data.goal]


TEACHERS: tuple[Teacher[Any], ...] = (Blocksworld(),)
