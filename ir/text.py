"""The text form of graphs (`.sir`): one op a line, types always written, `parse(print(g)) == g`."""

from __future__ import annotations

import ast
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import IRError, UsageError
from .expr import from_ast
from .files import replacing, write_text
from .graph import Graph, Loc, Module, Op, Value
from .registry import definition
from .types import DTYPES, parse_dim, parse_type, split_commas
from .weights import Weight, Weights, digest_of

VERSION = 1


# -- printing ------------------------------------------------------------------------------------------------------
def print_module(module: Module, contents: bool = False) -> str:
    """A module as text: version, facts, graphs; with `contents`, every weight by the hash of its values."""
    parts = [f"speechc {VERSION}"]
    if module.meta:
        parts.append("meta " + json.dumps(module.meta, sort_keys=True, default=str))
    return "\n".join(parts + [print_graph(g, contents) for g in module.graphs.values()]) + "\n"


def print_graph(graph: Graph, contents: bool = False) -> str:
    """One graph as text; `contents` as for a module."""
    inputs = ", ".join(f"%{v.name}: {v.type}" for v in graph.inputs)
    lines = [f"graph {graph.name}({inputs}) {{"]
    for v in graph.used_weights().values():
        lines.append(f"  weight ${v.name}: {v.type} #{_digest(v.payload, contents)}")
    for v in graph.states.values():
        initial = v.payload.initial
        lines.append(f"  state @{v.name}: {v.type} = {'$' + initial.name if hasattr(initial, 'name') else initial}")
    names: dict[int, str] = {}
    for op in graph.ops:
        lines.append("  " + _op_line(op, names))
    outs = [f"{_ref(v, names)} as {json.dumps(n)}" for v, n in zip(graph.outputs, graph.output_names)]
    lines.append(f"  return {', '.join(outs)}".rstrip())
    lines.append("}")
    return "\n".join(lines)


def _digest(weight: Weight, contents: bool) -> str:
    if contents and weight.known:
        return digest_of(weight.array)
    return weight.digest if weight.known or weight._digest else "?"


def print_op(op: Op) -> str:
    """One op as text, its operands numbered as in its graph."""
    names: dict[int, str] = {}
    if op.graph is not None:
        for other in op.graph.ops:
            line = _op_line(other, names)
            if other is op:
                return line
    return _op_line(op, names)


def _op_line(op: Op, names: dict[int, str]) -> str:
    arguments = [_ref(v, names) for v in op.operands] + [f"{k}={_attr(v)}" for k, v in op.attrs.items()]
    text = f"{op.kind}({', '.join(arguments)})"
    if op.results:
        for r in op.results:
            names[id(r)] = f"%{len(names)}"
        types = ", ".join(str(r.type) for r in op.results)
        text = f"{', '.join(names[id(r)] for r in op.results)} = {text} : " + (
            types if len(op.results) == 1 else f"({types})"
        )
    loc = op.loc
    text += f" @{json.dumps(loc.path)}" + "".join(
        f" {x or '-'}" for x in (loc.cls, loc.source) if loc.cls or loc.source
    )
    return text + (f" <- {', '.join(loc.passes)}" if loc.passes else "")


def _ref(v: Value | None, names: dict[int, str]) -> str:
    if v is None:
        return "none"
    if v.kind == "const":
        return f"{v.type.dtype}({_number(v.payload.item())})"
    if v.kind == "result":
        return names.get(id(v), "%?")
    return {"weight": "$", "state": "@", "input": "%"}[v.kind] + v.name


def _number(x) -> str:
    return {True: "true", False: "false"}[x] if isinstance(x, bool) else repr(x)


def _attr(v: Any) -> str:
    if v is None:
        return "none"
    if isinstance(v, (bool, int, float)):
        return _number(v)
    if isinstance(v, str):
        return json.dumps(v)
    if isinstance(v, tuple):
        return "[" + ", ".join(map(_attr, v)) + "]"
    return str(v)


# -- parsing -------------------------------------------------------------------------------------------------------
_HEAD = re.compile(r"graph (\w[\w.-]*)\((.*)\) \{$")
_NAMED = re.compile(r"(\S+): (.*?)$")
_LITERAL = re.compile(rf"({'|'.join(DTYPES)})\((.*)\)$")
_WEIGHT = re.compile(r"(\S+): (.*) #(\?|~?[0-9a-f]+)")
# What wrong text raises in the small parsers and type rules below, which take it for right.
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
_LOC = re.compile(r'"((?:[^"\\]|\\.)*)"(?: (?!<-)(\S+) (\S+))?(?: <- (.*))?$')


def parse_module(text: str, weights: Weights | None = None) -> Module:
    """Read a module back, over `weights` if given; every type is checked against its rule again."""
    module, graph, values = Module(weights=weights if weights is not None else Weights()), None, {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("//"):
            continue
        try:
            if graph is not None and line != "}":
                _parse_line(graph, values, line)
            elif line == "}":
                graph = None
            elif line.startswith("graph "):
                graph, values = _parse_head(module, line), {}
                values.update({f"%{v.name}": v for v in graph.inputs})
            elif line.startswith("meta "):
                module.meta = json.loads(line[5:])
            elif not re.fullmatch(rf"speechc {VERSION}", line):
                raise IRError(f"not speechc {VERSION} text: {line[:80]!r}")
        except IRError as error:
            error.where.append(f"line {number}")
            raise
        except _MALFORMED as error:
            raise IRError(f"malformed ({error}): {line[:80]!r}", [f"line {number}"]) from error
    if graph is not None:
        raise IRError(f"graph {graph.name} has no end")
    return module


def _parse_head(module: Module, line: str) -> Graph:
    head = _HEAD.match(line)
    if not head:
        raise IRError(f"not a graph: {line[:80]!r}")
    graph = module.graph(head[1])
    for part in split_commas(head[2]):
        name, type_text = part.split(": ", 1)
        graph.input(name.removeprefix("%"), parse_type(type_text))
    return graph


def _parse_line(graph: Graph, values: dict[str, Value], line: str) -> None:
    if line.startswith("weight $"):
        found = _WEIGHT.fullmatch(line[8:])
        if not found:
            raise IRError(f"not a weight (name: type #digest, or #? for any): {line[:80]!r}")
        name, type_text, digest = found.groups()
        graph.weights.declare(name, parse_type(type_text), None if digest == "?" else digest)
    elif line.startswith("state @"):
        body, _, initial = line[7:].rpartition(" = ")
        name, type_text = _NAMED.match(body).groups()
        start = graph.weights[initial[1:]] if initial[0] == "$" else ast.literal_eval(initial)
        values[f"@{name}"] = graph.state(name, parse_type(type_text), start)
    elif line.startswith("return"):
        for part in split_commas(line[6:]):
            value, _, name = part.partition(" as ")
            graph.output(_parse_ref(graph, values, value), json.loads(name))
    else:
        _parse_op(graph, values, line)


def _parse_op(graph: Graph, values: dict[str, Value], line: str) -> None:
    at = line.rfind(' @"')
    loc = _parse_loc(line[at + 2 :]) if at >= 0 else Loc("")
    body = line[:at] if at >= 0 else line
    results, types = [], []
    if body.startswith("%"):
        left, _, body = body.partition(" = ")
        results = left.split(", ")
        body, _, type_text = body.rpartition(" : ")
        types = split_commas(type_text[1:-1]) if type_text.startswith("(") else [type_text]
    kind, _, inside = body.partition("(")
    if not inside.endswith(")"):
        raise IRError(f"not an op: {line[:80]!r}")
    operands, attrs = [], {}
    for part in split_commas(inside[:-1]):
        name, eq, value = part.partition("=")
        if eq and name.isidentifier():
            attrs[name] = _parse_attr(value)
        else:
            operands.append(_parse_ref(graph, values, part))
    op = Op(kind, tuple(operands), attrs, loc)
    inferred = definition(kind).infer(op)
    written = tuple(parse_type(t) for t in types)
    if inferred != written:
        raise IRError(f"{kind} gives {', '.join(map(str, inferred))}, the text says {', '.join(types)}", code="SC102")
    op.results = tuple(Value("result", t, "", op, i) for i, t in enumerate(written))
    graph.insert(op, None)
    values.update(zip(results, op.results))


def _parse_ref(graph: Graph, values: dict[str, Value], text: str) -> Value | None:
    if text == "none":
        return None
    if text[0] == "$":
        return graph.weight(text[1:])
    if text in values:
        return values[text]
    literal = _LITERAL.match(text)
    if literal:
        return graph.const(_parse_attr(literal[2]), literal[1])
    raise IRError(f"{text} is not defined here")


_SIMPLE = {"none": None, "true": True, "false": False}
_WORDS = {"nan": float("nan"), "inf": float("inf"), **_SIMPLE}


@lru_cache(maxsize=65536)
def _parse_attr(text: str) -> Any:
    if text in _SIMPLE:
        return _SIMPLE[text]
    if text.isdigit():
        return int(text)
    if text[0] == '"':
        return json.loads(text)
    try:
        return _attr_from(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise IRError(f"not an attribute: {text[:80]!r}") from None


def _attr_from(node: ast.AST) -> Any:
    match node:
        case ast.List(elts=items):
            return tuple(_attr_from(i) for i in items)
        case ast.Constant(value=v):
            return v
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.UnaryOp(op=ast.USub(), operand=x):
            value = _attr_from(x)
            return -value
        case ast.BinOp(op=ast.MatMult()):  # a dimension that is time
            return parse_dim(ast.unparse(node).replace(" ", ""))
    return from_ast(node)


def _parse_loc(text: str) -> Loc:
    found = _LOC.match(text)
    if not found:
        raise IRError(f"not a location: {text!r}")
    path, cls, source, passes = found.groups()
    clean = ["" if x in (None, "-") else x for x in (cls, source)]
    return Loc(json.loads(f'"{path}"'), *clean, tuple(passes.split(", ")) if passes else ())


# -- copies --------------------------------------------------------------------------------------------------------
def clone(module: Module) -> Module:
    """A copy of the graphs that shares the weights' arrays."""
    return _reread(module, print_module(module), lambda w: w)


def retyped(module: Module, old: str = "f32", new: str = "f64") -> Module:
    """A copy that computes in another floating-point type, so that a property can be judged in float64."""
    text = re.sub(rf"(?<![\w$%@.]){old}(?=[\[(])", new, print_module(module)).replace(
        f'dtype="{old}"', f'dtype="{new}"'
    )

    def convert(w: Weight) -> Weight:
        if w.type.dtype != old or not w.known:
            return w
        array = w.array.astype(DTYPES[new])
        return Weight(w.name, w.type.with_(dtype=new), lambda: array)

    return _reread(module, text, convert)


def _reread(module: Module, text: str, convert) -> Module:
    weights = Weights()
    for w in module.weights:
        weights._put(convert(w))
    return parse_module(text, weights)


# -- files ---------------------------------------------------------------------------------------------------------
def save(module: Module, path: Path | str, weights: bool = True) -> None:
    """Write `x.sir`, and its weights to `x.safetensors` beside it; each whole or not at all. Raises OSError."""
    path = Path(path)
    if not weights or not len(module.weights):
        return write_text(path, print_module(module))
    module.weights.drop_unused(set().union(*(g.used_weights() for g in module.graphs.values())))
    with replacing(path) as temporary:
        temporary.write_text(print_module(module, contents=True), encoding="utf-8")
        module.weights.save(path.with_suffix(".safetensors"))


def load(path: Path | str) -> Module:
    """Read `x.sir`, and the weights beside it: `x.safetensors`, or `weights.safetensors` for a folder of dumps.

    Raises `UsageError` for a file that is not text (SC108) or that is malformed (with the code and line of the fault).
    """
    path = Path(path)
    try:
        module = parse_module(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UsageError("SC108", f"{path} is not the text of a graph", hints=["give a .sir file"]) from None
    except IRError as error:
        raise UsageError(
            error.code, error.message, [f"{path}: {w}" for w in error.where or ["the end"]], error.hints
        ) from None
    if not module.graphs:
        raise UsageError("SC108", f"{path} holds no graph")
    for beside in (path.with_suffix(".safetensors"), path.with_name("weights.safetensors")):
        if beside.exists():
            module.weights.attach(beside)
    return module
