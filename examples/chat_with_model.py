"""A conversation with a real model, whose scripts run in the jail while it answers.

    python examples/chat_with_model.py Qwen/Qwen2.5-0.5B-Instruct
    python examples/chat_with_model.py models/my-checkpoint

The argument is a Hugging Face directory or hub id, a GGUF file, or a preset. Each line of standard
input is a message; the model remembers the earlier ones. `r1ci chat` is the same with commands.
"""

import sys

from r1ci_jax import Policy
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.text import prompts
from r1ci_jax.tools.chat.conversation import Conversation
from r1ci_jax.tools.chat.view import TextView


def main(path: str) -> None:
    """Answer every line of standard input."""
    policy = Policy.from_pretrained(path)
    settings = policy.settings
    with Sandbox() as sandbox:
        view = TextView(sys.stdout, policy.tokenizer, use_color=sys.stdout.isatty())
        talk = Conversation(
            policy.runner(sandbox, slots=1),
            settings.eval.sampling,
            view,
            # It has to be told how its scripts are run and its answers are marked.
            instructions=prompts.INSTRUCTIONS["code_agent"],
        )
        talk.reset(settings.system)
        for message in sys.stdin:
            print(f"> {message.strip()}")
            talk.ask(message.strip(), is_stopped=lambda: False)


if __name__ == "__main__":
    main(sys.argv[1])
