"""What the text of an exported program may say: operators of known namespaces, sizes as arithmetic, plain trees."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from .growth import MAX_LENGTH, TooLarge, check_growth, check_nodes

_NAME = r"[A-Za-z_]\w*"
_TARGET = re.compile(
    rf"torch\.ops\.(aten|prims|prim|speechc|higher_order)\.{_NAME}(\.{_NAME})?"
    rf"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|xor|rshift)"
    rf"|math\.(ceil|floor|trunc|sqrt|log2)"
    rf"|torch\.sym_(int|float|max|min|ite|not|sqrt|sum|fresh_size)|torch\._sym_(sqrt|log2)"
)
_FUNCTIONS = {
    "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing",
    "Where", "IntTrueDiv", "FloatTrueDiv", "TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt", "ToFloat", "Identity",
    "Abs", "PowByNatural", "FloatPow", "RShift", "RoundDecimal", "TruncToFloat", "Eq", "Ne", "Lt", "Le", "Gt",
    "Ge", "And", "Or", "Not", "Piecewise", "floor", "ceiling", "Integer", "Rational", "Float", "Equality", "Unequality",
    "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "IsNonOverlappingAndDenseIndicator",
}  # fmt: skip
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name, ast.Load, ast.Tuple,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Call, ast.keyword,
)  # fmt: skip
_WORD = re.compile(r"[\w.\-]*")  # names end up in Python source that torch generates
_TREES = {"builtins.tuple", "builtins.list", "builtins.dict", None}


class Refused(Exception):
    """The archive says something that no exporter of plain models writes."""


def plain_program(program: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a program, reduced to what capture needs, if all of it is plain.

    Input guards (Python source) and notes on nodes are left out, trees of foreign types become dictionaries and
    tuples, devices become the CPU. Raises `Refused` at the first operator, size or name that is not plain.
    """
    program = {k: v for k, v in program.items() if k not in ("guards_code", "torch_version")}
    calls = program["graph_module"]["module_call_graph"]
    program["graph_module"] = {
        **program["graph_module"], "metadata": {}, "module_call_graph": [c for c in calls if not c["fqn"]],
    }  # fmt: skip
    for name in program.get("range_constraints", {}):
        check_expression(name)
    return _plain(program)


def _plain(item: Any, key: str = "") -> Any:
    """A copy of a part of the JSON that stands under `key`."""
    if key in _FIELDS and item is not None:
        return _FIELDS[key](item)
    if isinstance(item, dict):
        for name in item:
            _check_word(name)
        return {name: _plain(value, name) for name, value in item.items()}
    if isinstance(item, list):
        if key == "nodes":
            _bounded(check_nodes, item, "a node of it")
        return [_plain(value, key) for value in item]
    if isinstance(item, str):
        _check_word(item)
    return item


def _check_word(text: str) -> None:
    if not _WORD.fullmatch(text):
        raise Refused(f"a name in it is not a name: {text[:80]!r}")


def _target(text: str) -> str:
    if not _TARGET.fullmatch(text):
        raise Refused(f"it calls {text[:80]!r}, which is not an operator")
    return text


def _expression(text: str) -> str:
    check_expression(text)
    return text


def _device(device: dict) -> dict:
    return {"type": "cpu", "index": None}


def _node_metadata(metadata: dict) -> dict:
    return {k: str(metadata[k]) for k in ("stack_trace", "nn_module_stack") if k in metadata}


def _refuse_object(item: Any) -> None:
    raise Refused("it holds an object that is not a tensor")


def _tree(text: str) -> str:
    """A description of nested inputs or outputs with Python's own containers alone."""
    version, tree = json.loads(text)
    return json.dumps([version, _plain_tree(tree)])


def _plain_tree(tree: dict) -> dict:
    children = [_plain_tree(c) for c in tree["children_spec"]]
    if tree["type"] in _TREES:
        if tree["type"] == "builtins.dict" and not all(isinstance(k, (str, int)) for k in json.loads(tree["context"])):
            raise Refused("its tree of inputs names Python objects")
        return {**tree, "children_spec": children}
    try:
        keys = json.loads(tree["context"])
    except (TypeError, ValueError):
        keys = None
    if isinstance(keys, list) and len(keys) == len(children) and all(isinstance(k, str) for k in keys):
        return {"type": "builtins.dict", "context": json.dumps(keys), "children_spec": children}
    return {"type": "builtins.tuple", "context": "null", "children_spec": children}


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "target": _target,
    "as_operator": _target,
    "expr_str": _expression,
    "in_spec": _tree,
    "out_spec": _tree,
    "metadata": _node_metadata,
    "device": _device,
    "as_device": _device,
    "as_string": str,  # an argument of an operator: an equation, a padding mode
    "as_strings": lambda items: [str(x) for x in items],
    "as_custom_obj": _refuse_object,
    "custom_obj": _refuse_object,
    "range_constraints": dict,  # its names are checked as expressions
}


def check_expression(text: str) -> None:
    """Refuse anything but arithmetic on names, numbers and the functions of symbolic sizes (sympy evaluates it)."""
    if len(text) > MAX_LENGTH:
        raise Refused(f"a size is {len(text)} characters long")
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
    _bounded(check_growth, tree, f"the size {text[:80]!r}")


def _bounded(check: Callable[[Any], None], item: Any, what: str) -> None:
    try:
        check(item)
    except TooLarge as error:
        raise Refused(f"{what} could grow without bound ({error})") from None


def _is_symbol(node: ast.AST) -> bool:
    """`Symbol('s0', positive=True, integer=True)`."""
    match node:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=keywords):
            return name.isidentifier() and all(k.arg and isinstance(k.value, ast.Constant) for k in keywords)
    return False
