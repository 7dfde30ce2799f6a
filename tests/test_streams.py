"""Processes of the command: standard output holds the result alone; a signal leaves nothing behind."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from speechc.compiler.cli import main
from speechc.compiler.streams import ended_cleanly

LOUD = """
import os, torch
print("imported")
class Loud(torch.nn.Module):
    def forward(self, x):
        print("forward")
        os.write(1, b"raw\\n")
        os.system("echo child")
        return torch.sin(x)
def make():
    return Loud()
"""
SLOW = """
import os, pathlib, time, torch
from speechc.lowering.tflite import target
def emit(self, module, path, *more):
    path.write_bytes(b"half a file")
    print("writing", flush=True)
    os.write(2, b"writing\\n")
    time.sleep(60)
type(target).emit = emit
class Sine(torch.nn.Module):
    def forward(self, x):
        return torch.sin(x)
def make():
    return Sine()
"""
INPUT = ("--input", "x=f32[1,T]")


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "speechc.compiler.cli", *arguments]


@pytest.mark.slow
def test_a_model_that_prints_does_not_reach_standard_output(tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    done = subprocess.run(command("loud:make", *INPUT, "--json"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["artefact"].endswith("make.onnx")
    for word in ("imported", "forward", "raw", "child"):
        assert word in done.stderr
    done = subprocess.run(command("ops", "--used", "loud:make", *INPUT), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "aten.sin" in done.stdout and "imported" not in done.stdout


def test_in_one_process_too(tmp_path, monkeypatch):
    (tmp_path / "speechc_test_loud.py").write_text(LOUD.replace('os.write(1, b"raw\\n")', "pass"))
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as end:
        main(["speechc_test_loud:make", *INPUT, "--json"])
    assert not end.value.code and json.loads(out.getvalue())["target"] == "onnx"


def test_json_and_bisect_exclude_each_other(tmp_path):
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(["models.bad:sine", *INPUT, "--json", "--bisect"])
    assert end.value.code == 2 and "SC017" in err.getvalue()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_a_signal_leaves_nothing_behind(tmp_path, number):
    (tmp_path / "work").mkdir()
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        command("slow:make", *INPUT, "-t", "tflite", "-q"), cwd=tmp_path / "work", env=environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in process.stderr:
            if "writing" in line:
                break
        assert list((tmp_path / "work").rglob("make.tflite"))
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    finally:
        process.kill()
        process.stderr.close()
    assert not list((tmp_path / "work").iterdir())


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, ended_cleanly():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert end.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before
