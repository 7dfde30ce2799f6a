"""Matrix products: linear, matmul and its kin, einsum."""

from __future__ import annotations

from ....ir.graph import Value
from ..table import Context, aten
from .elementwise import scaled


@aten("linear")
def _(c, x, w, b=None):
    if w.type.rank == 1:
        return c.b.sum(c.b.mul(x, w), axes=(x.type.rank - 1,))
    return c.b.linear(x, w, b)


@aten("matmul", "mm", "bmm", "mv", "dot", parts=False)
def _(c, a, b):
    return product(c, a, b)


def product(c: Context, a: Value, b: Value) -> Value:
    """`torch.matmul`: vectors count as a row on the left, a column on the right."""
    if a.type.rank == 1 and b.type.rank == 1:
        return c.b.sum(c.b.mul(a, b), axes=(0,))
    if a.type.rank == 1:
        y = c.b.matmul(c.unsqueezed(a, 0), b)
        return c.reshape(y, (*y.type.sizes[:-2], y.type.sizes[-1]))
    if b.type.rank == 1:
        y = c.b.matmul(a, c.unsqueezed(b, 1))
        return c.reshape(y, y.type.sizes[:-1])
    return c.b.matmul(a, b)


@aten("addmm", "baddbmm", "addbmm", "addmv")
def _(c, x, a, b, *, beta=1, alpha=1):
    y = scaled(c, product(c, a, b), alpha)
    if "addbmm" in str(c.node.target) and "baddbmm" not in str(c.node.target):
        y = c.b.sum(y, axes=(0,))
    return y if beta == 0 else c.b.add(scaled(c, x, beta), y)


@aten("outer", "ger")
def _(c, a, b):
    return c.b.mul(c.unsqueezed(a, 1), c.unsqueezed(b, 0))


@aten("einsum")
def _(c, equation, operands, path=None):
    equation = equation.replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if "." in equation:
        terms, out = _without_dots(terms, out, [x.type.rank for x in operands])
    if not arrow:
        letters = "".join(terms)
        out = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    if any(len(set(t)) != len(t) for t in terms):
        raise c.no(f"takes a diagonal ({equation})")
    names, value = terms[0], operands[0]
    for i, (other, x) in enumerate(zip(terms[1:], operands[1:]), 1):
        later = set("".join(terms[i + 1 :]) + out)
        names, value = _contract(c, names, value, other, x, later)
    gone = tuple(i for i, x in enumerate(names) if x not in out)
    if gone:
        value, names = c.b.sum(value, axes=gone), "".join(x for x in names if x in out)
    return c.transpose(value, [names.index(x) for x in out])


def _without_dots(terms: list[str], out: str, ranks: list[int]) -> tuple[list[str], str]:
    """Letters in the place of `...` (capital ones that the equation does not use)."""
    used = set("".join(terms))
    free = [x for x in "ZYXWVUTSRQPONM" if x not in used]
    widths = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks)]
    dots = "".join(reversed(free[: max(widths)]))
    filled = [t.replace("...", dots[len(dots) - w :] if w else "") for t, w in zip(terms, widths)]
    return filled, out.replace("...", dots)


def _contract(c: Context, an: str, a: Value, bn: str, b: Value, later: set[str]) -> tuple[str, Value]:
    """One step of an einsum as a batched matrix product: batch, rows, columns and what is summed away."""
    a, an = _summed(c, a, an, set(bn) | later)
    b, bn = _summed(c, b, bn, set(an) | later)
    batch = [x for x in an if x in bn and x in later]
    inner = [x for x in an if x in bn and x not in later]
    rows = [x for x in an if x not in bn]
    columns = [x for x in bn if x not in an]
    size = {**dict(zip(bn, b.type.sizes)), **dict(zip(an, a.type.sizes))}
    for n, v in ((an, a), (bn, b)):
        size.update({x: s for x, s in zip(n, v.type.sizes) if s != 1 and size[x] == 1})

    def arranged(names: str, value: Value, *groups: list[str]) -> Value:
        value = c.transpose(value, [names.index(x) for g in (batch, *groups) for x in g])
        return c.reshape(value, [size[x] for x in batch] + [_product(size[x] for x in g) for g in groups])

    if not inner:  # nothing is summed: a product of every row with every column

        def spread(names, value):
            own = [x for x in batch + rows + columns if x in names]
            value = c.transpose(value, [names.index(x) for x in own])
            return c.reshape(value, [size[x] if x in names else 1 for x in batch + rows + columns])

        return "".join(batch + rows + columns), c.b.mul(spread(an, a), spread(bn, b))
    y = c.b.matmul(arranged(an, a, rows, inner), arranged(bn, b, inner, columns))
    return "".join(batch + rows + columns), c.reshape(y, [size[x] for x in batch + rows + columns])


def _summed(c: Context, x: Value, names: str, needed: set[str]) -> tuple[Value, str]:
    gone = tuple(i for i, n in enumerate(names) if n not in needed)
    return (c.b.sum(x, axes=gone), "".join(n for n in names if n in needed)) if gone else (x, names)


def _product(sizes):
    total = 1
    for s in sizes:
        total = total * s
    return total
