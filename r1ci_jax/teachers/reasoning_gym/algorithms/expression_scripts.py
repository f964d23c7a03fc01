"""Scripts for arithmetic expressions: their syntax tree, their steps, and a walk over the tree."""

import ast
import random
import re
from collections.abc import Mapping
from typing import ClassVar, override

from r1ci_jax.teachers.teacher import Step, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TextTeacher


class _Signs(ast.NodeTransformer):
    """Removes pairs of minus signs."""

    @override
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand.operand if isinstance(node.operand, ast.UnaryOp) else node


def parse_formula(text: str) -> ast.expr:
    """Parse a formula; two minus signs in front of a value are none.

    Raises:
        UnreadableQuestionError: It is none.
    """
    try:
        return _Signs().visit(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise UnreadableQuestionError(text[:200]) from error


def write_tidily(text: str) -> str:
    """Write the formula with the usual blanks and without brackets around all of it."""
    return ast.unparse(parse_formula(text))


def name_steps(node: ast.expr, text: str, lines: list[str]) -> str:
    """Add a line for each operation, from the inside out; return the name of the value."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        return f"-{name_steps(node.operand, text, lines)}"
    if not isinstance(node, ast.BinOp):
        return ast.get_source_segment(text, node) or ast.unparse(node)
    left, right = (name_steps(part, text, lines) for part in (node.left, node.right))
    lines.append(f"s{len(lines) + 1} = {left} {operator_sign(node.op)} {right}")
    return f"s{len(lines)}"


def operator_sign(operator: ast.operator) -> str:
    """Write the sign of an operator."""
    return ast.unparse(ast.BinOp(ast.Name("a"), operator, ast.Name("b")))[2:-2]


_MOST_STEPS = 20
_OPERATORS: Mapping[str, str] = {
    "Add": "add",
    "Sub": "sub",
    "Mult": "mul",
    "Div": "truediv",
    "FloorDiv": "floordiv",
    "LShift": "lshift",
    "RShift": "rshift",
}


def write_walk(text: str, leaf: str) -> str:
    """Return a function that evaluates a syntax tree, with the operations that occur."""
    nodes = list(ast.walk(parse_formula(text)))
    kinds = {type(node.op).__name__ for node in nodes if isinstance(node, ast.BinOp)}
    table = [
        f"    ast.{kind}: operator.{_OPERATORS[kind]},\n" for kind in _OPERATORS if kind in kinds
    ]
    negated = "    if isinstance(node, ast.UnaryOp):\n        return -evaluate(node.operand)\n"
    has_sign = any(isinstance(node, ast.UnaryOp) for node in nodes)
    return (
        f"operations = {{\n{''.join(table)}}}\n\n\n"
        "def evaluate(node):\n"
        "    if isinstance(node, ast.BinOp):\n"
        "        return operations[type(node.op)](evaluate(node.left), evaluate(node.right))\n"
        f"{negated if has_sign else ''}"
        f"    return {leaf}\n\n"
    )


class Calculation(TextTeacher):
    """What the teachers of one arithmetic expression share."""

    by_steps: ClassVar[str] = ""
    """The form with a line for each operation; a long expression is written in the first form."""

    names: ClassVar = {
        "result": ("result", "value", "total"),
        "text": ("expression", "text", "formula", "problem"),
    }

    @override
    def step(self, data: str, form: str, rng: random.Random) -> Step:
        long = form == self.by_steps and len(re.findall(r"\w+", data)) > _MOST_STEPS
        return super().step(data, self.forms[0] if long else form, rng)

    @override
    def parse(self, question: str) -> str:
        text = super().parse(question)
        parse_formula(text)
        return text
