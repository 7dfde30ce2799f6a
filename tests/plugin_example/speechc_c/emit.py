"""A graph as one C function: weights as constants, values in a workspace that the caller brings, states in place."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from speechc.ir.expr import Div, Expr, Extreme, Sym, symbols
from speechc.ir.graph import Graph, Value

from .kernels import KERNELS

CTYPE = {"f32": "float", "i32": "int32_t", "i64": "int64_t", "bool": "uint8_t"}
TEXT = """\
{functions}
{constants}

/* Bytes that {prefix}_run wants as its workspace. */
size_t {prefix}_workspace({sizes}) {{ return {room}; }}

/* One call. Arrays are dense and row-major; states start from the manifest's values, and each call moves them on.
{ports} */
void {prefix}_run({arguments}) {{
  char *at = workspace;
  {body}
}}
"""


class Writer:
    """The function being written. Kernels add statements to it; every value has a `name`, a pointer in C."""

    def __init__(self, graph: Graph, prefix: str):
        self.graph, self.prefix = graph, prefix
        self.lines: list[str] = []
        self.constants: list[str] = []
        self.room: list[str] = []
        self.at_the_end: list[Callable[[], None]] = []  # what becomes of the states, once everything has read them
        self.symbols = sorted({s for v in graph.inputs for size in v.type.sizes for s in symbols(size)})
        self.names = {id(v): f"in{i}" for i, v in enumerate(graph.inputs)}
        self.names |= {id(v): f"state{i}" for i, v in enumerate(graph.states.values())}

    def text(self) -> str:
        """The C source."""
        g = self.graph
        for op in g.ops:
            self.lines.append(f"/* {op.kind}, {str(op.loc).replace('*/', '* /')} */")
            for r in op.results:
                self.place(r)
            KERNELS[op.kind].build(self, op, *op.results, *op.operands)
        for i, v in enumerate(g.outputs):
            self.copy(f"out{i}", v)
        for update in self.at_the_end:
            update()
        ports = [(f"in{i}", "const ", v.name, v.type) for i, v in enumerate(g.inputs)]
        ports += [(f"out{i}", "", name, v.type) for i, (name, v) in enumerate(zip(g.output_names, g.outputs))]
        ports += [(f"state{i}", "", v.name, v.type) for i, v in enumerate(g.states.values())]
        sizes = [f"int n_{s}" for s in self.symbols]
        pointers = [f"{const}{CTYPE[type.dtype]} *{name}" for name, const, _, type in ports]
        return TEXT.format(
            functions=Path(__file__).with_name("kernels.c").read_text(),
            constants="\n".join(self.constants),
            prefix=self.prefix,
            sizes=", ".join(sizes) or "void",
            room=" + ".join(self.room) or "0",
            ports="\n".join(f"   {name}: {of}, {type}" for name, _, of, type in ports),
            arguments=", ".join([*sizes, *pointers, "void *workspace"]),
            body="\n  ".join(self.lines),
        )

    # -- values ----------------------------------------------------------------------------------------------------
    def name(self, v: Value) -> str:
        """The pointer to a value; weights and literals become constants when they are first wanted."""
        if id(v) not in self.names:
            self.names[id(v)] = name = f"w{len(self.constants)}"
            numbers = ", ".join(self.literal(x, v.type.dtype) for x in np.ravel(v.array).tolist())
            self.constants.append(f"static const {CTYPE[v.type.dtype]} {name}[] = {{{numbers}}}; /* {v.type} */")
        return self.names[id(v)]

    def place(self, v: Value) -> None:
        """Give a result its place in the workspace."""
        self.names[id(v)] = name = f"v{len(self.room)}"
        self.room.append(f"ROOM({self.bytes(v)})")
        self.lines.append(f"{CTYPE[v.type.dtype]} *{name} = (void *)at; at += {self.room[-1]};")

    def bytes(self, v: Value) -> str:
        return f"sizeof({CTYPE[v.type.dtype]}) * {self.size(math.prod(v.type.sizes))}"

    def size(self, size) -> str:
        """A size as a C expression."""
        if not isinstance(size, Expr):
            return str(size)
        terms = [" * ".join([str(n)] * (n != 1 or not atoms) + [*map(self.atom, atoms)]) for atoms, n in size.terms]
        return f"({' + '.join(terms)})"

    def atom(self, atom) -> str:
        match atom:
            case Sym(name):
                return f"n_{name}"
            case Div(of, by):
                return f"floordiv({self.size(of)}, {by})"
            case Extreme(kind, (size, *others)):
                text = self.size(size)
                for other in others:
                    text = f"{kind}imum({text}, {self.size(other)})"
                return text

    def literal(self, x, dtype: str) -> str:
        """A number of an element type, exactly."""
        if dtype != "f32":
            return str(int(x))
        return f"{float(np.float32(x))!r}f" if math.isfinite(x) else "NAN" if x != x else f"{'-' * (x < 0)}INFINITY"

    def at(self, v: Value, index) -> str:
        """The element of a value at an index, which may have more dimensions: sizes of 1 repeat."""
        terms, stride = [], 1
        for size, i in zip(reversed(v.type.sizes), reversed(index)):
            if size != 1:
                terms.insert(0, i if stride == 1 else f"({i}) * {self.size(stride)}")
            stride = stride * size
        return f"{self.name(v)}[{' + '.join(terms) or 0}]"

    # -- statements ------------------------------------------------------------------------------------------------
    def loops(self, over: Value, body: Callable[..., str]) -> None:
        """`body(i, j, …)`, a statement, for every index into `over`."""
        index = ["0" if s == 1 else f"i{n}" for n, s in enumerate(over.type.sizes)]
        heads = [f"for (int {i} = 0; {i} < {self.size(s)}; {i}++) " for i, s in zip(index, over.type.sizes) if s != 1]
        self.lines.append("".join(heads) + body(*index) + ";")

    def call(self, function: str, *arguments) -> None:
        """Call a function of kernels.c with sizes and values; None is a pointer to nothing."""
        names = [self.name(a) if isinstance(a, Value) else "0" if a is None else self.size(a) for a in arguments]
        self.lines.append(f"{function}({', '.join(names)});")

    def copy(self, to: str, v: Value) -> None:
        self.lines.append(f"memcpy({to}, {self.name(v)}, {self.bytes(v)});")
