"""The interpreter as a tool of a verifiers environment: an MCP server before the jail.

Verifiers starts this module as a program (`python -m`), one for all rollouts of an environment.
"""

from typing import Any

from r1ci_jax.sandbox import Sandbox, SandboxConfig
from r1ci_jax.tasks.verifiers import verifiers_package
from r1ci_jax.text import protocol

vf: Any = verifiers_package.load()


class InterpreterConfig(vf.SharedToolsetConfig):
    """Settings of the tool."""

    workers: int = 2
    """Scripts that run at a time."""
    longest_output: int = 8000
    """Characters of an output that the policy reads; the middle of a longer one is left out."""


class Interpreter(vf.Toolset[InterpreterConfig]):
    """Runs scripts in the jail; without a working jail it does not start."""

    TOOL_PREFIX = None  # the tool is named run_python, without a server's name before it

    async def setup(self) -> None:
        """Open the sandbox; it closes with the server."""
        config = SandboxConfig(workers=self.config.workers)
        self._sandbox = self._exit_stack.enter_context(Sandbox(config))

    @vf.tool
    async def run_python(self, code: str) -> str:
        """Run one complete Python script in a new process without network; return its output."""
        result = await self._sandbox.run_async(code)
        return shorten(protocol.observation(result).strip(), self.config.longest_output)


def shorten(text: str, length: int) -> str:
    """Leave the middle out of a text that is longer than `length` characters."""
    half = max(length // 2, 1)
    return text if len(text) <= length else f"{text[:half]}\n[...]\n{text[-half:]}"


if __name__ == "__main__":
    Interpreter.run()
