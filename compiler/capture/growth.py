"""How large the numbers in an archive's sizes can get, bounded before anything computes them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

SYMBOL_BITS = 64  # of a size that varies
MAX_BITS = 1024  # products of sizes in real models stay below 200
MAX_EXPONENT = 8
MAX_LITERAL = 2**63
MAX_LENGTH = 16_384
MAX_DEPTH = 100
_PRODUCTS = ("Mul", "mul")
_POWERS = ("Pow", "PowByNatural", "FloatPow", "pow")


class TooLarge(Exception):
    """A size that could grow beyond all bounds."""


def check_growth(tree: ast.Expression) -> None:
    """Raise `TooLarge` for numbers, powers, products or nesting that no exporter writes."""
    _bits(tree.body, 0)


def _bits(node: ast.AST, depth: int) -> int:
    """An upper bound for the bits of an expression's value."""
    if depth > MAX_DEPTH:
        raise TooLarge("nested too deeply")
    match node:
        case ast.Constant():
            return _literal_bits(node.value)
        case ast.Call(func=ast.Name(id="Symbol")) | ast.Name():
            return SYMBOL_BITS
        case ast.BinOp(op=ast.LShift()):
            raise TooLarge("a shift")
        case ast.Call(func=ast.Name(id=name), args=[base, exponent]) if name in _POWERS:
            return _power(_bits(base, depth + 1), _number(exponent))
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            return _power(_bits(base, depth + 1), _number(exponent))
        case ast.BinOp(left=a, op=ast.Mult(), right=b):
            return _limited(_bits(a, depth + 1) + _bits(b, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=args):
            parts = [_bits(a, depth + 1) for a in args]
            if name in _POWERS:
                raise TooLarge("a power of another form")
            return _limited(sum(parts) if name in _PRODUCTS else max(parts, default=0) + len(parts))
    parts = [_bits(child, depth + 1) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return _limited(max(parts, default=0) + len(parts))


def _number(node: ast.AST) -> Any:
    """The literal that an exponent is: `2`, `-1`, `Integer(2)`, `Rational(1, 2)`; None for anything else."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _number(operand)
            return None if value is None else -value
        case ast.Call(func=ast.Name(id="Integer" | "Float"), args=[inner]):
            return _number(inner)
        case ast.Call(func=ast.Name(id="Rational"), args=[over, under]):
            a, b = _number(over), _number(under)
            return a / b if a is not None and b else None
    return None


def _literal_bits(value: Any) -> int:
    if isinstance(value, int) and abs(value) > MAX_LITERAL:
        raise TooLarge("a number beyond 64 bits")
    return int(value).bit_length() if isinstance(value, int) else SYMBOL_BITS


def _power(bits: int, exponent: Any) -> int:
    if not isinstance(exponent, (int, float)) or not abs(exponent) <= MAX_EXPONENT:
        raise TooLarge(f"a power other than one of at most {MAX_EXPONENT}")
    return _limited(int(bits * max(abs(exponent), 1)))


def _limited(bits: int) -> int:
    if bits > MAX_BITS:
        raise TooLarge(f"more than {MAX_BITS} bits")
    return bits


def check_nodes(nodes: Iterable[dict[str, Any]]) -> None:
    """The same for arithmetic on sizes that is written as nodes of the graph, each using those before it."""
    known: dict[str, int] = {}
    for node in nodes:
        family, _, name = node["target"].rpartition(".")
        if family != "_operator" or name == "getitem":
            continue
        arguments = [_argument(i["arg"]) for i in node["inputs"]]
        parts = [known.get(a, SYMBOL_BITS) if isinstance(a, str) else _literal_bits(a) for a in arguments]
        if name in _POWERS:
            bits = _power(parts[0], arguments[-1])
        else:
            bits = _limited(sum(parts) if name in _PRODUCTS else max(parts, default=0) + 1)
        for output in node["outputs"]:
            for value in output.values():
                if isinstance(value, dict) and isinstance(value.get("as_name"), str):
                    known[value["as_name"]] = bits


def _argument(arg: dict[str, Any]) -> Any:
    """The number, or the name of the node, that an argument is."""
    value = next(iter(arg.values()), None)
    while isinstance(value, dict):
        value = next(iter(value.values()), None)
    return value
