"""Files that are no archive: recognised, refused by name, or read as what they are (pickles, factories)."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from speechc.compiler.capture import capture
from speechc.ir.errors import CaptureError, UsageError
from speechc.ir.interpreter import run
from torch import nn


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "SC400"), (b"hello, this is text", "SC401"), (b"\x00" * 300, "SC401"), (b"RIFF....WAVEfmt ", "SC401"),
     (b"\x1c\x00\x00\x00TFL3" + bytes(64), "SC401"), (b"PK\x03\x04 and nothing behind it", "SC402"),
     (b"\x80\x02 not really a pickle", "SC402")],
)  # fmt: skip
def test_not_a_model(tmp_path, content, code):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CaptureError) as error:
        capture(tmp_path / "model.pt", ["x=f32[1,T,4]"])
    assert error.value.code == code and error.value.exit_code == 3


def test_missing_file_folder_and_other_zip(tmp_path):
    for path, word in ((tmp_path / "no.pt", "no such file"), (tmp_path, "folder")):
        with pytest.raises(CaptureError, match=word):
            capture(path)
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(CaptureError, match="not a PyTorch model"):
        capture(tmp_path / "any.zip")


def test_torchscript_wants_its_inputs_described(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    with pytest.raises(UsageError, match="--input input=") as error:
        capture(tmp_path / "script.pt")
    assert error.value.code == "SC041"


def test_state_dict_says_how_to_use_it(tmp_path):
    from safetensors.torch import save_file

    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pt", "old.pt", "w.safetensors"):
        with pytest.raises(CaptureError, match="weights alone") as error:
            capture(tmp_path / name)
        assert error.value.code == "SC404" and "--weights" in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_module_when_trusted(tmp_path, legacy):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    torch.save(model, tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CaptureError, match="pickled Python object"):
        capture(tmp_path / "model.pt", ["f32[1,T,4]"])
    module = capture(tmp_path / "model.pt", ["f32[1,T,4]"], trust_pickle=True)
    assert [op.kind for op in module.main.ops] == ["linear", "relu"]
    torch.save([1, 2, Path("x")], tmp_path / "list.pt")
    with pytest.raises(CaptureError, match=r"not an nn\.Module"):
        capture(tmp_path / "list.pt", ["f32[1,T,4]"], trust_pickle=True)


FACTORY = """
import torch
def build():
    return torch.nn.Sequential(torch.nn.Linear(4, 3))
def broken():
    raise ValueError("no")
text = "no model"
model = build()
"""


def test_factory(tmp_path, monkeypatch):
    (tmp_path / "speechc_test_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    weights = nn.Sequential(nn.Linear(4, 3)).state_dict()
    torch.save(weights, "w.pt")
    torch.save({"state_dict": weights, "epoch": 3}, "checkpoint.pt")
    x = np.ones((1, 5, 4), np.float32)
    want = x @ weights["0.weight"].numpy().T + weights["0.bias"].numpy()
    for name in ("w.pt", "checkpoint.pt"):
        module = capture("speechc_test_factory:build", ["input=f32[1,T,4]"], weights=name)
        assert np.abs(run(module.main, {"input": x})[0] - want).max() < 1e-6
        assert len(module.meta["source_hash"]) == 64
    assert len(capture("speechc_test_factory:model", ["f32[1,T,4]"]).main)
    for name, word in (
        ("speechc_test_factory:broken", "ValueError: no"), ("speechc_test_factory:nothing", "nothing"),
        ("speechc_no_such_module:build", "speechc_no_such_module"), ("speechc_test_factory:text", "not callable"),
    ):  # fmt: skip
        with pytest.raises(CaptureError, match=word) as error:
            capture(name, ["f32[1,T,4]"])
        assert error.value.code == "SC406"
    torch.save(nn.Linear(9, 9).state_dict(), "other.pt")
    with pytest.raises(CaptureError, match="does not fit"):
        capture("speechc_test_factory:build", ["f32[1,T,4]"], weights="other.pt")
    with pytest.raises(CaptureError, match="cannot read"):
        capture("speechc_test_factory:build", ["f32[1,T,4]"], weights="none.pt")
