"""`speechc bench`: figures are right, results have their shape, every kind of file runs; no timing is judged."""

import json
import math
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import speechc
from command import run
from models.levels import RATE, emitted, levels, speak
from models.steps import causal, late
from speechc.compiler.bench.figures import Latency, Ratio, percentile
from speechc.compiler.bench.process import Process
from speechc.compiler.bench.runs import Calls
from speechc.compiler.bench.worker import Worker
from speechc.ir.errors import NumericalError, UsageError
from speechc.ir.text import save
from speechc.lowering.onnx.profile import Places

OPEN = {"threads": 1, "seconds": 0.5, "audio": None, "shift": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small models of features as files: whole, in steps, in steps for three streams."""
    folder = tmp_path_factory.mktemp("bench")
    save(late()[0], folder / "late.sir")
    save(causal(batch=3)[0], folder / "three.sir")
    assert run("late.sir", "-o", "whole.onnx", cwd=folder)[0] == 0
    assert run("late.sir", "-o", "step.onnx", "--stream", "40ms", cwd=folder)[0] == 0
    assert run("three.sir", "-o", "three.onnx", "--stream", "40ms", cwd=folder)[0] == 0
    return folder


# -- figures -----------------------------------------------------------------------------------------------------------
def test_percentiles_are_those_of_numpy():
    draw = random.Random(0)
    for count in (1, 2, 3, 20, 101):
        values = [draw.random() for _ in range(count)]
        for percent in (0, 5, 50, 95, 99, 100):
            assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_latency_by_hand():
    found = Latency.of([0.003, 0.001, 0.002, 0.101])
    assert (found.count, found.median) == (4, 0.0025)
    assert found.as_dict()["p95_ms"] == pytest.approx(3 + 0.85 * 98)
    assert found.as_dict()["p99_ms"] == pytest.approx(3 + 0.97 * 98)


def test_ratios_are_taken_pair_by_pair():
    """A machine that slows down in the second block slows both files: the pairs agree, the means would not."""
    base, own = [[1, 1, 9], [10, 10, 10], [1, 1, 1]], [[2, 2, 2], [20, 20, 99], [4, 4, 4]]
    found = Ratio.of(base, own)
    assert (found.median, found.low, found.high) == (0.5, 0.25, 0.5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_grows_with_what_is_held():
    code = (
        "import numpy as np; from speechc.compiler.bench.memory import peak_bytes\n"
        "before = peak_bytes(); held = np.ones(8_000_000); print(peak_bytes() - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert 63_000_000 < grown < 80_000_000


# -- runs --------------------------------------------------------------------------------------------------------------
def opened(path, **changes):
    worker = Worker()
    return worker, worker.open(**OPEN | {"path": str(path)} | changes)


def test_an_utterance_is_one_part(files):
    worker, told = opened(files / "whole.onnx")
    assert (told["unit"], told["seconds"], told["chunk"], told["runner"]) == ("utterance", 0.5, None, "onnxruntime")
    assert [len(parts) for parts in worker.block(3)] == [1, 1, 1]
    assert told["peak_bytes"] is None or told["peak_bytes"] >= told["loaded_bytes"] >= told["base_bytes"] > 0
    assert "1 at a time" in worker.batch(2) and worker.batch(1) is None


def test_a_stream_is_a_part_a_chunk(files):
    worker, told = opened(files / "step.onnx")
    assert (told["unit"], told["chunk"]) == ("chunk", 0.04) and told["seconds"] == pytest.approx(0.48)
    assert [len(parts) for parts in worker.block(2)] == [12, 12]
    assert worker.batch(4) == "it moves 1 stream a step (--batch)"


def test_streams_of_a_batch_move_together(files):
    worker, _ = opened(files / "three.onnx")
    assert worker.batch(3) is None and "3 streams" in worker.batch(1)
    layout = worker.runs.streams.layout
    assert worker.runs.width == 3 and [len(p) for p in worker.block(1)] == [12]
    assert all(c[layout.inputs[0].name].shape[0] == 3 for c in worker.runs.calls())


def test_a_free_batch_is_taken(tmp_path):
    from speechc.ir.expr import symbol
    from speechc.ir.graph import Builder, Loc, Module
    from speechc.ir.types import Tensor, time_input

    module = Module()
    x = module.graph("main").input("x", Tensor("f32", [symbol("batch"), time_input(symbol("T"), "audio"), 4]))
    module.main.output(Builder(module.main, Loc("act")).relu(x), "y")
    save(module, tmp_path / "free.sir")
    assert run("free.sir", "-o", "free.onnx", cwd=tmp_path)[0] == 0
    worker, told = opened(tmp_path / "free.onnx", shift="1/100")
    assert told["seconds"] == 0.5 and worker.batch(5) is None
    assert worker.runs.feeds["x"].shape == (5, 50, 4)


def test_a_model_with_states_of_its_own_is_called(tmp_path):
    from speechc.ir.graph import Builder, Loc, Module
    from speechc.ir.types import Tensor

    module = Module(meta={"sample_rate": 8000})
    g = module.graph("main")
    x, s = g.input("x", Tensor("f32", [1, 80])), g.state("s", Tensor("f32", [1, 80]))
    b = Builder(g, Loc("m"))
    y = b.add(x, b.read(s))
    b.write(s, y)
    g.output(y, "y")
    save(module, tmp_path / "own.sir")
    assert run("own.sir", "-o", "own.onnx", "--sample-rate", "8000", cwd=tmp_path)[0] == 0
    worker, told = opened(tmp_path / "own.onnx")
    assert isinstance(worker.runs, Calls) and (told["chunk"], told["seconds"]) == (0.01, 0.5)
    assert [len(p) for p in worker.block(1)] == [50]
    assert "one stream" in worker.batch(2)


# -- profile -----------------------------------------------------------------------------------------------------------
def test_operators_are_told_by_module(files):
    worker, _ = opened(files / "whole.onnx")
    found = worker.profile(3)
    assert {"front.conv", "peak"} <= {o["path"] for o in found}
    assert {"Conv", "ReduceMax"} <= {o["kind"] for o in found} and all(o["seconds"] >= 0 for o in found)


def test_nodes_that_the_runtime_made_keep_the_place_of_theirs():
    places = Places.__new__(Places)
    places.names = sorted(["/blocks.1/norm/Mul", "/blocks.1/norm/Mul_1", "/blocks.10/norm/Mul", "/front/Relu"])
    assert places.of("/blocks.1/norm/Mul_1/QuickGeluFusion/") == "blocks.1.norm"
    assert places.of("/blocks.10/norm/Mul") == "blocks.10.norm"
    assert places.of("/front/Relu_nchwc") == "front"
    assert places.of("ReorderOutput") == "" and places.of("/other/Add") == ""


# -- the command -------------------------------------------------------------------------------------------------------
class Here:
    """A process that is none: the worker in this one."""

    def __init__(self, path, threads):
        self.worker = Worker()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, do, **arguments):
        return json.loads(json.dumps(getattr(self.worker, do)(**arguments)))


@pytest.mark.parametrize("process", [Here, pytest.param(Process, marks=pytest.mark.slow)])
def test_results_have_their_shape(files, process, monkeypatch):
    monkeypatch.setattr("speechc.compiler.bench.measure.Process", process)
    flags = ["--threads", "1", "--batch", "1,2", "--blocks", "3", "--runs", "2", "--seconds", "0.5", "--profile"]
    status, out, said = run("bench", "whole.onnx", "step.onnx", *flags, "--json", cwd=files)
    assert status == 0, said
    told = json.loads(out)
    assert told["machine"]["cores"] > 0 and told["noise_seconds"] == 0.5
    whole, step = told["files"]
    assert whole["timed"][0]["utterance"]["count"] == 6 and whole["timed"][0]["chunk"] is None
    assert step["timed"][0]["utterance"]["count"] == 6 and step["timed"][0]["chunk"]["count"] == 6 * 12
    for f in (whole, step):
        (timed,) = f["timed"]
        for latency in filter(None, (timed["utterance"], timed["chunk"])):
            assert 0 < latency["median_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
        assert timed["real_time_factor"] * 1000 * f["seconds"] == pytest.approx(timed["utterance"]["median_ms"])
        assert [t["batch"] for t in timed["throughput"]] == [1]
        assert f["memory"]["peak_bytes"] is None or f["memory"]["peak_bytes"] >= f["memory"]["base_bytes"]
        assert f["load"]["load_seconds"] > 0 and f["profile"] and f["bytes"] > 0
        assert any("no batch of 2" in note for note in f["notes"])
    assert whole["timed"][0]["ratio"] is None
    ratio = step["timed"][0]["ratio"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]


@pytest.mark.slow
def test_tables_are_printed_for_files_of_two_runtimes(files):
    assert run("late.sir", "-t", "tflite", "-o", "whole.tflite", cwd=files)[0] == 0
    flags = ["--threads", "1", "--batch", "1", "--blocks", "3", "--runs", "1", "--seconds", "0.5"]
    status, out, said = run("bench", "whole.onnx", "whole.tflite", *flags, "--profile", cwd=files)
    assert status == 0, said
    assert "real-time factor" in out and "times as fast" in out and "peak memory" in out and "front.conv" in out
    assert "note: whole.tflite: no profile" in out
    status, out, said = run("bench", "whole.tflite", *flags, "--profile", "-q", cwd=files)
    assert status == 4 and "SC340" in said and "benchmark_model" in said and not out


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path):
    root = Path(speechc.__file__).parent
    (tmp_path / "examples").symlink_to(root / "examples")
    lines = re.findall(r"^speechc (.*)$", (root / "docs" / "measuring.md").read_text(), re.M)
    made = [line for line in lines if " -o out/" in line and line.startswith("examples/")]
    asked = [line for line in lines if re.match(r"(bench|fit) out/", line)]
    assert len(made) == 2 and len(asked) == 2
    for line in made + asked:
        more = ["--blocks", "3", "--runs", "1"] if line.startswith("bench") else []
        status, out, said = run(*shlex.split(line), *more, cwd=tmp_path)
        assert status == 0, (line, said)
    assert "assumed, utilisation" in out


@pytest.mark.slow
def test_a_worker_that_dies_is_told(files):
    with Process(files / "whole.onnx", 1) as process:
        process._process.kill()
        process._process.wait()  # its end of the pipe is shut: what was written to it cannot be delivered
        with pytest.raises(NumericalError, match="ended with status") as error:
            process.call("open", **OPEN, path="x")
    assert error.value.code == "SC516"


@pytest.mark.slow
def test_errors_of_a_worker_keep_their_code_and_kind(files):
    with Process(files / "whole.onnx", 1) as process:
        with pytest.raises(UsageError) as error:
            process.call("open", **OPEN | {"path": str(files / "no.onnx")})
        assert error.value.code == "SC010"
        assert process.call("open", **OPEN | {"path": str(files / "whole.onnx")})["unit"] == "utterance"


@pytest.mark.parametrize(
    "flags, code",
    [
        (["--threads", "0"], "SC017"),
        (["--batch", "one"], "SC017"),
        (["--blocks", "0"], "SC017"),
        (["--seconds", "inf"], "SC017"),
        (["--seconds", "nan"], "SC017"),
        (["--seconds", "1e300"], "SC017"),
        (["--most", "inf"], "SC017"),
        (["--audio", "no.wav"], "SC010"),
        (["--audio", "folder.wav"], "SC018"),
        (["--frame-shift", "soon"], "SC047"),
    ],
)
def test_bad_input_is_named(files, flags, code):
    (files / "folder.wav").mkdir(exist_ok=True)
    status, _, said = run("bench", "whole.onnx", *flags, cwd=files)
    assert status == 2 and code in said and "not exist" not in said.replace("no.wav does not exist", "")


def test_what_is_wrong_with_the_recording_is_noted(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    emitted(levels(160), tmp_path / "step.onnx")
    soundfile.write(tmp_path / "good.wav", speak("one two three"), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(2000), RATE)
    data = (tmp_path / "good.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    for name, kind in (("good", None), ("silent", "silent"), ("cut", "cut off")):
        _, told = opened(tmp_path / "step.onnx", audio=str(tmp_path / f"{name}.wav"))
        assert [n.split(": ")[1] for n in told["notes"]] == ([kind] if kind else [])


@pytest.mark.parametrize("chunk", [None, 160])
def test_outputs_with_nan_are_found(chunk, tmp_path):
    for name, bias in (("good", 0.0), ("bad", math.nan)):
        worker, _ = opened(emitted(levels(chunk, bias), tmp_path / f"{name}.onnx"))
        assert worker.check() == ([] if name == "good" else ["scores"])


def test_files_run_in_turn(files, monkeypatch):
    """Blocks alternate between the files; one block never runs two of them."""
    order = []

    class Told(Here):
        def __init__(self, path, threads):
            super().__init__(path, threads)
            self.name = path.name

        def call(self, do, **arguments):
            if do == "block" and "runs" in arguments:
                order.append((self.name, arguments["runs"]))
            return super().call(do, **arguments)

    monkeypatch.setattr("speechc.compiler.bench.measure.Process", Told)
    flags = ["--threads", "1", "--batch", "2", "--blocks", "4", "--runs", "3", "--seconds", "0.5", "-q"]
    assert run("bench", "whole.onnx", "step.onnx", *flags, cwd=files)[0] == 0
    assert order == [("whole.onnx", 3), ("step.onnx", 3)] * 4


def test_a_file_that_is_not_there_is_named(files):
    status, _, said = run("bench", "no.onnx", cwd=files)
    assert status == 2 and "SC010" in said
