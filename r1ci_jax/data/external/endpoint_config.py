"""Settings of a teacher behind an OpenAI-compatible endpoint."""

import dataclasses
import os
import urllib.parse
from typing import Annotated, Literal

from r1ci_jax.data.demonstrations import AGENTS
from r1ci_jax.errors import UserError
from r1ci_jax.ranges import Checked, Count, Entries, Natural, NonNegative, Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointConfig(Checked, section="endpoint"):
    """The endpoint, the model behind it, and what it may cost.

    The key is never a setting: it is read from the environment, sent to the endpoint, and written
    nowhere.
    """

    model: str
    """Name of the model at the endpoint (paper: GPT-4o)."""
    url: str = "https://api.openai.com/v1"
    """Address up to the version."""
    key_variable: str = "OPENAI_API_KEY"
    """Variable of the environment that holds the key; empty for an endpoint without keys."""
    token_budget: Natural = 0
    """Tokens of prompts and answers that may be paid for, all runs of a directory together; 0: any
    number, if there is a budget of money."""
    money_budget: NonNegative = 0.0
    """Money that may be spent, in the unit of the prices; 0: any, if there is one of tokens."""
    prompt_price: NonNegative = 0.0
    """Price of a million tokens of prompts."""
    answer_price: NonNegative = 0.0
    """Price of a million tokens of answers."""
    concurrency: Count = 8
    """Requests in flight."""
    temperatures: Annotated[tuple[NonNegative, ...], Entries(may_be_empty=True)] = (0.7, 1.0)
    """Temperature of the i-th trajectory to a question, in a cycle; empty: none is sent."""
    samples_per_question: Count = 4
    """Trajectories to a question at most; the first correct one is kept."""
    agents: Annotated[tuple[str, ...], Entries(order="distinct")] = ("code_agent",)
    """Ways of answering, by question in a cycle."""
    max_answer_tokens: Count = 2048
    """Tokens of one answer of the endpoint; a trajectory has one per script and a last one."""
    max_observation_characters: Count = 4000
    """Characters of a script's output that the endpoint reads: the beginning and the end."""
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the limit in a request: newer models of OpenAI want the second."""
    send_stop: bool = True
    """True: an answer ends where it would invent an output. False: for models without `stop`."""
    timeout_seconds: Positive = 120.0
    """Seconds that one answer may take."""
    max_retries: Natural = 6
    """Repetitions of a request that failed for a reason that may pass."""
    first_wait_seconds: Positive = 1.0
    """Wait before the first repetition; it doubles each time, and an endpoint may ask for more."""
    longest_wait_seconds: Positive = 60.0
    """Longest wait between two repetitions, whatever the endpoint asks for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        url = urllib.parse.urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UserError("endpoint.url is no http or https address, such as http://host:8000/v1")
        if url.username or url.password or url.query:
            raise UserError(
                "endpoint.url holds more than an address; a key goes to the environment"
            )
        if not self.token_budget and not self.money_budget:
            raise UserError(
                "the endpoint has no budget; give it --token-budget or --money-budget "
                "(endpoint.token_budget, endpoint.money_budget)"
            )
        if self.money_budget and not (self.prompt_price or self.answer_price):
            raise UserError("endpoint.money_budget needs endpoint.prompt_price and answer_price")
        if unknown := sorted({*self.agents} - {*AGENTS}):
            raise UserError(f"endpoint.agents has {unknown[0]!r}; choose from {', '.join(AGENTS)}")

    def key(self) -> str:
        """Read the key from the environment.

        Raises:
            UserError: The variable is not set.
        """
        if not self.key_variable:
            return "none"
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UserError(
                f"the environment has no {self.key_variable}; put the endpoint's key there, or "
                "name another variable"
            )
        return key

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Return the price of so many tokens."""
        return (prompt_tokens * self.prompt_price + answer_tokens * self.answer_price) / 1e6
