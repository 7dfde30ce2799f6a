"""Bad input gets one clear message and its exit status, no traceback, and leaves no file behind."""

import errno
import os
import pickle
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import run

CONV = ["--input", "x=f32[1,80,T]", "--time-axis", "2"]
SINE = ["--input", "x=f32[1,T]"]


def speechc(*arguments, cwd: Path) -> SimpleNamespace:
    """What the command does with `arguments` in a folder: its exit status and what it printed."""
    status, out, err = run(*arguments, cwd=cwd)
    return SimpleNamespace(returncode=status, stdout=out, stderr=err)


def refused(done, status: int, *words: str) -> None:
    assert done.returncode == status, f"exit {done.returncode}: {done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr, done.stderr
    assert "error[SC" in done.stderr and done.stderr.count("error[") == 1, done.stderr
    for word in words:
        assert word in done.stderr, f"{word!r} is not in: {done.stderr}"
    assert not done.stdout


@pytest.fixture
def folder(tmp_path):
    """An empty folder that must be empty afterwards, but for what the test itself put there."""
    (tmp_path / "work").mkdir()
    yield tmp_path / "work"
    left = [p.name for p in (tmp_path / "work").rglob("*")]
    assert not left, f"left behind: {left}"


@pytest.fixture
def archive(tmp_path):
    """A good torch.export archive."""
    import torch
    from models.bad import sine

    path = tmp_path / "good.pt2"
    shape = {"x": {1: torch.export.Dim("T", min=2)}}
    torch.export.save(torch.export.export(sine(), (torch.zeros(1, 100),), dynamic_shapes=shape), path)
    return path


def test_a_good_archive_passes(archive, tmp_path):
    done = speechc(archive, "--quiet", "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.onnx", "good.onnx.json"]


def test_no_such_file(folder):
    refused(speechc("nothing.pt", cwd=folder), 3, "nothing.pt")


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no model\n" * 20, bytes(range(256)) * 8], ids=["empty", "text", "noise"]
)
def test_not_a_model(folder, tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    refused(speechc(tmp_path / "model.pt", cwd=folder), 3, "model.pt")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive(folder, archive, keep):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    refused(speechc(archive, cwd=folder), 3)


def test_a_zip_that_is_no_model(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as z:
        z.writestr("readme.txt", "hello")
    refused(speechc(tmp_path / "model.pt", cwd=folder), 3)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_unasked(folder, tmp_path, protocol):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Bomb(), protocol))
    refused(speechc(tmp_path / "model.pt", cwd=folder), 3, "--trust-pickle")


def test_a_pickled_module_unasked(folder, tmp_path):
    import torch
    from models.bad import sine

    torch.save(sine(), tmp_path / "model.pt")
    refused(speechc(tmp_path / "model.pt", *SINE, cwd=folder), 3, "--trust-pickle")


def test_a_state_dict_alone(folder, tmp_path):
    import torch
    from models.bad import rank3

    torch.save(rank3().state_dict(), tmp_path / "weights.pt")
    refused(speechc(tmp_path / "weights.pt", cwd=folder), 3, "--weights")


def test_a_missing_package(folder, monkeypatch):
    for name in ("onnx_ir", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(speechc("models.bad:sine", *SINE, cwd=folder), 8, "pip install", "speechc[onnx]")


def test_a_forward_that_fails(folder):
    done = speechc("models.bad:failing", *SINE, cwd=folder)
    refused(done, 3, "this model is broken on purpose", "bad.py")


def test_nan_weights(folder):
    refused(speechc("models.bad:nan_weights", *CONV, cwd=folder), 3, "NaN", "conv.weight")


def test_an_input_of_the_wrong_rank(folder):
    done = speechc("models.bad:rank3", "--input", "x=f32[1,2,80,T]", "--time-axis", "3", cwd=folder)
    refused(done, 3, "conv")


def test_an_input_that_is_not_described(folder):
    refused(speechc("models.bad:rank3", cwd=folder), 2, "--input")


def test_a_description_that_is_no_type(folder):
    refused(speechc("models.bad:rank3", "--input", "x=float[1,80", cwd=folder), 2, "name=f32[1,T,80]")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--input", "x=f32[1,T,80]"],
        ["--input", "y=f32[1,T]"],
        ["--input", "x=f32[2,T]"],
        ["--input", "x=f32[1,100]"],
        ["--input", "x=i64[1,T]"],
        ["--input", "x=f32[B,T]"],
        ["--time-axis", "7"],
        ["--time-axis", "0"],
        ["--time-axis", "y=1"],
        ["--time-axis", "x=0"],
    ],
)
def test_what_an_archive_says_of_its_inputs_counts(folder, archive, arguments):
    refused(speechc(archive, *arguments, cwd=folder), 2, arguments[1].partition("=")[0])


def test_an_archive_described_as_it_is(archive, tmp_path):
    for arguments in (["--input", "x=f32[1,T]"], ["--input", "f32[1,N]", "--time-axis", "x=1"]):
        done = speechc(archive, *arguments, "--quiet", "-o", tmp_path / "out", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_time_axis_that_is_not_described_as_varying(folder):
    refused(speechc("models.bad:sine", *SINE, "--time-axis", "7", cwd=folder), 2, "axis 7")


def test_unknown_operators_are_listed_at_once(folder):
    done = speechc("models.bad:unknown_ops", "--input", "x=f32[1,T,4]", cwd=folder)
    refused(done, 3, "bessel_j0", "inner", "zeta")


def test_an_unknown_factory(folder):
    refused(speechc("models.bad:nobody", *SINE, cwd=folder), 3, "nobody")
    refused(speechc("models.nowhere:nobody", *SINE, cwd=folder), 3, "nowhere")


def test_an_output_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(speechc("models.bad:sine", *SINE, "-o", tmp_path / "file" / "out", cwd=folder), 2, "cannot write")


def test_a_full_disk(folder, monkeypatch):
    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full)
    refused(speechc("models.bad:sine", *SINE, cwd=folder), 2, "No space left")


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["--target", "abacus"], 2, "abacus"),
        (["--int8", "--fp32"], 2, "exclude"),
        (["--passes", "no-such-pass"], 2, "no-such-pass"),
        (["--passes", "fold{colour=3}"], 2, "colour"),
        (["--verify-each", "sometimes"], 2, "sometimes"),
        (["--calibrate", "nowhere"], 2, "nowhere"),
        (["--time-axis", "one"], 2, "--time-axis"),
    ],
)
def test_options_that_make_no_sense(folder, arguments, status, word):
    refused(speechc("models.bad:sine", *SINE, *arguments, cwd=folder), status, word)


def test_tools_on_files_that_are_no_graphs(folder, tmp_path):
    noise, broken, good = (tmp_path / f"{n}.sir" for n in ("noise", "broken", "good"))
    noise.write_bytes(bytes(range(256)))
    good.write_text(
        'speechc 1\ngraph main(%x: f32[1, T@x]) {\n  %0 = relu(%x) : f32[1, T@x] @""\n  return %0 as "y"\n}\n'
    )
    broken.write_text(good.read_text().replace("%0 = relu(%x)", "weight $w: f32[2]\n  %0 = relu(%x)"))
    for file, words in ((noise, ("SC108", "noise.sir")), (broken, ("SC100", "broken.sir: line 3"))):
        for arguments in (["diff", good, file], ["diff", file, good], ["inspect", file], ["opt", file], [file]):
            refused(speechc(*arguments, cwd=folder), 2, *words)
    done = speechc("diff", good, good, cwd=folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_precision_out_of_reach(folder):
    refused(speechc("models.bad:sine", *SINE, "--fp16", "--min-snr", "300", cwd=folder), 5, "dB")
