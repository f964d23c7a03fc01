"""Teachers of puzzles: A::B programs, alternating strings and the coloring of graphs."""

import ast
import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import (
    TemplateTeacher,
    TextTeacher,
    count_noun,
    read,
    wrap_items,
)


class TokenSystem(TextTeacher):
    """Computes an A::B program."""

    task = "rg_ab"
    forms = ("rewrite_list", "stack", "replace_text", "separate")
    pattern = r"consider the following program:\n\n([AB# ]+)\n\nReturn"
    names: ClassVar = {"tokens": ("tokens", "program", "state")}
    scripts: ClassVar = {
        "rewrite_list": """
            $tokens = "$data".split()
            rules = {
                ("A#", "#A"): [],
                ("A#", "#B"): ["#B", "A#"],
                ("B#", "#A"): ["#A", "B#"],
                ("B#", "#B"): [],
            }
            i = 0
            while i < len($tokens) - 1:
                pair = tuple($tokens[i:i + 2])
                if pair in rules:
                    $tokens[i:i + 2] = rules[pair]
                    i = max(i - 1, 0)  # the new neighbor on the left may fit now
                else:
                    i += 1
            print(*$tokens)
            """,
        "stack": """
            $tokens = "$data".split()
            left, waiting = [], []
            for token in $tokens:
                if token.endswith("#"):
                    waiting.append(token)
                    continue
                # A token that faces left travels through the waiting ones, or meets its like.
                for i in range(len(waiting) - 1, -1, -1):
                    if waiting[i][0] == token[1]:
                        del waiting[i]
                        break
                else:
                    left.append(token)
            print(*left, *waiting)
            """,
        "replace_text": """
            $tokens = "$data"
            rules = {"A# #A": "", "B# #B": "", "A# #B": "#B A#", "B# #A": "#A B#"}
            changed = True
            while changed:
                changed = False
                for old, new in rules.items():
                    if old in $tokens:
                        $tokens = " ".join($tokens.replace(old, new, 1).split())
                        changed = True
            print($tokens)
            """,
        "separate": """
            $tokens = "$data".split()
            moved = True
            while moved:
                moved, after = False, []
                for token in $tokens:
                    if after and after[-1][1] == "#" and token[0] == "#":
                        moved = True
                        other = after.pop()
                        if other[0] != token[1]:
                            after += [token, other]
                    else:
                        after.append(token)
                $tokens = after
            print(" ".join($tokens))
            """,
    }
    methods: ClassVar = {
        "rewrite_list": "I rewrite the first pair that fits a rule and step back one place.",
        "stack": "A token facing left passes unlike ones that face right and cancels a like one.",
        "replace_text": "The rules are replacements in the text, applied until none fits.",
        "separate": "I sweep over the tokens, rewriting facing pairs, until nothing moves.",
    }
    exploring = (
        (
            "First I see where two tokens face each other.",
            "Which of the $pairs neighboring pairs can be rewritten at the start?",
        ),
        """
        $tokens = "$data".split()
        facing = [f"{a} {b}" for a, b in zip($tokens, $tokens[1:]) if a[-1] == "#" == b[0]]
        print(len(facing), "facing pairs:", ", ".join(facing))
        """,
    )
    slip = (
        ("One sweep over the pairs applies the rules.", "I go through the tokens once."),
        """
        $tokens = "$data".split()
        out = []
        for token in $tokens:
            if out and out[-1][-1] == "#" == token[0]:
                other = out.pop()
                if other[0] != token[1]:
                    out += [token, other]
            else:
                out.append(token)
        print(*out)
        """,
    )

    @override
    def first_attempt(self, data: str, rng: random.Random) -> Step | None:
        once = _sweep(data.split())
        return super().first_attempt(data, rng) if _sweep(once) != once else None

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data, "pairs": len(data.split()) - 1}

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(data.split())
        return (
            f"Of {count} tokens, like ones that face each other vanish and unlike ones swap.",
            f"I run {count} tokens through the four rules until no two face each other.",
            f"Each of the {count} tokens faces left or right; only facing neighbors react.",
        )


def _sweep(tokens: Sequence[str]) -> list[str]:
    """Return the tokens after one pass over the pairs."""
    after: list[str] = []
    for token in tokens:
        if after and after[-1][-1] == "#" == token[0]:
            other = after.pop()
            after += [token, other] if other[0] != token[1] else []
        else:
            after.append(token)
    return after


class BinaryAlternation(TextTeacher):
    """Counts the swaps that make a binary string alternate."""

    task = "rg_binary_alternation"
    forms = ("mismatches", "even_places", "xor", "both_targets")
    pattern = r"the following binary string alternating: ([01]+)"
    names: ClassVar = {"s": ("s", "bits", "text"), "swaps": ("swaps", "costs", "options")}
    scripts: ClassVar = {
        "mismatches": """
            $s = "$data"
            zeros, ones = $s.count("0"), $s.count("1")
            if abs(zeros - ones) > 1:
                print(-1)
            else:
                start = "1" if ones > zeros else "0"
                wrong = sum((c == start) != (i % 2 == 0) for i, c in enumerate($s))
                # With equal counts either may begin; every swap repairs two places.
                $swaps = min(wrong, len($s) - wrong) if zeros == ones else wrong
                print($swaps // 2)
            """,
        "even_places": """
            $s = "$data"
            surplus = $s.count("1") - $s.count("0")
            ones_at_even = $s[::2].count("1")
            zeros_at_even = $s[::2].count("0")
            if abs(surplus) > 1:
                print(-1)
            elif surplus == 1:
                print(zeros_at_even)
            elif surplus == -1:
                print(ones_at_even)
            else:
                print(min(ones_at_even, zeros_at_even))
            """,
        "xor": """
            $s = [int(c) for c in "$data"]
            n, ones = len($s), sum($s)
            $swaps = []
            for start in (0, 1):
                pattern = [(start + i) % 2 for i in range(n)]
                if sum(pattern) == ones:
                    $swaps.append(sum(a ^ b for a, b in zip($s, pattern)) // 2)
            print(min($swaps, default=-1))
            """,
        "both_targets": """
            from collections import Counter

            $s = "$data"
            n = len($s)
            targets = [("01" * n)[:n], ("10" * n)[:n]]
            reachable = [t for t in targets if Counter(t) == Counter($s)]
            $swaps = [sum(a == "0" != b for a, b in zip($s, t)) for t in reachable]
            print(min($swaps) if $swaps else -1)
            """,
    }
    methods: ClassVar = {
        "mismatches": "Counts may differ by 1 at most; then mismatches come in pairs.",
        "even_places": "Each wrong character at an even place needs one swap with an odd place.",
        "xor": "I compare with the patterns 0101... and 1010... that have as many ones.",
        "both_targets": "For each target with equal counts, swaps are the zeros where a 1 belongs.",
    }
    slip = (
        (
            "I count the mismatches with 0101... and 1010... and halve the smaller number.",
            "Two patterns are possible; half the mismatches with the nearer one are the swaps.",
        ),
        """
        $s = "$data"
        a = sum(c != "01"[i % 2] for i, c in enumerate($s))
        print(min(a, len($s) - a) // 2)
        """,
    )
    exploring = (
        (
            "The counts of both characters decide if it is possible, so I look at them first.",
            "First the zeros and ones at even and at odd places.",
        ),
        """
        $s = "$data"
        for start in (0, 1):
            part = $s[start::2]
            print("places from", start, "zeros", part.count("0"), "ones", part.count("1"))
        """,
    )

    @override
    def first_attempt(self, data: str, rng: random.Random) -> Step | None:
        wrong = sum(char != "01"[i % 2] for i, char in enumerate(data))
        nearer, right = min(wrong, len(data) - wrong) // 2, _swaps(data)
        return super().first_attempt(data, rng) if nearer != right else None

    @override
    def openings(self, data: str) -> Sequence[str]:
        return (
            f"The {len(data)} characters may be swapped freely, so only places count.",
            f"A string of length {len(data)} can alternate in at most two ways.",
            f"The string {data[:10]}... has {len(data)} characters.",
        )

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        zeros, ones = data.count("0"), data.count("1")
        swaps, counts = _swaps(data), f"{count_noun(zeros, 'zero')} and {count_noun(ones, 'one')}"
        if swaps < 0:
            words = (
                f"There are {counts}. In an alternating string the counts differ by at most 1, and "
                "swaps do not change them, so it is impossible."
            )
            return words, "-1"
        if len(data) > _SHORT:
            return None
        places = f"Every other character from the first on reads {data[::2]}"
        at_even = {"0": data[::2].count("0"), "1": data[::2].count("1")}
        if zeros == ones:
            words = (
                f"There are {counts}. {places}: "
                f"{count_noun(at_even['1'], 'one')} and {count_noun(at_even['0'], 'zero')}. "
                f"All of these must become equal, each by a swap with the places between: the "
                f"smaller number, {swaps}, is enough."
            )
        else:
            more, less = ("0", "1") if zeros > ones else ("1", "0")
            words = (
                f"There are {counts}, so it has to begin with {more}. {places}: {at_even[less]} of "
                f"them are {less}, and each is swapped with a {more} from the places between."
            )
        return words, str(swaps)

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return str(int(answer) + 1) if answer != "-1" else str(len(data) // 4)


_SHORT = 30


def _swaps(text: str) -> int:
    """Return the fewest swaps, or -1."""
    surplus = text.count("1") - text.count("0")
    ones, zeros = text[::2].count("1"), text[::2].count("0")
    return {0: min(ones, zeros), 1: zeros, -1: ones}.get(surplus, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph and the colors that may be used."""

    vertices: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    colors: tuple[int, ...]


class GraphColor(TemplateTeacher[Graph]):
    """Colors a graph."""

    task = "rg_graph_color"
    forms = ("backtracking", "most_constrained", "by_degree")
    names: ClassVar = {
        "edges": ("edges", "pairs", "links"),
        "color": ("color", "coloring", "chosen"),
    }
    scripts: ClassVar = {
        "backtracking": """
            import json

            $edges = $links
            n, palette = $n, $palette
            near = {v: set() for v in range(n)}
            for a, b in $edges:
                near[a].add(b)
                near[b].add(a)
            $color = {}


            def solve(v):
                if v == n:
                    return True
                for c in palette:
                    if all($color.get(u) != c for u in near[v]):
                        $color[v] = c
                        if solve(v + 1):
                            return True
                        del $color[v]
                return False


            solve(0)
            print(json.dumps($color))
            """,
        "most_constrained": """
            import json

            $edges = $links
            near = {v: set() for v in range($n)}
            for a, b in $edges:
                near[a].add(b)
                near[b].add(a)


            def free(v, $color):
                return $allowed - {$color[u] for u in near[v] if u in $color}


            def solve($color):
                rest = [v for v in near if v not in $color]
                if not rest:
                    return $color
                v = min(rest, key=lambda u: (len(free(u, $color)), -len(near[u])))
                for c in sorted(free(v, $color)):
                    found = solve($color | {v: c})
                    if found:
                        return found
                return None


            print(json.dumps(solve({}), sort_keys=True))
            """,
        "by_degree": """
            import json

            $edges = $links
            n, palette = $n, $palette
            degree = [sum(v in edge for edge in $edges) for v in range(n)]
            order = sorted(range(n), key=lambda v: -degree[v])
            stack = [{}]
            while stack:
                $color = stack.pop()
                if len($color) == n:
                    break
                v = order[len($color)]
                used = {$color.get(b if a == v else a) for a, b in $edges if v in (a, b)}
                for c in reversed(palette):
                    if c not in used:
                        stack.append({**$color, v: c})
            print(json.dumps({str(v): $color[v] for v in range(n)}))
            """,
    }
    methods: ClassVar = {
        "backtracking": "Backtracking in the order of the vertices finds a coloring.",
        "most_constrained": "I search with the vertex that has the fewest colors left.",
        "by_degree": "A depth-first search with a stack takes vertices of high degree first.",
    }
    checking = (
        (
            "Each of the $n vertices needs an allowed color, and no edge may join equal colors.",
            "I go through all edges and compare the colors of their ends.",
        ),
        """
        import json

        $edges = $links
        $color = json.loads('$literal')
        complete = set($color) == {str(v) for v in range($n)}
        allowed = set($color.values()) <= $allowed
        print(complete and allowed and all($color[str(a)] != $color[str(b)] for a, b in $edges))
        """,
    )
    slip = (
        (
            "All start with one color; I go through the edges and repair each that joins equals.",
            "One pass over the edges: wherever both ends agree, the second gets another color.",
        ),
        """
        import json

        $edges = $links
        $color = dict.fromkeys(range($n), $first)
        for a, b in $edges:
            if $color[a] == $color[b]:
                $color[b] = next(c for c in $palette if c != $color[a])
        print(json.dumps($color))
        """,
    )

    @override
    def parse(self, question: str) -> Graph:
        found = read(
            r"Vertices: (\[[\d, ]*\])\nEdges: (\[[\d,() ]*\])\nPossible colors: (\[[\d, ]*\])",
            question,
        )
        vertices, edges, colors = (ast.literal_eval(text) for text in found.groups())
        return Graph(vertices=tuple(vertices), edges=tuple(edges), colors=tuple(colors))

    @override
    def values(self, data: Graph, rng: random.Random) -> Mapping[str, object]:
        return {
            "n": len(data.vertices),
            "links": wrap_items([str(edge) for edge in data.edges], "[", "]"),
            "palette": list(data.colors),
            "first": data.colors[0],
            "allowed": set(data.colors),
        }

    @override
    def first_attempt(self, data: Graph, rng: random.Random) -> Step | None:
        color = dict.fromkeys(data.vertices, data.colors[0])
        for a, b in data.edges:
            if color[a] == color[b]:
                color[b] = next((c for c in data.colors if c != color[a]), color[a])
        clash = any(color[a] == color[b] for a, b in data.edges)
        return super().first_attempt(data, rng) if clash and len(data.colors) > 1 else None

    @override
    def openings(self, data: Graph) -> Sequence[str]:
        n, edges, colors = len(data.vertices), len(data.edges), len(data.colors)
        return (
            f"{n} vertices with {edges} edges have to be colored with {colors} colors.",
            f"The ends of each of the {edges} edges need different colors out of {colors}.",
            f"This is a coloring of a graph with {n} vertices by {colors} colors.",
        )

    @override
    def wrong_answer(self, data: Graph, answer: str, rng: random.Random) -> str | None:
        if not data.edges:
            return None
        one, other = data.edges[0]
        color = re.search(rf'"{one}": (\d+)', answer)
        return color and re.sub(rf'"{other}": \d+', f'"{other}": {color[1]}', answer)


TEACHERS: tuple[Teacher[Any], ...] = (TokenSystem(), BinaryAlternation(), GraphColor())
