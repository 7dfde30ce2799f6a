"""Seconds to print and parse a graph of 20,000 ops, and to start the command line.

python benchmarks/text.py
"""

import statistics
import subprocess
import sys
import time

import numpy as np
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.text import parse_module, print_module
from speechc.ir.types import Tensor, time_input


def large(ops: int) -> Module:
    """Convolutions and rectifiers in turn, over a stream of unknown length."""
    module = Module()
    graph = module.graph("main")
    v = graph.input("x", Tensor("f32", [1, 8, time_input(symbol("T"), "audio")]))
    b = Builder(graph, Loc("encoder.layers.3.conv", "Conv1d", "model.py:12"))
    w = b.weight("w", np.zeros((8, 8, 3), np.float32))
    for _ in range(ops // 2):
        v = b.relu(b.conv(v, w, None, pad=((1, 1),)))
    graph.output(v, "y")
    return module


def median(run, times: int = 5) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    module = large(20000)
    text = print_module(module)
    print(f"print 20,000 ops: {median(lambda: print_module(module)):.2f} s")
    print(f"parse 20,000 ops: {median(lambda: parse_module(text)):.2f} s")
    command = [sys.executable, "-m", "speechc.compiler.cli", "--help"]
    print(f"speechc --help: {median(lambda: subprocess.run(command, check=True, capture_output=True)):.2f} s")


if __name__ == "__main__":
    main()
