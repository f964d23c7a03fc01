"""Phrases and scripts of the teachers of dyck_languages and word_sorting."""

from typing import Final

from r1ci_jax.teachers.template_teacher import Pattern

NAMES: Final = {
    "stack": ("stack", "still_open", "pending", "opened"),
    "bracket": ("bracket", "symbol", "ch", "token"),
    "partner": ("partner", "closing", "closer_of", "pairs"),
    "sequence": ("sequence", "text", "brackets", "line"),
    "words": ("words", "given", "items", "word_list"),
    "result": ("ordered", "result", "in_order", "arranged"),
}

DYCK: Final[dict[str, Pattern]] = {
    "stack": (
        (
            "A stack holds the brackets that are still open: of the $count given symbols an "
            "opening one is pushed and a closing one pops its partner. What remains is closed in "
            "reverse.",
            "I push the closer that each opening bracket needs and pop it when it comes; the rest "
            "of the stack, last in first out, completes the sequence.",
            "Brackets nest, so a stack fits. After the $count symbols it tells what is missing.",
        ),
        """
$sequence = $given
$partner = {"(": ")", "[": "]", "{": "}", "<": ">"}
$stack = []
for $bracket in $sequence.split():
    if $bracket in $partner:
        $stack.append($partner[$bracket])
    else:
        assert $stack.pop() == $bracket
print(*reversed($stack))
""",
    ),
    "cancel pairs": (
        (
            "Adjacent pairs such as () or <> can be deleted again and again. From the $count "
            "symbols only opening brackets remain; their mirror image closes the sequence.",
            "I delete matched neighbors until nothing changes; whatever is left is unclosed and is "
            "answered from right to left.",
        ),
        """
$sequence = $given
$stack = $sequence.replace(" ", "")
size = None
while size != len($stack):
    size = len($stack)
    for pair in ("()", "[]", "{}", "<>"):
        $stack = $stack.replace(pair, "")
$partner = dict(zip("([{<", ")]}>"))
print(" ".join($partner[$bracket] for $bracket in $stack[::-1]))
""",
    ),
    "append closers": (
        (
            "I scan from the right: a closing bracket must be matched by an opening one further "
            "left, so an opening bracket met with no such debt is one that still has to be closed.",
            "Read backwards, the first unmatched opening bracket is the innermost; it is closed "
            "first. A counter of closing brackets tells which of the $count symbols are matched.",
        ),
        """
$sequence = $given
$partner = str.maketrans("([{<", ")]}>")
missing = []
matched = 0  # closing brackets to the right that wait for their opening one
for $bracket in reversed($sequence.split()):
    if $bracket in ")]}>":
        matched += 1
    elif matched:
        matched -= 1
    else:
        missing.append($bracket.translate($partner))
print(*missing)
""",
    ),
    "recursion": (
        (
            "One function call per open bracket: it reads what the bracket encloses, and if the "
            "input ends before its partner comes, it adds that partner. Inner calls end first.",
            "I parse the $count symbols by recursive descent; a group that meets the end of the "
            "input notes the closing bracket it still needs.",
        ),
        """
$partner = {"(": ")", "[": "]", "{": "}", "<": ">"}
$sequence = $given
symbols = $sequence.split()
missing = []


def read_group(position, closer):
    while position < len(symbols):
        $bracket = symbols[position]
        position += 1
        if $bracket == closer:
            return position
        position = read_group(position, $partner[$bracket])
    if closer:
        missing.append(closer)
    return position


read_group(0, None)
print(*missing)
""",
    ),
}

DYCK_CHECK_WORDS: Final = (
    "The completed sequence must vanish when matched pairs are deleted.",
    "I append the proposed closers to the input and test the whole for balance.",
)
DYCK_CHECK: Final = """
$sequence = $given
whole = ($sequence + "$answer").replace(" ", "")
previous = None
while whole != previous:
    previous = whole
    for pair in ("()", "[]", "{}", "<>"):
        whole = whole.replace(pair, "")
print(whole == "")
"""

DYCK_DEPTH_WORDS: Final = (
    "First how many brackets of each kind open and how many close.",
    "I count for each kind how many of the $count symbols open and close.",
)
DYCK_DEPTH: Final = """
$sequence = $given
for start, end in ("()", "[]", "{}", "<>"):
    print(start, $sequence.count(start), end, $sequence.count(end))
"""

DYCK_SLIP_WORDS: Final = (
    "I push opening brackets, pop at closing ones, and close what is left.",
    "A stack of the open brackets; at the end each gets its partner.",
)
DYCK_SLIP: Final = """
$sequence = $given
$partner = {"(": ")", "[": "]", "{": "}", "<": ">"}
$stack = []
for $bracket in $sequence.split():
    if $bracket in $partner:
        $stack.append($bracket)
    else:
        $stack.pop()
print(*[$partner[$bracket] for $bracket in $stack])
"""

SORTING: Final[dict[str, Pattern]] = {
    "sorted": (
        (
            "All $count words are in lower case, so comparing strings by character codes is the "
            "alphabetical order; ' and & come before the letters there, as the question wants.",
            "Python compares strings letter by letter, which is what sorting these $count words "
            "from $first to $last needs.",
            "`sorted` does this for the $count words: ASCII order puts & and ' before letters.",
        ),
        """
$words = $given
print(*sorted($words))
""",
    ),
    "binary insertion": (
        (
            "I insert the $count words one by one into a list that stays sorted; bisect finds the "
            "place.",
            "Insertion with binary search: beginning with $first, each word goes to its place.",
        ),
        """
import bisect

$words = $given
$result = []
for word in $words:
    bisect.insort($result, word)
print(" ".join($result))
""",
    ),
    "merge sort": (
        (
            "Merge sort: halve the list of $count words, sort the halves, then always take the "
            "smaller first word.",
            "I sort the $count words by divide and conquer and join two sorted halves word by "
            "word.",
        ),
        """
$words = $given


def merge_sort(part):
    if len(part) < 2:
        return part
    middle = len(part) // 2
    left, right = merge_sort(part[:middle]), merge_sort(part[middle:])
    merged = []
    while left and right:
        merged.append(left.pop(0) if left[0] <= right[0] else right.pop(0))
    return merged + left + right


print(*merge_sort($words))
""",
    ),
    "selection": (
        (
            "I take the alphabetically first of the remaining words until none of the $count is "
            "left.",
            "Selection: the smallest word goes out first, then the smallest of the rest.",
        ),
        """
$words = $given
$result = []
while $words:
    smallest = min($words)
    $words.remove(smallest)
    $result.append(smallest)
print(*$result)
""",
    ),
    "heap": (
        (
            "A heap gives the words in increasing order: push all $count, then pop them.",
            "With a heap the smallest remaining word is always on top; popping $count times sorts "
            "the list that begins with $first.",
        ),
        """
import heapq

$words = $given
heapq.heapify($words)
print(*(heapq.heappop($words) for _ in range(len($words))))
""",
    ),
}

SORT_CHECK_WORDS: Final = (
    "Two things must hold: every one of the $count words is there, and no neighbors are swapped.",
    "I check that nothing is lost or doubled and that each word is at most its successor.",
)
SORT_CHECK: Final = """
from collections import Counter

$words = $given
claimed = $answer
same_words = Counter($words) == Counter(claimed)
in_order = all(a <= b for a, b in zip(claimed, claimed[1:]))
print(same_words and in_order)
"""

SORT_GROUPS_WORDS: Final = (
    "First which words share their first letter, since only there later letters matter.",
    "I group the $count words by first letter before ordering them.",
)
SORT_GROUPS: Final = """
from collections import defaultdict

groups = defaultdict(list)
for word in $given:
    groups[word[0]].append(word)
print({letter: group for letter, group in groups.items() if len(group) > 1})
"""

SORT_SLIP_WORDS: Final = (
    "I sort the $count words by their first letter.",
    "The first letter decides the order of the $count words.",
)
SORT_SLIP: Final = """
$words = $given
print(*sorted($words, key=lambda word: word[0]))
"""
