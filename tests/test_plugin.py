"""A package outside the tree adds an op, a pass, a torch operator and a target; one that is broken is named.

`plugin_example/` is put on the path of real processes as an installed package would be, its metadata beside it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from speechc.ir import plugins
from speechc.ir.text import parse_module, save
from speechc.ir.types import DTYPES
from speechc.ir.weights import Weights

EXAMPLE = Path(__file__).parent / "plugin_example"
MAIN = "from speechc.compiler.cli import main; main()"
needs_cc = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler")

# A convolution over the past, of which a step has to remember two frames, and a snake, spelled out.
NET = """speechc 1
graph main(%x: f32[1, 4, T@audio]) {
  weight $w: f32[6, 4, 3] #?
  weight $alpha: f32[1, 6, 1] #?
  %0 = pad(%x, pads=[[0, 0], [0, 0], [2, 0]], mode="constant", value=0.0) : f32[1, 4, (T+2)@audio] @"net.conv"
  %1 = conv(%0, $w, none, stride=[1], dilation=[1], pad=[[0, 0]], groups=1, channel_last=false) : f32[1, 6, T@audio] @"net.conv"
  %2 = mul(%1, $alpha) : f32[1, 6, T@audio] @"net.act"
  %3 = sin(%2) : f32[1, 6, T@audio] @"net.act"
  %4 = pow(%3, f32(2.0)) : f32[1, 6, T@audio] @"net.act"
  %5 = div(%4, $alpha) : f32[1, 6, T@audio] @"net.act"
  %6 = add(%1, %5) : f32[1, 6, T@audio] @"net.act"
  return %6 as "y"
}
"""  # noqa: E501


def install(folder: Path, name: str, files: dict[str, str], points: dict[str, str], version: str = "0.1") -> None:
    """What pip makes of a package: its files, and metadata with its entry points."""
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{n} = {place}\n" for n, place in points.items())
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{lines}")


def install_example(folder: Path, **changed: str) -> Path:
    """The example; `kernels_c="…"` is what stands in `kernels.c` instead."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    files = {f"speechc_c/{p.name}": p.read_text() for p in (EXAMPLE / "speechc_c").glob("*.*")}
    files |= {f"speechc_c/{name.replace('_', '.')}": text for name, text in changed.items()}
    install(folder, project["name"], files, project["entry-points"][plugins.GROUP], project["version"])
    return folder


def speechc(*arguments, site: Path, cwd: Path, **env: str):
    """The command in a process of its own, with `site` on its path: (status, standard output, standard error)."""
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{cwd}", "OMP_NUM_THREADS": "1", **env}
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return install_example(tmp_path_factory.mktemp("site"))


@pytest.fixture
def net(tmp_path):
    return saved(NET, tmp_path / "net.sir")


def saved(text: str, path: Path) -> Path:
    module, rng = parse_module(text), np.random.default_rng(0)
    weights = Weights()
    for w in module.weights:
        weights.add(w.name, rng.uniform(0.5, 1.5, w.type.sizes).astype(DTYPES[w.type.dtype]))
    save(parse_module(text, weights), path)
    return path


# -- through the command line --------------------------------------------------------------------------------------
@needs_cc
def test_it_compiles_whole_and_streaming(site, net, tmp_path):
    status, out, err = speechc(net, "--target", "c", "--prefix", "voc", "--json", site=site, cwd=tmp_path)
    assert status == 0, err
    report = json.loads(out)
    assert report["largest_error"] < 1e-6
    assert next(p for p in report["passes"] if p["name"] == "recognise-snake")["changes"] == 1
    source = (tmp_path / "net.c").read_text()
    assert "void voc_run(int n_T, const float *in0" in source and "malloc" not in source

    status, out, err = speechc(net, "--target", "c", "--stream", "4", "-o", "step.c", "--json", site=site, cwd=tmp_path)
    assert status == 0, err
    streaming = json.loads(out)["streaming"]
    assert streaming["state_bytes"] == 2 * 4 * 4  # two frames of four channels
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((1, 4, 11)))
    status, out, err = speechc("run", "step.c", "x.npy", "--stream", "--json", site=site, cwd=tmp_path)
    assert status == 0, err
    frames = [json.loads(line)["outputs"]["y"]["frames"] for line in out.splitlines()]
    assert frames == [[0, 4], [4, 8], [8, 11]]


@pytest.mark.slow
def test_its_parts_are_listed(site, tmp_path):
    status, out, err = speechc("ops", site=site, cwd=tmp_path)
    assert status == 0, err
    head, *lines = out.splitlines()
    has = lambda op, column: next(x for x in lines if f" {op}(" in x)[head.index(f" {column} ") + 1 :].split()[0]
    assert next(x for x in lines if " snake(x, alpha)" in x).startswith("pointwise ")
    assert [has("snake", column) for column in ("coreml", "onnx", "tensorrt", "tflite", "c", "streams")] == ["yes"] * 6
    assert [has(op, "c") for op in ("conv", "gru", "lstm")] == ["yes", "yes", "-"]
    status, out, err = speechc("passes", site=site, cwd=tmp_path)
    assert status == 0, err
    assert re.search(r"^legalize +recognise-snake .*within 1e-05", out, re.M)


@pytest.mark.slow
def test_text_with_its_op_is_read_and_the_pass_runs_alone(site, net, tmp_path):
    status, out, err = speechc("opt", net, "-p", "recognise-snake", "--verify-each=numeric", site=site, cwd=tmp_path)
    assert status == 0, err
    assert " snake(" in out and " sin(" not in out
    status, _, err = speechc("opt", net, "-p", "recognise-snake", "-o", "s.sir", site=site, cwd=tmp_path)
    assert status == 0, err
    status, out, err = speechc("inspect", "s.sir", site=site, cwd=tmp_path)
    assert status == 0 and "1 snake" in out, err
    status, _, err = speechc("inspect", "s.sir", site=tmp_path / "nowhere", cwd=tmp_path)
    assert status == 4 and "error[SC101]: there is no op called snake" in err


@needs_cc
def test_a_wrong_kernel_does_not_pass(net, tmp_path):
    text = (EXAMPLE / "speechc_c" / "kernels.c").read_text()
    wrong = text.replace("t * stride + k * dilation - pad", "t * stride + k * dilation - pad + 1")
    assert wrong != text
    site = install_example(tmp_path / "site", kernels_c=wrong)
    status, _, err = speechc(net, "--target", "c", site=site, cwd=tmp_path)
    assert status == 5 and "error[SC502]: the emitted file is not the model" in err and "at conv in net.conv" in err
    assert not (tmp_path / "net.c").exists()


def test_without_a_compiler(site, net, tmp_path):
    (tmp_path / "bin").mkdir()
    env = {k: "" for k in ("CC",) if k in os.environ}
    status, _, err = speechc(net, "--target", "c", site=site, cwd=tmp_path, PATH=str(tmp_path / "bin"), **env)
    assert status == 8 and "error[C800]: there is no C compiler" in err and "  try: install gcc" in err
    assert not (tmp_path / "net.c").exists()


@pytest.mark.slow
def test_what_it_lacks_is_named_by_module(site, net, tmp_path):
    text = NET.replace("sin(%2)", "erf(%2)").replace("pow(%3, f32(2.0))", "mul(%3, %3)")
    status, _, err = speechc(saved(text, tmp_path / "erf.sir"), "--target", "c", site=site, cwd=tmp_path)
    assert status == 4 and "error[SC300]: c lacks 1 of" in err and "  at net.act: erf: no kernel for it" in err
    status, _, err = speechc(net, "--target", "c", "--option", "size=1", site=site, cwd=tmp_path)
    assert status == 2 and "error[SC065]: the target c has no option size" in err


VOCODER = """
import torch
from torch import nn


class Snake(nn.Module):
    def __init__(self, channels, fused):
        super().__init__()
        self.alpha, self.fused = nn.Parameter(torch.rand(1, channels, 1) + 0.5), fused

    def forward(self, x):
        if self.fused:
            return torch.ops.speechc_c.snake(x, self.alpha)
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)


class Vocoder(nn.Module):
    def __init__(self, fused=False):
        super().__init__()
        self.conv, self.act = nn.Conv1d(4, 6, 3, padding=1), Snake(6, fused)
        self.down = nn.Conv1d(6, 6, 2, stride=2, groups=3)
        self.gru, self.out = nn.GRU(6, 5, batch_first=True), nn.Linear(5, 7)

    def forward(self, x):
        y, _ = self.gru(torch.tanh(self.down(self.act(self.conv(x)))).transpose(1, 2))
        return torch.softmax(self.out(torch.relu(y)), -1)


def spelled_out():
    torch.manual_seed(0)
    return Vocoder().eval()


def fused():
    torch.manual_seed(0)
    return Vocoder(fused=True).eval()
"""


@pytest.fixture(scope="module")
def pip_site(tmp_path_factory):
    """The example as pip installs it; nothing is left in its source."""
    folder = tmp_path_factory.mktemp("pip")
    source = shutil.copytree(EXAMPLE, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run([*command, folder / "site", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("form", ["spelled_out", "fused"])
@pytest.mark.parametrize("stream", [[], ["--stream", "4"]], ids=["whole", "step"])
def test_a_model_of_pytorch(form, stream, pip_site, tmp_path):
    (tmp_path / "vocoder.py").write_text(VOCODER)
    model = [f"vocoder:{form}", "--input", "x=f32[1,4,T]", "--time-axis", "2"]
    status, out, err = speechc(*model, "--target", "c", *stream, "--json", site=pip_site, cwd=tmp_path)
    assert status == 0, err
    report = json.loads(out)
    assert report["largest_error"] < 1e-5
    fired = next(p for p in report["passes"] if p["name"] == "recognise-snake")["changes"]
    assert fired == (form == "spelled_out")
    assert "/* snake, act (Snake" in (tmp_path / f"{form}.c").read_text()


@needs_cc
@pytest.mark.slow
def test_its_own_tests(pip_site, tmp_path):
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(pip_site)})
    assert done.returncode == 0, done.stdout + done.stderr


# -- plugins that do not work --------------------------------------------------------------------------------------
BROKEN = {
    "raises": ("raise RuntimeError('half done')\n", 2, "SC066", "RuntimeError: half done"),
    "syntax": ("def f(:\n", 2, "SC066", "SyntaxError"),
    "needs": ("import a_package_that_is_not_here\n", 8, "SC800", "needs the package a_package_that_is_not_here"),
    "op": ("from speechc.ir.registry import op\n@op\ndef relu(x): return x\n", 2, "SC066", "op relu is defined twice"),
    "pass": ("from speechc.passes.base import Pass\nclass Mine(Pass):\n"
             "    name, stage = 'simplify', 'normalize'\n", 2, "SC066", "two passes are called simplify"),
    "target": ("from speechc.lowering.target import Target, register\nclass Mine(Target):\n    name = 'onnx'\n"
               "    kinds = illegal = emit = load = None\nregister(Mine())\n",
               2, "SC066", "two targets are called onnx"),
    "onnx": ("from speechc.lowering.onnx.lower import lower\n@lower('relu')\ndef f(e, x): return x\n",
             2, "SC066", "relu has two lowerings to ONNX"),
    "coreml": ("from speechc.lowering.coreml.lower import lower\n@lower('relu')\ndef f(e, x): return x\n",
               2, "SC066", "relu has two lowerings to Core ML"),
    "tflite": ("from speechc.lowering.tflite.registry import lower\n@lower('relu')\ndef f(e, op, x): return x\n",
               2, "SC066", "relu has two lowerings to TFLite"),
    "rule": ("from speechc.passes.stream.rules import rule\n@rule('conv')\ndef f(step, op): pass\n",
             2, "SC066", "conv has two streaming rules"),
}  # fmt: skip


@pytest.mark.parametrize("what", [pytest.param(w, marks=[pytest.mark.slow] * (w != "raises")) for w in BROKEN])
def test_a_broken_plugin_is_named(what, tmp_path):
    source, wanted, code, said = BROKEN[what]
    install(tmp_path / "site", "bad-plugin", {"bad_plugin.py": source}, {"bad": "bad_plugin"}, "2.1")
    status, out, err = speechc("targets", site=tmp_path / "site", cwd=tmp_path)  # imports neither ops nor passes
    assert status == wanted and not out and "Traceback" not in err, err
    assert err.startswith(f"error[{code}]: the plugin bad (bad_plugin, of bad-plugin 2.1) ") and said in err
    if code == "SC066" and what != "syntax":
        assert re.search(r"  at .*bad_plugin\.py:\d+: .+", err), err


def test_help_asks_no_plugin(tmp_path):
    install(tmp_path / "site", "bad-plugin", {"bad_plugin.py": "raise RuntimeError\n"}, {"bad": "bad_plugin"})
    start = time.perf_counter()
    for arguments in (["--help"], ["version"]):
        status, _, err = speechc(*arguments, site=tmp_path / "site", cwd=tmp_path)
        assert status == 0 and not err
    assert time.perf_counter() - start < 6  # two processes of 0.3 s each, on a machine that is busy


def test_two_plugins_of_one_name_clash(site, net, tmp_path):
    install(tmp_path / "other", "my-c", {"my_c.py": ""}, {"c": "my_c"}, "1.0")
    status, _, err = speechc(net, "--target", "c", site=f"{site}{os.pathsep}{tmp_path / 'other'}", cwd=tmp_path)
    assert status == 2 and "error[SC067]: two plugins are called c" in err
    assert "c (speechc_c, of speechc-c 0.1)" in err and "c (my_c, of my-c 1.0)" in err


@pytest.mark.slow
def test_a_module_that_is_not_there(tmp_path):
    install(tmp_path / "site", "bad-plugin", {}, {"bad": "bad_plugin:target"})
    status, _, err = speechc("ops", site=tmp_path / "site", cwd=tmp_path)
    assert status == 2 and "error[SC066]: the plugin bad (bad_plugin:target, of bad-plugin 0.1) cannot be" in err
