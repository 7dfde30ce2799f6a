"""What the text of an exported program may say: operators of known namespaces, sizes as arithmetic, plain trees."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_NAME = r"[A-Za-z_]\w*"
_TARGET = re.compile(
    rf"torch\.ops\.(aten|prims|prim|speechc|higher_order)\.{_NAME}(\.{_NAME})?$"
    rf"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|xor|lshift|rshift)$"
    rf"|math\.(ceil|floor|trunc|sqrt|log2)$"
    rf"|torch\.sym_(int|float|max|min|ite|not|sqrt|sum|fresh_size)$|torch\._sym_(sqrt|log2)$"
)
_FUNCTIONS = set(
    "Add Mul Pow Max Min Mod PythonMod FloorDiv CeilDiv CleanDiv ModularIndexing Where IntTrueDiv FloatTrueDiv "
    "TruncToInt FloorToInt CeilToInt RoundToInt ToFloat Identity Abs PowByNatural FloatPow LShift RShift RoundDecimal "
    "TruncToFloat Eq Ne Lt Le Gt Ge And Or Not Piecewise floor ceiling Integer Rational Float Equality Unequality "
    "StrictLessThan LessThan StrictGreaterThan GreaterThan IsNonOverlappingAndDenseIndicator".split()
)
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name, ast.Load, ast.Tuple,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Call, ast.keyword,
)  # fmt: skip
# What torch.export itself writes into tree descriptions; ordered dictionaries, named tuples and outputs of models
# are looked up among types that somebody registered, never imported.
_TREE_WORDS = ("__enum__", "default_factory", "__module__")


class Refused(Exception):
    """The archive says something that no exporter of plain models writes."""


def check_program(program: Any) -> None:
    """Walk the whole JSON of a program. Raises `Refused` at the first operator, size or tree that is not plain."""
    stack = [program]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key, value in item.items():
                _check_field(key, value)
                stack.append(value)
        elif isinstance(item, list):
            stack.extend(item)


def _check_field(key: str, value: Any) -> None:
    if key == "target" and isinstance(value, str) and not _TARGET.match(value):
        raise Refused(f"it calls {value[:80]!r}, which is not an operator")
    if key == "expr_str" and isinstance(value, str):
        check_expression(value)
    if key == "range_constraints" and isinstance(value, dict):
        for name in value:
            check_expression(name)
    if key in ("in_spec", "out_spec", "treespec") and isinstance(value, str) and value:
        if any(word in value for word in _TREE_WORDS):
            raise Refused("its tree of inputs names Python objects")
        json.loads(value)


def check_expression(text: str) -> None:
    """Refuse anything but arithmetic on names, numbers and the functions of symbolic sizes (sympy evaluates it)."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused(f"a size is not arithmetic: {text[:80]!r}") from None
    symbols = {id(c.args[0]) for c in ast.walk(tree) if _is_symbol(c)}
    for node in ast.walk(tree):
        plain = isinstance(node, _NODES)
        if isinstance(node, ast.Call):
            named = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
            plain = _is_symbol(node) or (named and not node.keywords)
        elif isinstance(node, ast.Constant):
            plain = isinstance(node.value, (int, float, bool)) or id(node) in symbols
        elif isinstance(node, ast.Name):
            plain = not node.id.startswith("_")
        if not plain:
            raise Refused(f"a size is not arithmetic: {text[:80]!r}")


def _is_symbol(node: ast.AST) -> bool:
    """`Symbol('s0', positive=True, integer=True)`."""
    match node:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=keywords):
            return name.isidentifier() and all(k.arg and isinstance(k.value, ast.Constant) for k in keywords)
    return False
