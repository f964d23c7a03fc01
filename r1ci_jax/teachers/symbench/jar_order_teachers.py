"""Teacher of orders of jars in a row that obey rules."""

import dataclasses
import itertools
import random
import re
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import list_rows, pick, quote, read, require, script, step

_KINDS = (
    (r"Jar (\w) stands in place (\d+)\.", "at"),
    (r"Jar (\w) does not stand in place (\d+)\.", "not_at"),
    (r"Jar (\w) stands somewhere to the left of jar (\w)\.", "left_of"),
    (r"Jar (\w) stands directly beside jar (\w), on either side\.", "beside"),
    (r"Jar (\w) does not stand directly beside jar (\w)\.", "not_beside"),
)
_TESTS = {
    "at": "{p}[{a}] == {b}",
    "not_at": "{p}[{a}] != {b}",
    "left_of": "{p}[{a}] < {p}[{b}]",
    "beside": "abs({p}[{a}] - {p}[{b}]) == 1",
    "not_beside": "abs({p}[{a}] - {p}[{b}]) != 1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The jars and the rules of their order: the kind, a jar, and a jar or a place."""

    jars: str
    rules: tuple[tuple[str, str, str], ...]

    def tests(self, place: str) -> list[str]:
        """Return the rules in Python, for a dictionary of places."""
        return [
            _TESTS[kind].format(p=place, a=quote(a), b=b if b.isdigit() else quote(b))
            for kind, a, b in self.rules
        ]

    def tuples(self) -> list[str]:
        """Return the rules as literals of tuples."""
        return [f'("{kind}", "{a}", {b if b.isdigit() else quote(b)})' for kind, a, b in self.rules]

    def holds(self, order: str) -> bool:
        """Return True if the order obeys every rule."""
        place = {jar: number for number, jar in enumerate(order, start=1)}
        for kind, a, b in self.rules:
            here, there = place[a], int(b) if b.isdigit() else place[b]
            distance = abs(here - there)
            kept = {
                "at": distance == 0,
                "not_at": distance != 0,
                "left_of": here < there,
                "beside": distance == 1,
                "not_beside": distance != 1,
            }
            if not kept[kind]:
                return False
        return True


_ALL_ORDERS = """
    from itertools import permutations

    for $order in permutations($jars):
        $place = {jar: number for number, jar in enumerate($order, start=1)}
        if (
            $conditions
        ):
            print(",".join($order))
            break
"""
_BACKTRACKING = """
    $jars_name = $jars
    $tuples

    def allowed($order):
        # Test each rule as soon as the jars it speaks of are placed.
        $place = {jar: number for number, jar in enumerate($order, start=1)}
        for kind, a, b in $rules:
            x, y = $place.get(a), $place.get(b) if isinstance(b, str) else b
            if x is None or y is None:
                continue
            holds = {
                "at": x == y,
                "not_at": x != y,
                "left_of": x < y,
                "beside": abs(x - y) == 1,
                "not_beside": abs(x - y) != 1,
            }
            if not holds[kind]:
                return False
        return True

    def extend($order):
        if len($order) == len($jars_name):
            return $order
        for jar in $jars_name:
            if jar not in $order and allowed($order + jar):
                if result := extend($order + jar):
                    return result
        return None

    print(*extend(""), sep=",")
"""
_DOMAINS = """
    jars = $jars
    $place = {}
    pairs = [
        $lambdas
    ]

    # Rules about one jar decide which places it may take.
    free = {jar: set(range(1, len(jars) + 1)) for jar in jars}
    $unary

    def search():
        if len($place) == len(jars):
            return True
        # The jar with the fewest places left comes next.
        jar = min(free.keys() - $place.keys(), key=lambda j: (len(free[j]), j))
        for number in sorted(free[jar] - set($place.values())):
            $place[jar] = number
            if all(a not in $place or b not in $place or test() for a, b, test in pairs):
                if search():
                    return True
            del $place[jar]
        return False

    search()
    print(",".join(sorted($place, key=$place.get)))
"""
_FILTER = """
    from itertools import permutations

    $order_list = [dict(zip($jars, p)) for p in permutations(range(1, $beyond))]
    $rules = [
        $lambdas
    ]
    for rule in $rules:
        $order_list = [p for p in $order_list if rule(p)]
    $place = $order_list[0]
    print(",".join(sorted($place, key=$place.get)))
"""
_ORDER_WORDS = {
    "all_orders": (
        "{n} jars have {n}! orders, few enough to try them all; the first that keeps the {r} rules "
        "is an answer.",
        "I run through the permutations of {jars} and print the first one for which all {r} rules "
        "are true.",
    ),
    "backtracking": (
        "I fill the row from the left and test the {r} rules as soon as their jars are placed, so "
        "wrong beginnings are given up early.",
        "This is a constraint search over {n} places: extend a partial row jar by jar and go back "
        "when one of the {r} rules is broken.",
    ),
    "domains": (
        "Rules about a single jar cut down its possible places; after that I place the jar with "
        "the fewest places first and test the rules about pairs.",
        "I give each of the {n} jars its set of allowed places, then search with the most "
        "restricted jar first; any of the {r} rules can end a branch.",
    ),
    "filtering": (
        "I list all assignments of the places 1 to {n} and let each of the {r} rules strike out "
        "those that break it; any survivor is right.",
        "Filtering works for {n} jars: begin with every possible row and apply the {r} rules one "
        "after another.",
    ),
}


class PermutationsAndCombinations(Teacher[Row]):
    """Puts jars in an order that obeys every rule."""

    task = "permutations_and_combinations"
    forms = tuple(_ORDER_WORDS)

    @override
    def parse(self, question: str) -> Row:
        jars = read(r"jars with the labels ([A-Z, ]+) are to stand", question)[1].replace(", ", "")
        lines = re.findall(r"^\d+\. (Jar .+)$", question, re.MULTILINE)
        rules = [
            (kind, found[1], found[2])
            for line in lines
            for pattern, kind in _KINDS
            if (found := re.fullmatch(pattern, line))
        ]
        require(bool(rules) and len(rules) == len(lines), question)
        return Row(jars=jars, rules=tuple(rules))

    @override
    def step(self, data: Row, form: str, rng: random.Random) -> Step:
        names = pick(
            rng,
            order=("order", "row", "line"),
            place=("place", "position", "at", "spot"),
            rules=("rules", "constraints", "conditions"),
            order_list=("orders", "candidates", "left"),
            jars_name=("jars", "labels"),
        )
        parts: dict[str, object] = {**names, "jars": quote(data.jars), "beyond": len(data.jars) + 1}
        place = names["place"]
        if form == "all_orders":
            tests = "\n        and ".join(data.tests(place))
            code = script(_ALL_ORDERS, conditions=tests, **parts)
        elif form == "backtracking":
            code = script(
                _BACKTRACKING, tuples=list_rows(names["rules"], _paired(data.tuples())), **parts
            )
        elif form == "domains":
            code = script(_DOMAINS, **parts, **_domain_parts(data, place))
        else:
            lambdas = [f"lambda p: {test}," for test in data.tests("p")]
            code = script(_FILTER, lambdas="\n    ".join(lambdas), **parts)
        texts = {"n": len(data.jars), "r": len(data.rules), "jars": data.jars}
        return step(rng, [text.format(**texts) for text in _ORDER_WORDS[form]], code)

    @override
    def check(self, data: Row, answer: str, rng: random.Random) -> Step:
        place = rng.choice(("place", "position"))
        code = script(
            """
            order = $order.split(",")
            $place = {jar: number for number, jar in enumerate(order, start=1)}
            $results
            print("broken rules:", [n for n, kept in enumerate(results, start=1) if not kept])
            print(sorted(order) == sorted($jars) and all(results))
            """,
            order=quote(answer),
            place=place,
            results=list_rows("results", data.tests(place)),
            jars=quote(data.jars),
        )
        words = (
            f"I test each of the {len(data.rules)} rules on the order {answer}.",
            f"Does {answer} keep all {len(data.rules)} rules, with every jar once? I check.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Row, rng: random.Random) -> Step:
        count = min(4, len(data.rules))
        lambdas = [f"lambda p: {test}," for test in data.tests("p")[:count]]
        code = script(
            """
            from itertools import permutations

            rows = [dict(zip($jars, p)) for p in permutations(range(1, $beyond))]
            print("all:", len(rows))
            rules = [
                $lambdas
            ]
            for number, rule in enumerate(rules, start=1):
                rows = [p for p in rows if rule(p)]
                print("after rule", number, "left:", len(rows))
            """,
            jars=quote(data.jars),
            beyond=len(data.jars) + 1,
            lambdas="\n    ".join(lambdas),
        )
        words = (
            f"How strong are the rules? I count the orders of the {len(data.jars)} jars that the "
            f"first {count} rules leave.",
            f"First I see how far rules 1 to {count} alone narrow down the orders.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Row, rng: random.Random) -> Step | None:
        # Places are counted from 0.
        tests = data.tests("place")
        first = _shifted(data)
        if first is not None and data.holds(first):
            return None
        code = script(
            """
            from itertools import permutations

            for order in permutations($jars):
                place = {jar: index for index, jar in enumerate(order)}
                if (
                    $conditions
                ):
                    break
            else:
                raise ValueError("no order keeps all rules")
            print(",".join(order))
            """,
            jars=quote(data.jars),
            conditions="\n        and ".join(tests),
        )
        words = (
            f"I try all orders of {len(data.jars)} jars until the {len(data.rules)} rules hold.",
            f"Brute force over the permutations of {data.jars}, with the rules as conditions.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Row, answer: str, rng: random.Random) -> str | None:
        jars = answer.split(",")
        for i in rng.sample(range(len(jars) - 1), len(jars) - 1):
            swapped = [*jars[:i], jars[i + 1], jars[i], *jars[i + 2 :]]
            if not data.holds("".join(swapped)):
                return ",".join(swapped)
        return None


def _domain_parts(data: Row, place: str) -> dict[str, str]:
    """Return the code of the rules about one jar, and of those about pairs."""
    unary: list[str] = []
    pairs: list[str] = []
    for (kind, a, b), test in zip(data.rules, data.tests(place), strict=True):
        if kind == "at":
            unary.append(f'free["{a}"] &= {{{b}}}')
        elif kind == "not_at":
            unary.append(f'free["{a}"] -= {{{b}}}')
        else:
            pairs.append(f'("{a}", "{b}", lambda: {test}),')
    return {"unary": "\n".join(unary), "lambdas": "\n    ".join(pairs)}


def _paired(texts: list[str]) -> list[str]:
    """Put two items on each line."""
    return [", ".join(texts[start : start + 2]) for start in range(0, len(texts), 2)]


def _shifted(data: Row) -> str | None:
    """Return the first order that obeys the rules when places are counted from 0."""
    rules = tuple((kind, a, str(int(b) + 1) if b.isdigit() else b) for kind, a, b in data.rules)
    shifted = Row(jars=data.jars, rules=rules)
    orders = map("".join, itertools.permutations(data.jars))
    return next((order for order in orders if shifted.holds(order)), None)


TEACHERS: tuple[Teacher[Any], ...] = (PermutationsAndCombinations(),)
