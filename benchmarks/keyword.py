"""Streaming keyword spotters in int8: size and time of a step beside pymicro-wakeword's files, and what ours finds.

python benchmarks/keyword.py --peers FOLDER [--data FOLDER_OF_RECORDINGS]

FOLDER holds the .tflite files of pymicro-wakeword (`pip download --no-deps pymicro-wakeword`, unzip it). Two of
their networks are rebuilt in PyTorch with the same layers (random weights) and compiled by speechc to int8 steps of
30 ms; both run on LiteRT with one thread, in blocks in turn. "step" is the interpreter's own time. Theirs keep their
states in variables of the file, ours hand them out: "with states" adds what a caller in Python does to carry them on.
With --data the keyword of examples/keyword is looked for in strings of digits from the test takes.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import speechc
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table
from speechc.compiler.listen import open_listener
from timing import ratio, side_by_side

ROOT = Path(__file__).parent.parent
EXAMPLE, AUDIO = ROOT / "examples" / "keyword", ROOT / "examples" / "digits" / "audio"
sys.path.insert(0, str(EXAMPLE))
from model import ALEXA, FRONT_END, NABU, Keyword  # noqa: E402

PEERS = {"okay_nabu.tflite": NABU, "alexa.tflite": ALEXA}
STEPS = 300  # in a timed run
FRAMES = 3  # of 10 ms in a step
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def work(path: Path) -> tuple[int, int]:
    """(parameters, multiply-accumulates of a step) of the products in a TFLite file."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    parameters = macs = 0
    for op in model.subgraphs[0].operators:
        code = model.operatorCodes[op.opcodeIndex]
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind in PRODUCTS:
            tensors = model.subgraphs[0].tensors
            weight, out = (list(map(int, tensors[i].shape)) for i in (op.inputs[1], op.outputs[0]))
            parameters += int(np.prod(weight))
            each = weight[1] * weight[2] if kind == "DEPTHWISE_CONV_2D" else int(np.prod(weight[1:]))
            macs += each * int(np.prod(out))
    return parameters, macs


def rebuilt(sizes: dict, path: Path) -> None:
    """A network of these sizes with random weights as an int8 step file with int8 ports."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(Keyword(**sizes), torch.nn.Sigmoid())
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(8, 300, 40))  # norms see what they will meet
    draw = np.random.default_rng(0)
    samples = [{"input": draw.standard_normal((1, 300, 40)).astype(np.float32)} for _ in range(4)]
    speechc.compile(
        module.eval(), samples[0], target="tflite", precision="int8", calibration=samples, stream=f"{FRAMES} frames",
        frame_shift="10ms", integer_ports=True, output=path,
    )  # fmt: skip


class Stepped:
    """A step file on LiteRT with one thread."""

    def __init__(self, path: Path):
        self.interpreter = Interpreter(str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        details = {d["name"]: d for d in self.interpreter.get_input_details()}
        self.outputs = [d["index"] for d in self.interpreter.get_output_details()]
        for d in details.values():
            self.interpreter.set_tensor(d["index"], np.zeros(d["shape"], d["dtype"]))
        (feature,) = [d for d in details.values() if list(d["shape"]) == [1, FRAMES, 40]]
        self.feature, self.frames = feature["index"], np.zeros(feature["shape"], feature["dtype"])
        self.pairs = []
        if len(details) > 1:
            manifest = speechc.load(path).manifest
            runner = self.interpreter.get_signature_runner()
            into, out = runner.get_input_details(), runner.get_output_details()
            self.pairs = [(into[s.file_name]["index"], out[s.output]["index"]) for s in manifest.states]
            self.outputs = [out[p.file_name]["index"] for p in manifest.outputs]

    def invoke(self) -> None:
        """The interpreter alone."""
        for _ in range(STEPS):
            self.interpreter.invoke()

    def carry(self) -> None:
        """Features in, score out, states on."""
        run = self.interpreter
        for _ in range(STEPS):
            run.set_tensor(self.feature, self.frames)
            run.invoke()
            for i in self.outputs:
                run.get_tensor(i)
            for into, out in self.pairs:
                run.set_tensor(into, run.get_tensor(out))


def against_peers(peers: Path, folder: Path, blocks: int) -> Table:
    """Size, work and time, peer by peer."""
    files: dict[str, Path] = {}
    for name, sizes in PEERS.items():
        rebuilt(sizes, folder / f"ours-{name}")
        files |= {name: peers / name, f"speechc, as {name}": folder / f"ours-{name}"}
    opened = {name: Stepped(path) for name, path in files.items()}
    alone = side_by_side({n: s.invoke for n, s in opened.items()}, blocks, 3)
    carried = side_by_side({n: s.carry for n, s in opened.items()}, blocks, 3)
    table = Table("file", "bytes", "of theirs", "parameters", "MACs a step", "us a step", "as fast", "us with states")
    for name, path in files.items():
        base = name.removeprefix("speechc, as ")
        parameters, macs = work(path)
        table.add_row(
            name,
            f"{path.stat().st_size:,}",
            f"{path.stat().st_size / files[base].stat().st_size:.2f}",
            f"{parameters:,}",
            f"{macs:,}",
            f"{1e6 * np.median(alone[name]) / STEPS:.2f}",
            f"{ratio(alone, base, name):.2f}",
            f"{1e6 * np.median(carried[name]) / STEPS:.2f}",
        )
    return table


def found(data: Path, folder: Path, count: int) -> Table:
    """What the forms of the example's model find in strings from the test takes."""
    from strings import score, strings

    model = EXAMPLE / "model.pt"
    int8 = {"target": "tflite", "precision": "int8", "calibration": AUDIO}
    forms = {
        "onnx float32, whole": ("whole.onnx", {}),
        "onnx float32, 30 ms steps": ("step.onnx", {"stream": "30ms"}),
        "tflite int8, whole": ("whole.tflite", int8),
        "tflite int8, 30 ms steps": ("step.tflite", int8 | {"stream": "30ms"}),
    }
    sets = {f"{a} to {b} dB": strings(data, range(5), count, (a, b), seed=7) for a, b in ((20, 40), (5, 15))}
    columns = [f"{what} ({name})" for name in sets for what in ("missed", "false an hour")]
    table = Table("form", "bytes", *columns)
    for form, (name, more) in forms.items():
        speechc.compile(model, front_end=FRONT_END, output=folder / name, **more)
        listener = open_listener(folder / name, threads=1)
        heard: Callable = lambda audio, listener=listener: [(s.start, s.end) for s in listener.hear(audio).segments]
        scores = [score(heard, tests) for tests in sets.values()]
        cells = [c for s in scores for c in (f"{s.missed} of {s.said} ({s.rejects:.1%})", f"{s.accepts:.1f}")]
        table.add_row(form, f"{(folder / name).stat().st_size:,}", *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="folder with the .tflite files of pymicro-wakeword")
    parser.add_argument("--data", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--strings", type=int, default=100)
    options = parser.parse_args()
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as folder:
        if options.peers is not None:
            console.print(against_peers(options.peers, Path(folder), options.blocks))
        if options.data is not None:
            console.print(found(options.data, Path(folder), options.strings))


if __name__ == "__main__":
    main()
