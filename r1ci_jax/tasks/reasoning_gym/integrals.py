"""Antiderivatives, compared by sympy: this file runs in the jail, as it stands, beside the answer.

An answer becomes sympy's objects node by node of its syntax tree. No text is given to sympy's
parsers, which would evaluate it.
"""

import ast

import sympy

_FUNCTIONS = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "Abs"),
)
_CONSTANTS = {"pi": sympy.pi, "E": sympy.E}
_MAX_EXPONENT = 99


class NotAFormula(Exception):
    """The text has something that a formula cannot have."""


def formula(text: str, variable: str) -> sympy.Expr:
    """Return the text as an expression in the variable and the constant C."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotAFormula(text) from error
    return _expression(tree, {name: sympy.Symbol(name) for name in (variable, "C")})


def _expression(tree: ast.expr, symbols: dict[str, sympy.Symbol]) -> sympy.Expr:
    match tree:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return sympy.Rational(repr(value))
        case ast.Name(id=name) if name in symbols:
            return symbols[name]
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _expression(operand, symbols)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_expression(operand, symbols)
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(_expression(left, symbols), operator, _expression(right, symbols))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return getattr(sympy, name)(_expression(argument, symbols))
    raise NotAFormula(ast.dump(tree)[:80])


def _combined(left: sympy.Expr, operator: ast.operator, right: sympy.Expr) -> sympy.Expr:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Pow() if not right.is_number or abs(right) <= _MAX_EXPONENT:
            return left**right
    raise NotAFormula(type(operator).__name__)


def integral_score(answer: str, variable: str, integrand: str) -> float:
    """Return 1.0 if the answer's derivative is the integrand, else 0.0."""
    try:
        derivative = sympy.diff(formula(answer, variable), sympy.Symbol(variable))
        difference = derivative - formula(integrand, variable)
        return 1.0 if sympy.simplify(difference) == 0 else 0.0
    except NotAFormula:
        return 0.0
