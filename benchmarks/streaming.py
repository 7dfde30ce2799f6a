"""What streaming costs: the 12 × 256 Conformer chunk by chunk, its state, and streams of growing length.

python benchmarks/streaming.py [--threads 2] [--only "chunks,state,long"]

- chunks: real-time factor and milliseconds a chunk of the step file, float and int8, against the offline file run over
  the whole window again for every chunk, against the offline file over the same audio, and against the matrix products
  of the step's own weights alone (every linear layer, same rows, one after another): the floor that memory sets.
- state: bytes that the theory asks for, layer by layer, and bytes that the files declare.
- long: cost a second of audio, and memory, over 10, 100 and 1,000 s.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import speechc
import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from models.conformer import ConformerCTC  # noqa: E402

SECONDS = 20.48
LEFT = 2560  # ms
CONSOLE = Console(width=160)


def features(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, round(100 * seconds), 80), dtype=np.float32)


def compiled(model, folder: Path, precision: str, chunk: int, stream: bool):
    return speechc.compile(
        model,
        {"features": features(10)},
        frame_shift="10ms",
        precision=precision,
        calibration=[(features(4, seed),) for seed in range(1, 5)] if precision == "int8" else None,
        stream=f"{chunk}ms" if stream else None,
        attention=f"chunk:{chunk}ms,left={LEFT}ms",
        conv="chunk",
        output=folder,
        name=f"{precision}-{chunk}" + ("-step" if stream else ""),
    )


def products(model_path: Path, path: Path, threads: int):
    """A session that computes the products of a file's constant weights alone (matrices and convolutions).

    Each is the file's own node, with its quantized weights and scales, on an input of its own; nothing else is left.
    """
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    model = onnx.shape_inference.infer_shapes(onnx.load(model_path))
    known = {i.name: i for i in model.graph.initializer}
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    makers = {o: n for n in model.graph.node for o in n.output}
    nodes, inputs, outputs, feeds = {}, [], [], {}

    def keep(name: str) -> bool:
        """Keep what a constant is computed from; whether it is one."""
        if name in known:
            return True
        node = makers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or not all(i in known for i in node.input):
            return False
        nodes[name] = node
        return True

    def grid(node) -> list[str] | None:
        """Scale and zero point that a dequantized value is on."""
        made = makers.get(node) if isinstance(node, str) else node
        return list(made.input[1:]) if made is not None and made.op_type == "DequantizeLinear" else None

    def on_grid(name: str, scale: list[str]) -> str:
        nodes[f"{name}.q"] = helper.make_node("QuantizeLinear", [name, *scale], [f"{name}.q"])
        nodes[f"{name}.d"] = helper.make_node("DequantizeLinear", [f"{name}.q", *scale], [f"{name}.d"])
        return f"{name}.d"

    readers = {}
    for node in model.graph.node:
        for i in node.input:
            readers.setdefault(i, []).append(node)
    for index, node in enumerate(n for n in model.graph.node if n.op_type in ("MatMul", "Gemm", "Conv")):
        if not keep(node.input[1]) or not all(keep(i) for i in node.input[2:]):
            continue
        shape = shapes[node.input[0]]
        if node.op_type != "Conv":
            shape = [int(np.prod(shape[:-1])), shape[-1]]
        name = f"x{index}"
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        feeds[name] = np.random.default_rng(index).standard_normal(shape, dtype=np.float32)
        scale = grid(node.input[0])
        source = name if scale is None else on_grid(name, scale)
        result = f"y{index}"
        made = helper.make_node(node.op_type, [source, *node.input[1:]], [result])
        made.attribute.extend(node.attribute)
        nodes[result] = made
        stored = [n for n in readers.get(node.output[0], []) if n.op_type == "QuantizeLinear"]
        if stored and node.op_type == "Conv":
            result = on_grid(result, list(stored[0].input[1:]))
        outputs.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, None))
    used = {i for n in nodes.values() for i in n.input}
    initial = [t for t in model.graph.initializer if t.name in used]
    graph = helper.make_graph(list(nodes.values()), "products", inputs, outputs, initial)
    onnx.save(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options)
    names = [o.name for o in session.get_outputs()]
    return lambda: session.run(names, feeds)


def steps(artifact, audio: np.ndarray, threads: int):
    """A function that runs the next chunk of some audio, over and over, on one session."""
    from speechc.compiler.driver import open_artefact

    session = open_artefact(artifact.path, threads)
    chunk = artifact.manifest.streaming["chunk"]
    pieces = [np.ascontiguousarray(audio[:, at : at + chunk]) for at in range(0, audio.shape[1] - chunk + 1, chunk)]
    valid = np.array([chunk], np.int32)
    turn = itertools.cycle(pieces)
    return lambda: session.run_named({"features": next(turn), "n_valid": valid})


def timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rounds(runs: dict, blocks: dict[str, int], count: int = 8) -> dict[str, list[list[float]]]:
    """Seconds of `blocks[name]` runs of each, round by round.

    Each runs alone: a session's idle threads spin for a while, and would take the next one's processors.
    """
    times: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            time.sleep(0.2)
            run()
            times[name].append([timed(run) for _ in range(blocks[name])])
    return times


def chunks(folder: Path, threads: int) -> None:
    """The table of costs a chunk: ratios are the median of the ratios of eight rounds."""
    from speechc.compiler.driver import open_artefact

    model, audio = ConformerCTC().eval(), features(SECONDS)
    table = Table("form", "chunk, ms", "median, ms", "95 %, ms", "real-time factor", "against its products",
                  "total against offline", "against the window again", box=None)  # fmt: skip
    for precision in ("float32", "int8"):
        for chunk in (320, 640):
            step = compiled(model, folder, precision, chunk, True)
            offline = open_artefact(compiled(model, folder, precision, chunk, False).path, threads)
            window = features((LEFT + chunk) / 1000 + 0.07)  # what the chunk and its left context need of input
            runs = {
                "step": steps(step, audio, threads),
                "products": products(step.path, folder / "products.onnx", threads),
                "offline": lambda offline=offline: offline.run(audio),
                "window": lambda offline=offline, window=window: offline.run(window),
            }
            times = rounds(runs, {"step": 40, "products": 40, "offline": 3, "window": 8})
            medians = {name: [statistics.median(block) for block in blocks] for name, blocks in times.items()}

            def against(name: str, medians=medians) -> float:
                return statistics.median(s / other for s, other in zip(medians["step"], medians[name]))

            median = statistics.median(medians["step"])
            slow = np.percentile(np.concatenate(times["step"]), 95)
            table.add_row(
                precision, str(chunk), f"{1000 * median:.2f}", f"{1000 * slow:.2f}",
                f"{1000 * median / chunk:.4f}", f"{against('products'):.2f}",
                f"{against('offline') * SECONDS * 1000 / chunk:.2f}", f"{1 / against('window'):.1f} times as fast",
            )  # fmt: skip
    CONSOLE.print(table)


def state(folder: Path) -> None:
    """Bytes of state, by formula and by file."""
    model = ConformerCTC().eval()
    table = Table("chunk, ms", "theory, bytes", "declared, bytes", box=None)
    for chunk in (320, 640):
        declared = compiled(model, folder, "float32", chunk, True).manifest
        held = sum(
            int(np.prod(s.shape)) * np.dtype(s.dtype.replace("f", "float").replace("i", "int")).itemsize
            for s in declared.states
            if not s.name.startswith("clock.")
        )
        table.add_row(str(chunk), f"{theory(chunk):,}", f"{held:,}")
    CONSOLE.print(table)


def theory(
    chunk: int, size: int = 256, layers: int = 12, kernel: int = 31, features: int = 80, channels: int = 256
) -> int:
    """Float32 bytes that the Conformer needs between chunks of `chunk` ms, from the formulas alone.

    A window op that is d frames late keeps d'·s + pl - d frames, d' = max(0, ⌈(d + K - s - pl) / s⌉); attention over
    chunks of C frames keeps d' - d queries and d' - d + L + C - g + ((-d') mod g) keys and as many values.
    """
    frames, total, late = chunk // 10, 0, 0
    width = features
    for planes in (1, channels):  # two convolutions of 3 with stride 2, no padding
        new = max(0, -(-(late + 3 - 2) // 2))
        total += (new * 2 - late) * planes * width
        late, width = new, (width - 3) // 2 + 1
    c = frames // 4
    left = LEFT // 10 // 4
    for _ in range(layers):
        new = max(late, c - c + c * -(-late // c))  # g = C: the step is one attention chunk
        queries, keys = new - late, new - late + left + (-new % c)
        total += queries * size + 2 * keys * size
        total += (new - late) * size  # the residual beside it waits as long
        late = new
        total += kernel // 2 * size  # left context of the depthwise convolution; its right ends with the chunk
    return 4 * total


def resident() -> float:
    """Memory that this process holds now, MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def long(folder: Path, threads: int) -> None:
    """Cost a second of audio, and memory in use at the end, as a stream gets longer."""
    from speechc.compiler.driver import open_artefact
    from speechc.lowering.stream_session import BatchSession

    step = compiled(ConformerCTC(layers=4).eval(), folder, "float32", 320, True)
    table = Table("audio, s", "ms per s of audio", "memory, MB", box=None)
    piece, session = features(10), BatchSession(open_artefact(step.path, threads)).streams[0]
    for seconds in (10, 100, 1000):
        session.reset()
        start = time.perf_counter()
        for _ in range(seconds // 10):
            session.push(piece)
        session.flush()
        cost = 1000 * (time.perf_counter() - start) / seconds
        table.add_row(str(seconds), f"{cost:.2f}", f"{resident():.1f}")
    CONSOLE.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="chunks,state,long")
    options = parser.parse_args()
    wanted = options.only.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        if "state" in wanted:
            state(folder)
        if "long" in wanted:
            long(folder, options.threads)
        if "chunks" in wanted:
            chunks(folder, options.threads)


if __name__ == "__main__":
    main()
