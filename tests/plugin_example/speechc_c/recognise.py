"""The pass `recognise-snake`: the activation, where a model spells it out."""

import numpy as np
from speechc.ir.types import broadcast
from speechc.passes.base import Close
from speechc.passes.rewrite import Rewrite, numbers


class RecogniseSnake(Rewrite):
    """x + sin²(αx) / α is snake(x, α), also where 1 / α was computed before."""

    # 1 / α may be rounded, or be 1 / (α + 1e-9), as models write it; the square may be a power or a product.
    name, stage, equal = "recognise-snake", "legalize", Close(rtol=1e-5)

    def match(self, p, x, alpha, inverse):
        wave = p.sin(p.mul(x, alpha), shared=True)
        squares = [p.pow(wave, 2), p.mul(wave, wave)]
        quotients = [q for s in squares for q in (p.div(s, alpha), p.mul(s, inverse))]
        return [p.add(x, q) for q in quotients]

    def check(self, m):
        if m.alpha.type.rank > m.x.type.rank or broadcast(m.x.type.shape, m.alpha.type.shape) != m.x.type.shape:
            return m.no("alpha is larger than x", m.alpha)
        if "inverse" not in m.values:
            return True
        if not numbers(m.alpha) or not numbers(m.inverse):
            return m.no("alpha is computed at run time", m.alpha)
        if not np.allclose(m.alpha.array * m.inverse.array, 1, rtol=1e-6, atol=0):
            return m.no("the factor is not 1 / alpha", m.inverse)
        return True

    def build(self, g, m):
        return g.snake(m.x, m.alpha)
