"""Rewrites: a pattern to match, a condition to check, a replacement to build; and the driver that applies them.

class DropDoubleNegation(Rewrite):
    "-(-x) is x."
    name, stage, equal = "drop-double-negation", "normalize", Exact()

    def match(self, p, x):
        return p.neg(p.neg(x))

    def build(self, g, m):
        return m.x
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from ..ir.errors import IRError
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import COMMON
from .base import Context, Pass

COMMUTATIVE = {"add", "mul", "minimum", "maximum", "equal", "logical_and", "logical_or"}


class Var:
    """Matches any value (also a missing operand); the same variable twice must be the same value."""

    def __init__(self, name: str):
        self.name = name


class Node:
    """Matches the result of an op of one of `kinds` whose operands match and which has the attributes given.

    An op that carries `then`, `out` or `dynamic` does more than its kind says: it matches only a node that gives that
    attribute, or `bare=False`, whose `build` then has to keep them.
    """

    def __init__(self, kinds: tuple[str, ...], operands: tuple, name=None, shared=False, bare=True, **attrs):
        self.kinds, self.operands, self.attrs, self.name, self.shared = kinds, operands, attrs, name, shared
        self.bare = bare


class Pattern:
    """Builds patterns: `p.conv(x, w, b, name="conv", groups=1)`. Numbers match constants; left-out operands match all.

    `p.one_of(("conv", "linear"), x, w)` matches several kinds. `shared=True` allows readers outside the pattern,
    `bare=False` ops with `then`, `out` or `dynamic`.
    """

    def __getattr__(self, kind: str):
        if kind.startswith("__"):
            raise AttributeError(kind)
        return lambda *operands, **options: Node((kind,), operands, **options)

    def one_of(self, kinds, *operands, **options) -> Node:
        return Node(tuple(kinds), operands, **options)


class Match:
    """What a pattern found: values by variable name as attributes, ops by node name as items, `root` the last op."""

    def __init__(self, root: Op, rewrite: Rewrite, context: Context):
        self.root, self._rewrite, self._context = root, rewrite, context
        self.values: dict[str, Value | None] = {}
        self.ops: dict[str, Op] = {}
        self.inner: list[Op] = []

    def __getattr__(self, name: str):
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Op:
        return self.ops[name]

    def no(self, reason: str, value: Value | None = None) -> bool:
        """Refuse, telling the user why (a missed remark); `return m.no(…)` from `check`."""
        shown = reason if value is None else f"{reason} ({value})"
        self._context.remark("missed", self._rewrite.name, shown, self.root)
        return False


class Rewrite(Pass):
    """A pass made of one local replacement, applied wherever it matches until nothing changes.

    `match(p, x, …)` returns a pattern, or a list of alternatives; `check(m)` returns False to refuse (None and True
    accept); `build(g, m)` returns what replaces the root's result.
    """

    def match(self, p: Pattern, *variables):
        raise NotImplementedError(type(self).__name__)

    def check(self, m: Match) -> bool | None:
        return True

    def build(self, g: Builder, m: Match) -> Value:
        raise NotImplementedError(type(self).__name__)

    def run(self, graph: Graph, context: Context) -> None:
        drive(graph, [self], context)

    def alternatives(self) -> list[Node]:
        """The patterns, made once."""
        if not hasattr(self, "_alternatives"):
            names = list(inspect.signature(self.match).parameters)[1:]
            made = self.match(Pattern(), *map(Var, names))
            self._alternatives = list(made) if isinstance(made, (list, tuple)) else [made]
        return self._alternatives


def drive(graph: Graph, rewrites: list[Rewrite], context: Context) -> None:
    """Apply `rewrites` all over `graph`, revisiting what a change touches, until none applies."""
    by_kind: dict[str, list[tuple[Rewrite, Node]]] = {}
    for rewrite in rewrites:
        for node in rewrite.alternatives():
            for kind in node.kinds:
                by_kind.setdefault(kind, []).append((rewrite, node))
    queue = {op: None for op in graph.ops if op.kind in by_kind}
    budget = 64 * (len(graph) + 16)
    while queue:
        op = next(iter(queue))
        del queue[op]
        if op.graph is None:
            continue
        for rewrite, node in by_kind[op.kind]:
            touched = _apply(graph, rewrite, node, op, context)
            if touched is not None:
                queue.update((o, None) for o in touched if o.graph is not None and o.kind in by_kind)
                budget -= 1
                break
        if budget < 0:
            raise IRError(f"{', '.join(r.name for r in rewrites)} does not come to an end", where=[str(op.loc)])


def _apply(graph: Graph, rewrite: Rewrite, node: Node, root: Op, context: Context) -> list[Op] | None:
    """Try one rewrite at one op; the ops to look at again, or None."""
    m = find(graph, node, root, rewrite, context)
    if m is None or rewrite.check(m) is False:
        return None
    before = root.prev
    builder = Builder(graph, root.loc.through(rewrite.name), before=root)
    new = rewrite.build(builder, m)
    old = root.result
    if (new.type != old.type and not m.no(f"the result would be {new.type}, not {old.type}")) or not context.allow():
        _take_back(graph, before, root)
        return None
    if new is old:
        raise IRError(f"{rewrite.name} replaced an op by itself", where=[str(root.loc)])
    readers = list(old.users)
    graph.replace(old, new)
    touched = list(readers)
    op = before.next if before is not None else graph._first
    while op is not None and op is not root:
        touched.append(op)
        op = op.next
    _erase_dead(graph, root, touched)
    return touched


def _take_back(graph: Graph, before: Op | None, root: Op) -> None:
    """Erase what was built between `before` and `root`."""
    while root.prev is not before:
        graph.erase(root.prev)


def _erase_dead(graph: Graph, op: Op, touched: list[Op]) -> None:
    """Erase `op` if nothing reads it, then what only it read; producers that stay are looked at again."""
    if any(r.users or any(o is r for o in graph.outputs) for r in op.results):
        touched.append(op)
        return
    sources = [v.op for v in op.operands if v is not None and v.op is not None]
    graph.erase(op)
    for source in dict.fromkeys(sources):
        if source.graph is not None:
            _erase_dead(graph, source, touched)


def find(graph: Graph, node: Node, root: Op, rewrite: Rewrite, context: Context) -> Match | None:
    """Match a pattern against `root`, trying both orders of commutative ops."""
    outputs = {id(v) for v in graph.outputs}
    for values, ops, inner in _match_op(node, root, {}, {}, ()):
        used_outside = [
            o
            for o, shared in inner
            if o is not root and not shared
            and (any(u is not root and all(u is not i for i, _ in inner) for u in o.result.users)
                 or id(o.result) in outputs)
        ]  # fmt: skip
        if used_outside:
            continue
        m = Match(root, rewrite, context)
        m.values, m.ops, m.inner = values, ops, [o for o, _ in inner]
        return m
    return None


def _match_op(node: Node, op: Op, values: dict, ops: dict, inner: tuple) -> Iterator[tuple[dict, dict, tuple]]:
    if op.kind not in node.kinds or len(op.results) != 1 or any(op.attrs.get(k) != v for k, v in node.attrs.items()):
        return
    if node.bare and not bare(op, *node.attrs):
        return
    if len(node.operands) > len(op.operands):
        return
    inner = inner + ((op, node.shared),)
    if node.name:
        ops = {**ops, node.name: op}
    yield from _match_operands(node.operands, op.operands, values, ops, inner)
    if op.kind in COMMUTATIVE and len(node.operands) == 2:
        yield from _match_operands(node.operands, op.operands[::-1], values, ops, inner)


def _match_operands(patterns, operands, values, ops, inner) -> Iterator[tuple[dict, dict, tuple]]:
    if not patterns:
        yield values, ops, inner
        return
    for found in _match_value(patterns[0], operands[0], values, ops, inner):
        yield from _match_operands(patterns[1:], operands[1:], *found)


def _match_value(pattern, value: Value | None, values, ops, inner) -> Iterator[tuple[dict, dict, tuple]]:
    if isinstance(pattern, Var):
        if pattern.name not in values:
            yield {**values, pattern.name: value}, ops, inner
        elif values[pattern.name] is value:
            yield values, ops, inner
    elif isinstance(pattern, Node):
        if value is not None and value.kind == "result" and value.index == 0:
            yield from _match_op(pattern, value.op, values, ops, inner)
    elif pattern is None:
        if value is None:
            yield values, ops, inner
    elif is_number(value, pattern):
        yield values, ops, inner


def bare(op: Op, *but: str) -> bool:
    """Whether `op` does what its kind says and no more: it carries no `then`, `out` or `dynamic` (besides `but`)."""
    return not any(op.attrs.get(name) for name in COMMON if name not in but)


def numbers(value: Value | None) -> bool:
    """Whether a weight can be computed with at compile time: known and not quantized, or left out."""
    return value is None or (value.known and value.type.quant is None and value.type.is_float)


def number_of(value: Value | None) -> float | None:
    """The number that `value` is everywhere, if it is a known scalar (or a known array of one element)."""
    if value is None or not value.known or value.type.quant is not None or any(s != 1 for s in value.type.sizes):
        return None
    return value.array.reshape(-1)[0].item()


def is_number(value: Value | None, wanted: float) -> bool:
    """Whether `value` is the constant `wanted`, to the precision of its type."""
    number = number_of(value)
    if number is None:
        return False
    return number == wanted or abs(number - wanted) <= 1e-6 * abs(wanted)
