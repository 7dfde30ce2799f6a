"""What is captured of a PyTorch function, held to the function itself at other lengths."""

import numpy as np
from speechc.compiler.capture import capture_with_reference
from speechc.ir.interpreter import run
from speechc.ir.verifier import verify
from torch import nn

# float32 sums of a few hundred terms in another order
TOLERANCE = 1e-5


def compare(function, *shapes, lengths=(7, 12), sample=9, make=None, tolerance=TOLERANCE):
    """Capture `function` of tensors (`"T"` in their shapes is time) and compare it at every length."""

    class Model(nn.Module):
        def forward(self, *x):
            return function(*x)

    names = [f"x{i}" for i in range(len(shapes))]

    def inputs(length):
        random = np.random.default_rng(length)
        make_one = make or (lambda r, shape: r.standard_normal(shape, dtype=np.float32))
        return {n: make_one(random, [length if s == "T" else s for s in shape]) for n, shape in zip(names, shapes)}

    model = function if isinstance(function, nn.Module) else Model()
    if not isinstance(function, nn.Module):
        arguments = ", ".join(names)
        scope = {"function": function}
        exec(f"def forward(self, {arguments}): return function({arguments})", scope)
        Model.forward = scope["forward"]
    axis = {n: shape.index("T") for n, shape in zip(names, shapes) if "T" in shape}
    module, reference = capture_with_reference(model, inputs(sample), axis or None)
    verify(module)
    for length in lengths if axis else (sample,):
        feeds = inputs(length)
        want, got = reference(feeds), run(module.main, feeds)
        assert len(want) == len(got)
        for name, a, b in zip(module.main.output_names, want, got):
            assert a.shape == b.shape and a.dtype == b.dtype, f"{name}: {a.dtype}{a.shape} {b.dtype}{b.shape}"
            if a.dtype.kind == "f":
                finite = np.isfinite(a)
                assert np.array_equal(a[~finite], b[~finite], equal_nan=True), name
                largest = max(np.abs(a[finite]).max(initial=0), 1e-3)
                assert np.abs(a[finite] - b[finite]).max(initial=0) <= tolerance * largest, name
            else:
                assert np.array_equal(a, b), name
    return module
