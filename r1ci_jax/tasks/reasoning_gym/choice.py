"""The data sets of `reasoning-gym` that are tasks here, with their settings and the reasons.

The package (0.1.25) registers 105 data sets; 84 are chosen. The difficulty levels follow the
attributes of the package's curricula, but not their values: with those, some levels fail
their own assertions (caesar_cipher, survo), some questions grow to 69,000 characters
(circuit_logic), some boards die out so that one constant answer is always right (game_of_life),
and some take minutes to generate (zebra_puzzles, countdown).
"""

import dataclasses
from typing import Any, Final

INTEGER: Final = "Answer with the integer alone."
NUMBER: Final = "Answer with the number alone."
ROWS: Final = "Answer with one row per line and a space between neighbours."


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetChoice:
    """A chosen data set."""

    kind: str
    why: str
    form: str
    """The accepted form of an answer, in words."""
    say: str = ""
    """An additional sentence after the question, where the original leaves the form open."""
    rule: str = "text"
    """A key of `gym_rules.RULES`, or `package`: the package's scorer gives 1.0."""
    shape: str = ""
    """The pattern of the whole answer; all other answers are wrong. The rules `package`,
    `countdown` and `polynomial` need one."""
    most: int = 400
    """Longest answer in characters."""
    ladder: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Settings by level, equally many each; without any there is one level."""
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of all levels."""
    scoring: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings for the package's scorer."""
    gold: str = ""
    """The key of a right answer in the entry's metadata, if the entry has no answer."""
    refused: str = ""
    """Text in a gold that makes it useless, so that another entry is generated."""
    chunk: int = 0
    """Size of the data sets to sample from, where the package generates all items at once."""
    many: bool = False
    """True if other answers than the stored one can be right."""
    foreign: float = 0.0
    """The fraction of questions that the next question's different gold may answer correctly."""
    constant: float = 0.3
    """The largest fraction that the most frequent answer may have."""

    @property
    def levels(self) -> int:
        """Return the number of difficulty levels."""
        return max((len(values) for values in self.ladder.values()), default=1)

    def config(self, difficulty: int) -> dict[str, Any]:
        """Return the settings of a level, counted from 1."""
        return self.fixed | {name: values[difficulty - 1] for name, values in self.ladder.items()}


LEFT_OUT: Final[dict[str, str]] = {
    "boxnet": "SymBench has it; ships no solution, its scorer raises on a JSON number",
    "circuit_logic": "answering 0 scores 62 %; the curriculum's questions reach 69,000 characters",
    "codeio": "runs collected code with unseeded randomness: other entries in every process",
    "coin_flip": "170 different questions in 300; answering 0 is scored 1.0 on 18 of 20",
    "game_of_life_halting": "every non-empty text scores 1.0, since bool('False') is True",
    "knight_swap": "its curriculum fails its own assertions; 17 s for 60 questions; 24 % are No",
    "mahjong_puzzle": "SymBench has it",
    "n_queens": "SymBench has it (eight_queens); its scorer evaluates the answer",
    "pool_matrix": "SymBench has it (pooling); reseeds numpy's global generator",
    "propositional_logic": "repeating a premise scores 1.0 on 12 of 20",
    "puzzle24": "6*4*1*1 scores 1.0 on every question; SymBench has it (game24)",
    "rush_hour": "ships no solution, so that no gold can be checked",
    "sentence_reordering": "wrong golds where a word occurs twice; other orders are sentences too",
    "string_insertion": "SymBench has it; its scorer evaluates the answer",
    "string_splitting": "SymBench has it; 161 different questions in 300",
    "string_synthesis": "SymBench has it; 161 different questions in 300",
    "sudoku": "SymBench has it (standard_sudoku)",
    "syllogism": "255 of 2,000 labels are wrong under every reading, 335 more under one",
    "tower_of_hanoi": "83 different questions in 300; golds of a million characters",
    "tsumego": "in 110 of 600 the gold captures nothing, in 49 other moves capture too",
    "word_sorting": "BIG-Bench-Hard has it",
}

_NAMES = "exp|log|sqrt|sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|Abs|pi|E|[xXC]"
# Each token ends where it cannot be extended, so that matching takes linear time.
EXPRESSION: Final = (
    # The pattern excludes powers of powers (9**9**9), exponents of three digits and other names.
    r"(?!.*\*\*[^+\-*/()]*\*\*)(?!.*\*\*\s*\([^()]*\*\*)(?!.*\*\*\s*\(?[-+ ]*[0-9]{3})"
    rf"(?:(?:{_NAMES})(?![0-9A-Za-z_])|[0-9]+(?:\.[0-9]+)?(?![.0-9A-Za-z_])|[-+*/() ])+"
)
"""A formula that sympy may compute with, on one line."""
POLYNOMIAL: Final = (
    r"(?:[xyz](?![0-9A-Za-z_])|[0-9]+(?![.0-9A-Za-z_])|\*\*[0-9]{1,2}(?![0-9]| *\*\*)"
    r"|(?<!\*)\*(?!\*)|[-+ ])+"
)
"""A sum of products without brackets."""
WORD: Final = "[A-Za-z]+"
JSON_WORDS: Final = r"""[\[\]"'a-z,\s]+"""


def grow(field: str, *tops: Any, low: Any = None) -> dict[str, tuple[Any, ...]]:
    """Make a range whose top grows; its bottom is `low` on all levels, or the top itself."""
    bottoms = (low,) * len(tops) if low is not None else tops
    return {f"min_{field}": bottoms, f"max_{field}": tops}
