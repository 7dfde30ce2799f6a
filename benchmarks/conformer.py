"""Conformer-CTC of 33M parameters on 10 s of features, in every form, each next to its peers; one table in one run.

python benchmarks/conformer.py [--threads 2] [--blocks 5] [--only "export,onnx float32"]

Random weights, so only speed, size and distance from float are measured. Peers: eager PyTorch, `torch.onnx.export` on
onnxruntime, `onnxruntime.quantization` (dynamic and static) on the exporter's file, and onnx2tf from our ONNX file with
ai-edge-quantizer behind it. Calibration: four random samples of 4 s, the same for all.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import speechc
import torch
from rich.console import Console
from rich.table import Table
from speechc.compiler.numerics import difference
from speechc.lowering.target import target
from timing import ratio, side_by_side

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from models.conformer import ConformerCTC

FRAMES = 1000  # 10 s
OURS = [
    ("onnx", "float32", False),
    ("onnx", "int8", False),
    ("onnx", "int8", True),
    ("tflite", "float32", False),
    ("tflite", "int8", False),
    ("tflite", "int8", True),
]


def features(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, frames, 80), dtype=np.float32)


def exported(model: torch.nn.Module, folder: Path) -> dict[str, Path]:
    """The exporter's file, and what onnxruntime's own quantizer makes of it."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(CalibrationDataReader):
        def __init__(self):
            self.rest = iter([{"features": features(400, seed)} for seed in range(1, 5)])

        def get_next(self):
            return next(self.rest, None)

    plain, prepared = folder / "exported.onnx", folder / "prepared.onnx"
    program = torch.onnx.export(
        model,
        (torch.from_numpy(features(FRAMES, 0)),),
        dynamo=True,
        input_names=["features"],
        dynamic_shapes=({1: torch.export.Dim("T", min=16, max=100_000)},),
        verbose=False,
    )
    program.save(str(plain), external_data=False)
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    made = {"torch.onnx.export": plain}
    made["  + quantize_dynamic"] = folder / "dynamic.onnx"
    quantize_dynamic(str(prepared), str(folder / "dynamic.onnx"), weight_type=QuantType.QInt8, per_channel=True)
    made["  + quantize_static, QDQ"] = folder / "static.onnx"
    quantize_static(
        str(prepared),
        str(folder / "static.onnx"),
        Samples(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return made


def onnx_run(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"features": x})[0]


def ours(model: torch.nn.Module, folder: Path, threads: int) -> dict[str, tuple[Path, Callable]]:
    """Every form that speechc makes."""
    made = {}
    samples = [(features(400, seed),) for seed in range(1, 5)]
    for name, precision, calibrated in OURS:
        form = {"float32": "float32"}.get(precision, "int8, calibrated" if calibrated else "int8")
        artefact = speechc.compile(
            model,
            (torch.from_numpy(features(FRAMES, 0)),),
            target=name,
            precision=precision,
            calibration=samples if calibrated else None,
            output=folder / f"{precision}-{calibrated}",
        )
        more = {"isolated": False} if name == "tflite" else {}  # a process of its own costs copies
        session = target(name).load(artefact.path, threads, **more)
        made[f"speechc {name} {form}"] = (artefact.path, lambda x, s=session: s.run(x)[0])
    return made


def second_route(onnx: Path, folder: Path, threads: int) -> dict[str, tuple[Path, Callable]]:
    """onnx2tf from our ONNX file, at this one length, and what ai-edge-quantizer makes of that."""
    import onnx as onnx_package
    from ai_edge_quantizer import quantizer, recipe

    model, fixed = onnx_package.load(onnx), folder / "fixed.onnx"
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = FRAMES
    for v in (*model.graph.output, *model.graph.value_info):
        v.type.tensor_type.ClearField("shape")
    onnx_package.save(onnx_package.shape_inference.infer_shapes(model), fixed)
    command = [sys.executable, "-m", "onnx2tf", "-i", str(fixed), "-o", str(folder / "peer"), "-n", "-kat", "features"]
    subprocess.run(command, check=True, capture_output=True)
    (plain,) = (folder / "peer").glob("*float32.tflite")
    eight = quantizer.Quantizer(str(plain))
    eight.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    eight.quantize().export_model(str(folder / "peer-int8.tflite"), overwrite=True)
    made = {"onnx2tf float32, from our ONNX": plain, "  + ai-edge-quantizer, dynamic": folder / "peer-int8.tflite"}
    loaded = {}
    for form, path in made.items():
        try:
            loaded[form] = (path, tflite_run(path, threads))
        except RuntimeError as error:
            Console(stderr=True).print(f"{form.strip()} is left out: LiteRT does not load it: {error}")
    return loaded


def tflite_run(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], x.reshape(taken["shape"]))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"]).reshape(x.shape[0], -1, given["shape"][-1])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--only", default="", help="time only the forms that hold one of these words, comma-separated")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = ConformerCTC().eval()
    x = features(FRAMES, 0)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        paths: dict[str, Path | None] = {"PyTorch, eager": None}
        runs = {"PyTorch, eager": lambda x: model(torch.from_numpy(x)).numpy()}
        for form, path in exported(model, folder).items():
            paths[form], runs[form] = path, onnx_run(path, given.threads)
        for form, (path, run) in ours(model, folder, given.threads).items():
            paths[form], runs[form] = path, run
        if importlib.util.find_spec("onnx2tf") is not None:
            for form, (path, run) in second_route(paths["speechc onnx float32"], folder, given.threads).items():
                paths[form], runs[form] = path, run
        expected = [runs["PyTorch, eager"](x)]
        words = given.only.split(",")
        runs = {form: run for form, run in runs.items() if any(word in form for word in words)}
        times = side_by_side({form: lambda r=run: r(x) for form, run in runs.items()}, blocks=given.blocks)
        table = Table(
            "form", "MB", "median ms", "against its float", "against the exporter's float", "SNR, dB", box=None
        )
        own = "PyTorch, eager"
        for form, run in runs.items():
            if form == "torch.onnx.export" or "float32" in form:
                own = form
            found = difference([run(x)], expected)
            size = f"{paths[form].stat().st_size / 1e6:.1f}" if paths[form] else "-"
            median = f"{1000 * float(np.median(times[form])):.1f}"
            ratios = [f"{ratio(times, b, form):.2f}" if b in times else "-" for b in (own, "torch.onnx.export")]
            table.add_row(form, size, median, *ratios, f"{found.snr:.1f}" if np.isfinite(found.snr) else "-")
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
