"""Self-checks: later scripts of a trajectory that test a result of an earlier one.

A script is a self-check if an earlier script of the trajectory ended without an error and printed
something (its result), the script directly before did not fail (then it is a repair), and it does
not repeat an earlier script; and if one of these holds:

1. It says so: the policy's words before it, its comments, its texts or the names of its functions
   speak of verifying, double-checking or confirming.
2. It tests a stated result: a literal in it stands in the earlier output, and in no earlier script,
   and it gives a verdict: it asserts, or it compares and prints a word such as True or valid.
3. It speaks of a check or of another way ("compare", "again", "brute force"), and has to do with
   the result: it states it as in 2, prints it once more, or compares and ends with a verdict where
   no earlier output did.

The paper has GPT-4o judge the share of trajectories that verify by code, which rises in training
(Fig. 6a; its numbers are not published). Rules decide here, so that the share can be logged at each
step; tests/rollout/diagnostics measures their precision and recall against labels made by hand.

The scripts are hostile: they are parsed within bounds, never compiled or run.
"""

import ast
import functools
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from r1ci_jax.rollout.trajectory import CodeCall, Trajectory
from r1ci_jax.sandbox import Status
from r1ci_jax.text.tokenizer import Tokenizer

MAX_SCRIPT: Final = 8_000
"""Characters of a script; of longer ones only the words count."""
MAX_OUTPUT: Final = 4_000
"""Last characters of an output that count."""
MAX_WORDS: Final = 2_000
"""Last characters of the policy's words before a script that count."""

_SHORT_TOKEN: Final = 2
_SHORT_LINE: Final = 4
"""A token of up to `_SHORT_TOKEN` characters is a result only in lines of up to so many tokens: a
3 in a table of numbers says nothing."""

_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
_SAYS_SO = re.compile(
    r"\b(?:verif\w+|(?:double|cross|sanity)[- ]?check\w*|recheck\w*|re-check\w*|confirm\w*)\b", re.I
)
_SPEAKS_OF_IT = re.compile(
    r"\b(?:check\w*|again|once more|(?:an)?other (?:way|method)|differ\w+|independent\w*"
    r"|alternativ\w+|brute[- ]?force|make sure|compar\w+|valid\w*|correct\w*|expected|match\w*"
    r"|consistent|test\w*|plug\w*|must|indeed|really|satisf\w+|same)\b",
    re.I,
)
_VERDICT = re.compile(
    r"\b(?:true|false|ok|okay|yes|no|(?:in)?valid|(?:in)?correct|wrong|pass(?:ed)?|fail(?:ed|s)?"
    r"|holds?|(?:mis)?match(?:es|ed)?|equal|same|satisfied|violat\w+|consistent)\b|[✓✗✔✘]",
    re.I,
)
_COMMENT = re.compile(r"#[^\n]*")
_TESTING_CALLS: Final = frozenset(("all", "any", "isclose", "allclose", "array_equal", "issubset"))


class Script(NamedTuple):
    """A script of a trajectory, and what the policy wrote before it in the same turn."""

    words: str
    call: CodeCall


class _Reading(NamedTuple):
    """The parts of a script that decide."""

    literals: frozenset[str]
    """Tokens of the literals; a display of literals is one."""
    has_assert: bool
    has_test: bool
    """True if it asserts or compares."""
    texts: str
    """Comments, what it prints, and names of functions."""


class _Output(NamedTuple):
    """The tokens of an output."""

    all: str
    in_short_lines: str
    last_line: str


def has_self_check(trajectory: Trajectory, tokenizer: Tokenizer) -> bool:
    """Return True if some script of the trajectory tests an earlier result."""
    calls = trajectory.code_calls
    if not any(_has_result(call) for call in calls[:-1]):
        return False  # also with fewer than two scripts: nothing is decoded
    return any(_decide(split_turns(trajectory, tokenizer)))


def split_turns(trajectory: Trajectory, tokenizer: Tokenizer) -> list[Script]:
    """Pair each script with the words before it; turns without a script are passed over."""
    pairs = zip(trajectory.tokens, trajectory.sampled, strict=True)
    texts = [
        tokenizer.decode([token for token, _ in members])
        for sampled, members in itertools.groupby(pairs, key=lambda pair: pair[1])
        if sampled
    ]
    words = [text.partition("```")[0] for text in texts if "```" in text]
    calls = trajectory.code_calls
    # A fence that was never closed ends a trajectory: it has words, and no script.
    words += [""] * (len(calls) - len(words))
    return [Script(before, call) for before, call in zip(words, calls, strict=False)]


def find(scripts: Sequence[Script]) -> list[bool]:
    """Return True for each script that is a self-check.

    >>> from r1ci_jax.sandbox import ExecResult
    >>> def script(words, code, stdout):
    ...     result = ExecResult(status=Status.OK, stdout=stdout)
    ...     return Script(words, CodeCall(code=code, result=result))
    >>> find([script("", "print(17 * 23)", "391"), script("", "print(391 % 17 == 0)", "True")])
    [False, True]
    """
    return list(_decide(scripts))


def _decide(scripts: Sequence[Script]) -> Iterator[bool]:
    """Yield what `find` returns; scripts are read only as far as a decision needs them."""
    read = functools.cache(lambda number: _read(scripts[number].call.code))
    for number, script in enumerate(scripts):
        before = [each.call for each in scripts[:number]]
        results = [call.result.stdout for call in before if _has_result(call)]
        is_repair = bool(before) and before[-1].result.status is not Status.OK
        code = script.call.code.strip()
        is_repeated = any(call.code.strip() == code for call in before)
        if not results or is_repair or is_repeated:
            yield False
        elif _SAYS_SO.search(f"{script.words[-MAX_WORDS:]}\n{_comments(script.call.code)}"):
            yield True
        else:
            written = "\n".join(text for n in range(number) for text in read(n).literals)
            yield _tests(script, read(number), list(map(_read_output, results)), written)


def _tests(script: Script, reading: _Reading, results: Sequence[_Output], written: str) -> bool:
    """Apply the three rules; `written` has the literals of earlier scripts."""
    said = f"{script.words[-MAX_WORDS:]}\n{reading.texts}"
    if _SAYS_SO.search(reading.texts):
        return True
    output = _read_output(script.call.result.stdout)
    states = any(
        literal not in written and any(_holds(result, literal) for result in results)
        for literal in reading.literals
    )
    has_verdict = reading.has_assert or _VERDICT.search(script.call.result.stdout[-MAX_OUTPUT:])
    if states and reading.has_test and has_verdict:
        return True
    if not _SPEAKS_OF_IT.search(said):
        return False
    if reading.has_test and _is_verdict(output) and not any(map(_is_verdict, results)):
        return True
    return states or any(_holds(output, result.last_line) for result in results)


def _is_verdict(output: _Output) -> bool:
    """Return True if the last line of an output is a verdict and little else."""
    last = output.last_line
    return last.count(" ") <= _SHORT_LINE and bool(_VERDICT.search(last))


def _has_result(call: CodeCall) -> bool:
    return call.result.status is Status.OK and bool(call.result.stdout.strip())


def _read_output(stdout: str) -> _Output:
    lines = [_tokens(line) for line in stdout[-MAX_OUTPUT:].strip().split("\n")]
    short = (line for line in lines if line.count(" ") <= _SHORT_LINE + 1)
    return _Output(_joined(lines), "\n".join(short), lines[-1])


def _tokens(text: str) -> str:
    """Return numbers and words in lower case, each with blanks around it.

    >>> _tokens("Count: 2, [14, 7.50]")
    ' count 2 14 7.5 '
    """
    found: list[str] = _TOKEN.findall(text.lower())
    return f" {' '.join(_normal_number(token) if '.' in token else token for token in found)} "


def _normal_number(token: str) -> str:
    return token.rstrip("0").rstrip(".")


def _joined(lines: Sequence[str]) -> str:
    return f" {' '.join(' '.join(lines).split())} "


def _holds(output: _Output, tokens: str) -> bool:
    """Return True if an output has these tokens in a row; a short one only in a short line."""
    inner = tokens.strip()
    if " " in inner or len(inner) > _SHORT_TOKEN:
        return tokens in output.all
    return bool(inner) and tokens in output.in_short_lines


def _comments(code: str) -> str:
    return "\n".join(_COMMENT.findall(code[:MAX_SCRIPT]))


def _read(code: str) -> _Reading:
    """Read a script; one that does not parse, or is too long or deep, has its comments alone."""
    texts = [_comments(code)]
    nothing = _Reading(frozenset(), has_assert=False, has_test=False, texts=texts[0])
    if len(code) > MAX_SCRIPT:
        return nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in the policy's texts
            leaves = _Leaves(ast.parse(code))
        tokens = [_tokens(str(value)) for value in leaves.values]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return nothing
    texts += leaves.names
    for start, end in leaves.printed:
        texts += [value for value in leaves.values[start:end] if isinstance(value, str)]
    return _Reading(
        literals=frozenset([*tokens, *(_joined(tokens[start:end]) for start, end in leaves.rows)]),
        has_assert=leaves.has_assert,
        has_test=leaves.has_assert or leaves.has_comparison,
        texts="\n".join(texts),
    )


class _Leaves:
    """The constants of a script in the order of its text, and where they stand."""

    def __init__(self, tree: ast.AST) -> None:
        self.values: list[object] = []
        self.rows: list[tuple[int, int]] = []
        """Ranges of the constants of a list, tuple, set or dict."""
        self.printed: list[tuple[int, int]] = []
        """Ranges of the constants that are printed or stand in an assert."""
        self.names: list[str] = []
        """Names of functions, with blanks."""
        self.has_assert = self.has_comparison = False
        # A walk of its own: recursion could be too deep, and `ast.walk` goes level by level.
        stack: list[ast.AST | tuple[list[tuple[int, int]], int]] = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, tuple):  # the end of a node that began at `start`
                ranges, start = node
                ranges.append((start, len(self.values)))
            elif isinstance(node, ast.Constant):
                self.values.append(node.value)
            else:
                if (ranges := self._note(node)) is not None:
                    stack.append((ranges, len(self.values)))
                stack.extend(reversed(_children(node)))

    def _note(self, node: ast.AST) -> list[tuple[int, int]] | None:
        """Note what a node is; return the ranges that it belongs to."""
        match node:
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict():
                return self.rows
            case ast.Compare():
                self.has_comparison = True
            case ast.Assert():
                self.has_assert = True
                return self.printed
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                self.has_comparison |= name in _TESTING_CALLS
                return self.printed if name == "print" else None
            case ast.FunctionDef(name=name):
                self.names.append(name.replace("_", " "))
            case _:
                pass
        return None


_OF_NO_INTEREST: Final = frozenset(("ctx", "op", "ops", "type_params", "type_ignores"))


def _children(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [child for pair in pairs for child in pair if child is not None]
    found: list[ast.AST] = []
    for field in node._fields:
        if field in _OF_NO_INTEREST:
            continue
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            found.append(value)
        elif isinstance(value, list):
            found += [child for child in value if isinstance(child, ast.AST)]
    return found
