"""Trajectories labelled by hand: does a later script test the result of an earlier one?

The labels were given by reading, before the rules were run on them. Half the texts are in the style
of the scripted teachers, half in that of language models that write freely. What decides is what a
script is for: a second part of the work, a repair, a new attempt, and another layout of the answer
are no self-checks.
"""

from typing import Final, NamedTuple

OK, FAILED, SLOW = "ok", "exception", "timeout_cpu"


class Turn(NamedTuple):
    """Words of the policy, its script, and what came of it."""

    words: str
    code: str
    stdout: str
    status: str = OK


class Case(NamedTuple):
    """A trajectory with its label."""

    name: str
    is_self_check: bool
    turns: tuple[Turn, ...]


CASES: Final = (
    # --- Self-checks -----------------------------------------------------------------------------
    Case("make 24: the formula is evaluated", True, (
        Turn("", """\
def search(items): ...
values = [17, 24, 40, 44, 49, 50]
print(search([(n, str(n)) for n in values]))""", "(((44 * 50) - 40) / (49 + (17 + 24)))\n"),
        Turn("The formula must use 17, 24, 40, 44, 49, 50 once each and give 24.", """\
import re
from fractions import Fraction

formula = "((44 * 50) - 40) / (49 + (17 + 24))"
used = sorted(int(n) for n in re.findall(r"[0-9]+", formula))
value = eval(re.sub(r"([0-9]+)", r"Fraction(\\1)", formula))
print(value)
print(used == sorted([17, 24, 40, 44, 49, 50]) and value == 24)""", "24\nTrue\n"),
    )),
    Case("gcd: divides, and quotients are coprime", True, (
        Turn("math.gcd takes them all at once.", """\
from math import gcd

numbers = [5992, 1673]
print(gcd(*numbers))""", "7\n"),
        Turn("The divisor must divide each number, and the quotients share nothing but 1.", """\
from math import gcd

nums, g = [5992, 1673], 7
divides = all(n % g == 0 for n in nums)
print(divides and gcd(*(n // g for n in nums)) == 1)""", "True\n"),
    )),
    Case("rotated matrix is turned back", True, (
        Turn("", """\
m = [[4, 5, 3], [9, 3, 2], [9, 9, 3]]
out = m
for _ in range(3):
    out = [list(row) for row in zip(*out[::-1])]
for row in out:
    print(*row)""", "3 2 3\n5 3 9\n4 9 9\n"),
        Turn("Turning the result back by 270 degrees gives the matrix of the question; I test it.",
             """\
m = [[4, 5, 3], [9, 3, 2], [9, 9, 3]]
turned = [
    [3, 2, 3],
    [5, 3, 9],
    [4, 9, 9],
]
for _ in range(3):
    turned = [list(row) for row in zip(*turned)][::-1]
print(turned == m)""", "True\n"),
    )),
    Case("letters: positions are looked up", True, (
        Turn("", """\
word = "gdjdrodadwhujqazqksrkswbvtbmqmq"
hits = [i for i, char in enumerate(word, start=1) if char == "q"]
print(f"Count: {len(hits)}, Positions: {hits}")""", "Count: 4, Positions: [14, 17, 29, 31]\n"),
        Turn('I look whether the named positions hold "q" and the rest of the word does not.', """\
word = "gdjdrodadwhujqazqksrkswbvtbmqmq"
count, found = 4, [14, 17, 29, 31]
others = [sign for i, sign in enumerate(word, 1) if i not in found]
print(count == len(set(found)) and all(word[i - 1] == "q" for i in found) and "q" not in others)
""", "True\n"),
    )),
    Case("date: the way back", True, (
        Turn("I need the date a month ago.", """\
from datetime import date

start = date(1909, 9, 9)
target = start.replace(month=start.month - 1)
print(target.strftime("%m/%d/%Y"))""", "08/09/1909\n"),
        Turn("I measure how far 08/09/1909 is from 09/09/1909; it has to be one month.", """\
from datetime import datetime

claimed = datetime.strptime("08/09/1909", "%m/%d/%Y")
given = datetime(1909, 9, 9)
print((claimed.year - given.year) * 12 + claimed.month - given.month == -1)""", "True\n"),
    )),
    Case("a check refutes, then solved anew", True, (
        Turn("I split the expression at each `and`.", """\
formula = "False or not True and True or True"
outcome = all(eval(part) for part in formula.split(" and "))
print(outcome)""", "False\n"),
        Turn("I verify this by arithmetic on bits.", """\
bits = "0 | (1 - 1) & 1 | 1"
claimed = False
print(bool(eval(bits)) == claimed)""", "False\n"),
        Turn("False: that answer is wrong.", """\
print(False or not True and True or True)""", "True\n"),
    )),
    Case("let me verify, in free style", True, (
        Turn("Let's compute the sum of all primes below 2000 with a sieve.", """\
n = 2000
sieve = [True] * n
sieve[0] = sieve[1] = False
for i in range(2, int(n ** 0.5) + 1):
    if sieve[i]:
        for j in range(i * i, n, i):
            sieve[j] = False
print(sum(i for i, p in enumerate(sieve) if p))""", "277050\n"),
        Turn("Let me verify this using sympy.", """\
from sympy import primerange
print(sum(primerange(2, 2000)))""", "277050\n"),
    )),
    Case("brute force agrees", True, (
        Turn("The closed form is C(12, 5) minus the bad ones.", """\
from math import comb
print(comb(12, 5) - comb(10, 3))""", "672\n"),
        Turn("To be sure, I count them by brute force.", """\
from itertools import combinations
n = 0
for chosen in combinations(range(12), 5):
    if not (0 in chosen and 1 in chosen):
        n += 1
print(n)""", "672\n"),
    )),
    Case("assert on the stated solution", True, (
        Turn("I solve the linear system with numpy.", """\
import numpy as np
print(np.linalg.solve([[2, 1], [1, 3]], [11, 18]))""", "[3. 5.]\n"),
        Turn("", """\
x, y = 3, 5
assert 2 * x + y == 11
assert x + 3 * y == 18""", ""),
    )),
    Case("assert fails", True, (
        Turn("", """\
import math
print(math.floor(10 ** 0.5 * 1000))""", "3162\n"),
        Turn("Check: the square must not exceed ten million.", """\
r = 3163
assert r * r <= 10_000_000 < (r + 1) ** 2, "not the integer root\"""", "", FAILED),
    )),
    Case("sudoku: rows, columns and boxes", True, (
        Turn("Backtracking fills the grid.", """\
grid = [[0, 2, 3, 4], [3, 4, 0, 2], [2, 0, 4, 3], [4, 3, 2, 0]]
def solve(g): ...
solve(grid)
for row in grid:
    print(row)""", "[1, 2, 3, 4]\n[3, 4, 1, 2]\n[2, 1, 4, 3]\n[4, 3, 2, 1]\n"),
        Turn("", """\
solution = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]
good = all(sorted(row) == [1, 2, 3, 4] for row in solution)
good &= all(sorted(col) == [1, 2, 3, 4] for col in zip(*solution))
print("valid" if good else "invalid")""", "valid\n"),
    )),
    Case("plugging the roots back in", True, (
        Turn("Solve the cubic.", """\
from sympy import symbols, solve
x = symbols("x")
print(solve(x**3 - 6*x**2 + 11*x - 6, x))""", "[1, 2, 3]\n"),
        Turn("Now plug these back into the polynomial:", """\
for r in [1, 2, 3]:
    print(r, r**3 - 6*r**2 + 11*r - 6)""", "1 0\n2 0\n3 0\n"),
    )),
    Case("a plan is replayed by a simulator", True, (
        Turn("Breadth-first search over the states.", """\
from collections import deque
def bfs(): ...
print(bfs())""", "['up', 'left', 'left', 'down', 'right']\n"),
        Turn("I replay the moves from the start to see where they end.", """\
moves = ['up', 'left', 'left', 'down', 'right']
step = {'up': (-1, 0), 'down': (1, 0), 'left': (0, -1), 'right': (0, 1)}
r, c = 4, 4
for move in moves:
    r, c = r + step[move][0], c + step[move][1]
print((r, c), (r, c) == (4, 3))""", "(4, 3) True\n"),
    )),
    Case("check after a repair", True, (
        Turn("", "print(sum(divisors(360)))", "", FAILED),
        Turn("divisors is not defined; here it is.", """\
def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]
print(sum(divisors(360)))""", "1170\n"),
        Turn("Double-checking with the multiplicative formula for 2^3 * 3^2 * 5:", """\
print((2**4 - 1) * (3**3 - 1) // 2 * (5**2 - 1) // 4)""", "1170\n"),
    )),
    Case("comment says what it is for", True, (
        Turn("", """\
text = "the quick brown fox jumps over the lazy dog"
print(len(set(text) - {" "}))""", "26\n"),
        Turn("", """\
# sanity check: count the letters with a loop instead of a set
seen = []
for ch in "the quick brown fox jumps over the lazy dog":
    if ch.isalpha() and ch not in seen:
        seen.append(ch)
print(len(seen))""", "26\n"),
    )),
    Case("recomputed in silence", True, (
        Turn("Use the formula for the sum of cubes.", """\
n = 40
print((n * (n + 1) // 2) ** 2)""", "672400\n"),
        Turn("", """\
total = 0
for k in range(1, 41):
    total += k ** 3
print(total)""", "672400\n"),
    )),
    # --- Others ----------------------------------------------------------------------------------
    Case("one script", False, (
        Turn("Let me verify each candidate with a script.", """\
good = [n for n in range(100) if n % 7 == 3 and n % 5 == 2]
assert good
print(good[0])""", "17\n"),
    )),
    Case("repair of a missing import", False, (
        Turn("", "print(math.comb(20, 6))", "", FAILED),
        Turn("The script uses math without importing it. With the import:",
             "import math\nprint(math.comb(20, 6))", "38760\n"),
    )),
    Case("repair of a slow search, checking as it goes", False, (
        Turn("", """\
from itertools import product
print(next(p for p in product(range(10), repeat=9) if check(p)))""", "", SLOW),
        Turn("That timed out. I prune, checking the partial sums at each level.", """\
def check(partial): return sum(partial) <= 20
def search(p): ...
print(search(()))""", "(1, 0, 0, 2, 5, 0, 3, 9, 0)\n"),
    )),
    Case("two stages: pieces first", False, (
        Turn("Which longer pieces are palindromes at all? I list them.", """\
string = "cdrdc"
n = len(string)
pieces = [string[i:j] for i in range(n) for j in range(i + 2, n + 1)]
print([p for p in pieces if p == p[::-1]])""", "['cdrdc', 'drd']\n"),
        Turn("", """\
import json
from itertools import product

string = "cdrdc"
partitions = []
for cuts in product((False, True), repeat=len(string) - 1):
    parts = [string[0]]
    for letter, cut in zip(string[1:], cuts):
        if cut:
            parts.append(letter)
        else:
            parts[-1] += letter
    if all(p == p[::-1] for p in parts):
        partitions.append(parts)
print(json.dumps(partitions))""", '[["cdrdc"], ["c", "drd", "c"], ["c", "d", "r", "d", "c"]]\n'),
    )),
    Case("two stages: a small case first", False, (
        Turn("I look at boards of four and five squares first.", """\
def count(n): ...
print(count(4), count(5))""", "2 10\n"),
        Turn("The recursion works, so now the board of eight.", """\
def count(n, row=0, cols=(), diag=()):
    if row == n:
        return 1
    return sum(count(n, row + 1) for c in range(n) if c not in cols)
print(count(8))""", "92\n"),
    )),
    Case("an intermediate value is used", False, (
        Turn("First the discriminant.", "a, b, c = 3, -14, 8\nprint(b * b - 4 * a * c)", "100\n"),
        Turn("The discriminant is 100, whose root is 10, so the roots are:", """\
a, b = 3, -14
root = 100 ** 0.5
print((-b + root) / (2 * a), (-b - root) / (2 * a))""", "4.0 0.6666666666666666\n"),
    )),
    Case("parsed data go into a solver", False, (
        Turn("Let me parse the puzzle first.", """\
text = "A>B, C<D, B>D"
print([tuple(p.strip()) for p in text.split(",")])""",
             "[('A', '>', 'B'), ('C', '<', 'D'), ('B', '>', 'D')]\n"),
        Turn("Now search for an order that satisfies all constraints.", """\
from itertools import permutations
rules = [('A', '>', 'B'), ('C', '<', 'D'), ('B', '>', 'D')]
def is_valid(order):
    rank = {x: i for i, x in enumerate(order)}
    return all(rank[a] > rank[b] if s == '>' else rank[a] < rank[b] for a, s, b in rules)
print(next(o for o in permutations("ABCD") if is_valid(o)))""", "('C', 'D', 'B', 'A')\n"),
    )),
    Case("a second attempt after doubt", False, (
        Turn("I sort the words.", """\
words = ["Zebra", "apple", "Mango"]
print(sorted(words))""", "['Mango', 'Zebra', 'apple']\n"),
        Turn("That cannot be right: the script does not do all that the question asks. Once more:",
             """\
words = ["Zebra", "apple", "Mango"]
print(sorted(words, key=str.lower))""", "['apple', 'Mango', 'Zebra']\n"),
    )),
    Case("an attempt with a wrong rule, mended", False, (
        Turn("", "print(int('1011', 2) + int('17', 10))", "28\n"),
        Turn("I overlooked that the second number is octal.",
             "print(int('1011', 2) + int('17', 8))", "26\n"),
    )),
    Case("another layout of the same answer", False, (
        Turn("", "print({'b': 2, 'a': 7})", "{'b': 2, 'a': 7}\n"),
        Turn("The answer should be a sorted list of pairs, so I print it in that form.", """\
found = {'b': 2, 'a': 7}
print(sorted(found.items()))""", "[('a', 7), ('b', 2)]\n"),
    )),
    Case("the same script once more", False, (
        Turn("", "print(37 * 91)", "3367\n"),
        Turn("Let me run it again to confirm.", "print(37 * 91)", "3367\n"),
    )),
    Case("two questions in one", False, (
        Turn("First the number of vowels.", """\
s = "onomatopoeia"
print(sum(c in "aeiou" for c in s))""", "8\n"),
        Turn("Then the number of consonants.", """\
s = "onomatopoeia"
print(sum(c not in "aeiou" for c in s))""", "4\n"),
    )),
    Case("candidates of the first script are filtered by the second", False, (
        Turn("All two-digit squares:", "print([n * n for n in range(4, 10)])",
             "[16, 25, 36, 49, 64, 81]\n"),
        Turn("Of these I keep the one whose digits add up to 13.", """\
squares = [16, 25, 36, 49, 64, 81]
print([s for s in squares if s // 10 + s % 10 == 13])""", "[49]\n"),
    )),
    Case("the first script printed nothing", False, (
        Turn("", "answer = 12 * 12", ""),
        Turn("Nothing was printed; I check the result with print.", "print(12 * 12)", "144\n"),
    )),
)  # fmt: skip
