"""Teachers of searches: A::B programs, swaps, cryptarithms, graph coloring and water jugs."""

import ast
import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read


class TokenSystem(TemplateTeacher[str]):
    """Computes an A::B program."""

    task = "rg_ab"
    forms = ("rewrite_list", "stack", "replace_text", "separate")
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
        ("First I see where two tokens face each other.",),
        """
        $tokens = "$data".split()
        facing = [(a, b) for a, b in zip($tokens, $tokens[1:]) if a[-1] == "#" == b[0]]
        print(len(facing), *facing)
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
    def parse(self, question: str) -> str:
        return read(r"consider the following program:\n\n([AB# ]+)\n\nReturn", question)[1].strip()

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data}

    @override
    def openings(self, data: str) -> Sequence[str]:
        count = len(data.split())
        return (
            f"Of {count} tokens, like ones that face each other vanish and unlike ones swap.",
            f"I run {count} tokens through the four rules until no two face each other.",
            f"The program starts with {data[:5]} and has {count} tokens.",
        )


class BinaryAlternation(TemplateTeacher[str]):
    """Counts the swaps that make a binary string alternate."""

    task = "rg_binary_alternation"
    forms = ("mismatches", "even_places", "xor", "both_targets")
    names: ClassVar = {"s": ("s", "bits", "text"), "swaps": ("swaps", "costs", "options")}
    scripts: ClassVar = {
        "mismatches": """
            $s = "$data"
            zeros, ones = $s.count("0"), $s.count("1")
            if abs(zeros - ones) > 1:
                print(-1)
            else:
                $swaps = []
                for first, needed in (("0", zeros >= ones), ("1", ones >= zeros)):
                    if needed:
                        other = "1" if first == "0" else "0"
                        target = [first if i % 2 == 0 else other for i in range(len($s))]
                        # every swap repairs two places
                        $swaps.append(sum(a != b for a, b in zip($s, target)) // 2)
                print(min($swaps))
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
        ("I count the mismatches with 0101... and 1010... and halve the smaller number.",),
        """
        $s = "$data"
        a = sum(c != "01"[i % 2] for i, c in enumerate($s))
        print(min(a, len($s) - a) // 2)
        """,
    )
    exploring = (
        ("First the counts of both characters decide if it is possible.",),
        '$s = "$data"\nprint("zeros", $s.count("0"), "ones", $s.count("1"), "length", len($s))',
    )

    @override
    def parse(self, question: str) -> str:
        return read(r"the following binary string alternating: ([01]+)", question)[1]

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data}

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
        if abs(zeros - ones) <= 1:
            return None
        words = (
            f"There are {zeros} zeros and {ones} ones. Alternating ones differ "
            "by at most 1, and swaps do not change counts, so it is impossible."
        )
        return words, "-1"

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return str(int(answer) + 1) if answer != "-1" else str(len(data) // 4)


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
            palette = $palette
            near = {v: set() for v in range($n)}
            for a, b in $edges:
                near[a].add(b)
                near[b].add(a)
            $color = {}


            def solve(v):
                if v == $n:
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
            degree = [sum(v in edge for edge in $edges) for v in range($n)]
            order = sorted(range($n), key=lambda v: -degree[v])
            stack = [{}]
            while stack:
                $color = stack.pop()
                if len($color) == $n:
                    break
                v = order[len($color)]
                used = {$color.get(b if a == v else a) for a, b in $edges if v in (a, b)}
                for c in reversed($palette):
                    if c not in used:
                        stack.append({**$color, v: c})
            print(json.dumps({str(v): $color[v] for v in range($n)}))
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
        ("I alternate two colors along the vertices.", "Even vertices get one color, odd another."),
        """
        import json

        $color = {v: $palette[v % 2] for v in range($n)}
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
            "links": list(data.edges),
            "palette": list(data.colors),
            "allowed": set(data.colors),
        }

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
