"""TorchScript files: captured through their own graphs, equal to eager PyTorch at three lengths, with module paths."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import LENGTHS, MODELS, case
from models.conformer import ConformerCTC
from scripted import Wrapped, assert_close, save
from speechc.compiler.capture import capture, capture_with_reference
from speechc.ir.errors import CaptureError, UsageError
from speechc.ir.interpreter import run
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def places(module) -> list[tuple[str, str, str]]:
    return [(op.kind, op.loc.path, op.loc.cls) for op in module.main.ops]


# -- whole models ------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def scriptable_conformer():
    """The Conformer of the other tests, its attention written so that TorchScript can read it."""
    torch.manual_seed(0)
    model = ConformerCTC(features=20, size=32, heads=4, hidden=64, layers=2, channels=8, tokens=11)
    for layer in model.layers:
        attention = Attention(32, 4)
        attention.load_state_dict(layer.attention.state_dict())
        layer.attention = attention
    return case(model, {"features": (1, "T", 20)}, 1, 77)


QUICK = {("lstm", "script"), ("gru", "trace")}
CASES = [
    ("keyword_spotter", "script"), ("keyword_spotter", "trace"), ("separable_tcn", "trace"), ("lstm", "script"),
    ("bilstm_projected", "script"), ("gru", "trace"), ("lstm_states", "script"), ("log_mel", "trace"),
    ("attention_banded", "trace"), ("transformer", "trace"), ("transformer_causal", "trace"), ("conformer", "trace"),
    ("conformer", "script"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "how"), [c if c in QUICK else pytest.param(*c, marks=pytest.mark.slow) for c in CASES]
)
def test_model_from_its_file(name, how, tmp_path):
    case = scriptable_conformer() if (name, how) == ("conformer", "script") else MODELS[name]()
    path = save(case.module, tmp_path / "model.pt", how, tuple(case.inputs.values()))
    module, reference = capture_with_reference(path, case.inputs, case.time_axis)
    for length in LENGTHS[name]:
        feeds = case.make_inputs(length)
        with torch.no_grad():
            want = case.module(*(torch.from_numpy(x) for x in feeds.values()))
        want = [x.numpy() for x in torch.utils._pytree.tree_leaves(want)]
        for a, b, c in zip(want, run(module.main, feeds), reference(feeds), strict=True):
            assert_close(a, b)
            assert_close(a, c)
    if "transformer" in name:  # the trace holds fused layers
        assert {op.loc.path for op in module.main.ops} >= {"embed", "encoder.layers.0", "encoder.layers.1", "head"}
    else:
        eager = capture(case.module, case.inputs, case.time_axis)
        assert places(module) == places(eager)
        assert [w.name for w in module.weights] == [w.name for w in eager.weights]


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.slow
def test_lines_are_those_of_the_user(how, tmp_path):
    path = save(scriptable_conformer().module, tmp_path / "c.pt", how, (torch.randn(1, 40, 20),))
    module = capture(path, ["features=f32[1,T,20]"])
    files = {op.loc.source.split(":")[0] for op in module.main.ops}
    assert files == {"conformer.py", "test_torchscript.py"}


def test_a_script_in_memory_and_from_a_factory():
    scripted = torch.jit.script(MODELS["lstm"]().module)
    module = capture(scripted, ["x=f32[1,T,12]"])
    assert module.main.inputs[0].type.shape[1].time is not None


# -- control flow ------------------------------------------------------------------------------------------------------


class Choices(nn.Module):
    """Options, loops, text and numbers: all decided while capturing."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.scale = 0.5
        self.table = [1.0, 2.0, 4.0]

    def forward(
        self, x: Tensor, rate: int = 16000, mask: Tensor | None = None, mode: bool = False
    ) -> dict[str, Tensor]:
        if rate not in [8000, 16000]:
            raise ValueError(f"a rate of {rate} is not supported")
        factor = 2.0 if rate == 16000 else 3.0
        parts: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x = torch.tanh(layer(x)) * self.table[i]
            parts.append(x)
        for i in range(2):
            x = x + factor * i
        n = 0
        while n < 3:
            n += 2
        if mask is not None:
            x = x * mask
        y = torch.cat(parts, dim=-1)[:, : x.size(1) // n * n]
        return {"x": x * self.scale if mode else x, "y": y}


@pytest.mark.parametrize("constants", [{}, {"rate": 8000}, {"rate": 8000, "mode": True}, {"mode": False}])
@pytest.mark.slow
def test_control_flow_and_constants(constants, tmp_path):
    torch.manual_seed(0)
    model = Choices().eval()
    path = save(model, tmp_path / "m.pt")
    texts = ["x=f32[1,T,8]", *(f"{n}={str(v).lower()}" for n, v in constants.items())]
    for inputs, axis in ((texts, 1), ({"x": torch.randn(1, 40, 8), **constants}, {"x": 1})):
        for subject in (path, model):
            module, reference = capture_with_reference(subject, inputs, axis)
            assert [v.name for v in module.main.inputs] == ["x"] and module.main.output_names == ["x", "y"]
            x = np.random.default_rng(0).standard_normal((1, 30, 8), dtype=np.float32)
            want = model(torch.from_numpy(x), **constants)
            for a, b, c in zip(want.values(), run(module.main, {"x": x}), reference({"x": x}), strict=True):
                assert_close(a.detach().numpy(), b)
                assert_close(a.detach().numpy(), c)


def test_what_the_script_refuses_is_named_with_its_line(tmp_path):
    path = save(Choices(), tmp_path / "m.pt")
    with pytest.raises(CaptureError, match="rate of 44100") as error:
        capture(path, ["x=f32[1,T,8]", "rate=44100"])
    assert error.value.code == "SC410" and "test_torchscript.py" in str(error.value)
    assert "raise ValueError" in str(error.value)
    with pytest.raises(UsageError, match="forward takes x, rate"):
        capture(path, ["x=f32[1,T,8]", "speed=2"])


class Decides(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            return x * 2
        return x


def test_data_dependent_control_flow_is_refused(tmp_path):
    path = save(Wrapped(Decides()), tmp_path / "m.pt")
    with pytest.raises(CaptureError) as error:
        capture(path, ["x=f32[1,T,8]"])
    assert error.value.code == "SC412"
    assert "inner (Decides, test_torchscript.py:" in str(error.value) and "if bool(x.sum() > 0)" in str(error.value)


class Unknown(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)


def test_unknown_operators_are_listed(tmp_path):
    path = save(Wrapped(Unknown()), tmp_path / "m.pt")
    with pytest.raises(CaptureError, match="svd") as error:
        capture(path, ["x=f32[1,T,8]"])
    assert error.value.code == "SC420" and "inner (Unknown" in str(error.value)


class Baked(nn.Module):
    def forward(self, x):
        return x * torch.ones(int(x.shape[1]), 8)


def test_a_trace_that_fixed_its_length(tmp_path):
    path = save(Baked(), tmp_path / "m.pt", "trace", (torch.randn(1, 50, 8),))
    with pytest.raises(CaptureError, match="trace") as error:
        capture(path, ["x=f32[1,T,8]"])
    assert error.value.code == "SC410"
    with pytest.raises(CaptureError, match="fixes axis 1 of x at 50") as error:
        capture(path, [torch.randn(1, 50, 8)])
    assert error.value.code == "SC413"
    assert capture(path, ["x=f32[1,50,8]"]).main.inputs[0].type.sizes == (1, 50, 8)


class Rates(nn.Module):
    def forward(self, x, rate: int):
        return x * rate


def test_a_number_that_is_missing(tmp_path):
    with pytest.raises(UsageError, match="--input rate=0") as error:
        capture(save(Rates(), tmp_path / "m.pt"), ["x=f32[1,T,8]"])
    assert error.value.code == "SC044"


# -- files -------------------------------------------------------------------------------------------------------------


def rewritten(path: Path, change) -> Path:
    """The archive with `change(name, data)` for each member's data."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    path.write_bytes(out.getvalue())
    return path


class Touch:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_a_hostile_pickle_runs_nothing(member, tmp_path):
    path, mark = save(Decides(), tmp_path / "m.pt"), tmp_path / "mark"
    rewritten(path, lambda n, data: pickle.dumps(Touch(mark), 2) if n.endswith("/" + member) else data)
    with pytest.raises(CaptureError) as error:
        capture(path, ["x=f32[1,T,8]"])
    assert error.value.code == "SC402" and not mark.exists()


class Restores(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.ones(3)

    @torch.jit.export
    def __getstate__(self):
        return self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]):
        self.w = state[0] + 1
        self.training = state[1]

    def forward(self, x):
        return x + self.w


def test_code_that_runs_on_reading_wants_trust(tmp_path):
    path = save(Restores(), tmp_path / "m.pt")
    with pytest.raises(CaptureError, match="__setstate__") as error:
        capture(path, ["x=f32[1,T,3]"])
    assert error.value.code == "SC403" and "--trust-pickle" in str(error.value)
    module = capture(path, ["x=f32[1,T,3]"], trust_pickle=True)
    assert run(module.main, {"x": np.zeros((1, 4, 3), np.float32)})[0].max() == 2


class Reads(nn.Module):
    def forward(self, x):
        return x + torch.from_file("/tmp/any", False, 8)


class Innocent(nn.Module):
    def forward(self, x):
        return x

    @torch.jit.export
    def other(self, x):
        return torch.from_file("/tmp/any", False, 8)


@pytest.mark.parametrize("make", [Reads, Innocent])
def test_operators_on_files_are_refused(make, tmp_path):
    with pytest.raises(CaptureError, match="from_file, which touches files") as error:
        capture(save(Wrapped(make()), tmp_path / "m.pt"), ["x=f32[1,T,8]"])
    assert error.value.code == "SC403"


def test_a_damaged_file(tmp_path):
    path = save(Decides(), tmp_path / "m.pt")
    rewritten(path, lambda n, data: data[: len(data) // 2] if n.endswith(".pkl") else data)
    with pytest.raises(CaptureError) as error:
        capture(path, ["x=f32[1,T,8]"])
    assert error.value.code == "SC402"
