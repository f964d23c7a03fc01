"""Settings of the demonstrations: where they come from, and the mixture of their strategies."""

import dataclasses

from r1ci_jax.errors import UserError
from r1ci_jax.ranges import Checked, Count, Fraction, NonNegative


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemonstrationConfig(Checked, section="demonstrations"):
    """Source of the demonstrations for supervised fine-tuning.

    The numbers are weights of the scripted teachers' mixture: they need not sum to one. Where a
    teacher lacks a strategy for a question, the other strategies share it by their weights.
    """

    path: str = ""
    """File of JSON lines, or its URL, with demonstrations made elsewhere (docs/demonstrations.md).
    Empty: the scripted teachers write them."""
    allow_missing_teachers: bool = False
    """True: training tasks without a scripted teacher are listed and left out of supervised
    fine-tuning. False: they are an error."""
    reexecute: bool = True
    """True: every script of `path` runs again, and must print what the file says that it printed.
    False: the file is believed, for scripts whose output depends on the machine or the time."""
    code_agent: NonNegative = 0.7
    """Weight of demonstrations with a free choice of text and code."""
    all_text: NonNegative = 0.1
    """Weight of demonstrations that are instructed to answer without code."""
    all_code: NonNegative = 0.1
    """Weight of demonstrations that are instructed to answer with code."""
    codesteer: NonNegative = 0.1
    """Weight of demonstrations with a first answer, then the request to check it with code."""
    code: NonNegative = 0.55
    """Weight among code_agent: one script, then the answer."""
    repair: NonNegative = 0.10
    """Weight among code_agent: a script that raises (shown, not learned), then its repair."""
    check: NonNegative = 0.10
    """Weight among code_agent: a script, a second one that checks the result, then the answer."""
    direct: NonNegative = 0.25
    """Weight among code_agent: the answer without any script."""
    two_stage: NonNegative = 0.10
    """Weight among code_agent: a script for a small case, then one that solves the question. This
    and the following settings are not for the toy suite."""
    switch: NonNegative = 0.05
    """Weight among code_agent: working in words, then a script that tests their result."""
    multi_turn: Fraction | None = None
    """Fraction of code_agent that repair, check, two_stage and switch share, by their weights: the
    strategies with several turns or a change from words to code. None: what the weights say."""
    wrong: Fraction = 0.0
    """Fraction of code_agent that answers wrongly and is learned: an ablation of the paper
    (Fig. 9b). 0: only correct trajectories (the paper's)."""
    max_tokens: Count = 2048
    """Tokens of a demonstration's turns and outputs at most, without the prompt: what is longer is
    written shorter, or rejected. They are the experiment's tokenizer's, or else estimated."""
    median_tokens: Count = 600
    """Length in tokens that half of a task's demonstrations may exceed: as many of the longest as
    it takes are written again as code, with the teacher's shortest script (without words if need
    be)."""
    words_first: Fraction = 0.7
    """Fraction of scripts that follow words; the others come at once."""
    own_mistake: Fraction = 0.5
    """Fraction of repair whose first script answers wrongly; that of the others raises."""
    wrong_first: Fraction = 0.5
    """Fraction of codesteer whose first answer is wrong (shown, not learned)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code_agent + self.all_text + self.all_code + self.codesteer == 0:
            raise UserError(
                "demonstrations.code_agent, all_text, all_code and codesteer are all zero; "
                "give one of them a weight"
            )
        if self.code_agent > 0 and self.code + self.repair + self.check + self.direct == 0:
            raise UserError(
                "demonstrations.code, repair, check and direct are all zero; give one of them a "
                "weight, or set demonstrations.code_agent to zero too"
            )
