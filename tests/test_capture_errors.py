"""What capture says when a model or its inputs are wrong; and what is rarer: states, specs, modes."""

import math

import numpy as np
import pytest
import torch
from models import MODELS
from speechc.compiler.capture import capture, capture_with_reference, used_operators
from speechc.compiler.capture.spec import ConstantSpec, InputSpec, parse_input, parse_input_spec
from speechc.ir.errors import CaptureError, UsageError
from speechc.ir.interpreter import run
from speechc.ir.verifier import verify
from torch import nn

X = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))


class Inner(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return self.how(x)


class Model(nn.Module):
    """Runs `how` two modules down, so that paths show."""

    def __init__(self, how):
        super().__init__()
        self.encoder = nn.Sequential(nn.Identity(), Inner(how))

    def forward(self, x):
        return self.encoder(x)


def failing(how, inputs=(X,), time_axis=1) -> CaptureError:
    with pytest.raises(CaptureError) as error:
        capture(how if isinstance(how, nn.Module) else Model(how), list(inputs), time_axis)
    assert error.value.exit_code == 3
    return error.value


def test_forward_that_fails():
    error = failing(lambda x: x @ torch.zeros(3, 2))
    assert error.code == "SC410" and "f32" not in error.message and "[1, 9, 4]" in error.message
    assert "encoder.1" in error.where[0] and "test_capture_errors.py" in error.where[0]


def test_decision_by_data(capsys):
    error = failing(lambda x: x if x.sum() > 0 else -x)
    assert error.code == "SC412"
    assert "def forward" not in capsys.readouterr().err  # torch prints the graph that it could not finish
    assert "encoder.1 (Inner, test_capture_errors.py" in error.where[0]
    assert any("torch.where" in h for h in error.hints)
    assert failing(lambda x: x[x > 0]).code in ("SC412", "SC421")
    assert failing(lambda x: x.sum() * torch.ones(int(x.abs().sum().item()))).code == "SC412"
    assert failing(lambda x: x.flatten().nonzero()).code in ("SC412", "SC420")


def test_fixed_length():
    error = failing(lambda x: x * int(x.shape[1]))
    assert error.code == "SC413" and "fixes axis 1 of x at 9" in error.message
    assert "encoder.1" in error.where[0] and "int(x.shape[1])" in error.where[0]
    assert any("x=f32[1,9,4]" in h for h in error.hints)


def test_length_that_float_arithmetic_fixes():
    """torch exports this with the length baked in and says nothing."""
    error = failing(lambda x: x[:, : int(x.shape[1] * 0.5)])
    assert error.code == "SC413" and "traced at length 9" in error.message and "test_capture_errors" in error.where[0]


def test_decision_by_a_bounded_length():
    assert failing(lambda x: x * (2 if x.shape[1] in (9, 11, 14) else 3)).code in ("SC413", "SC416")


def test_every_fourth_length():
    """A view in groups of four frames leaves lengths that are multiples of four, and the type says so."""
    module, reference = capture_with_reference(Model(lambda x: x.view(1, x.shape[1] // 4, 16)), [X.repeat(1, 4, 1)])
    assert str(module.main.inputs[0].type) == "f32[1, (4*T)@x, 4]"
    assert str(module.main.outputs[0].type) == "f32[1, T@x(1/4), 16]"
    assert module.meta["limits"] == {"T": [1, None]}
    x = {"x": np.random.default_rng(0).standard_normal((1, 20, 4), dtype=np.float32)}
    assert np.array_equal(run(module.main, x)[0], reference(x)[0])
    with pytest.raises(UsageError, match="21 is no value of"):
        run(module.main, {"x": np.zeros((1, 21, 4), np.float32)})


def test_a_branch_on_the_length_limits_it():
    module = capture(Model(lambda x: x * 2 if x.shape[1] % 2 else x), [X])
    assert str(module.main.inputs[0].type) == "f32[1, (2*T+1)@x, 4]"
    assert capture(Model(lambda x: x * 2 if x.shape[1] > 5 else x), [X]).meta["limits"] == {"T": [6, None]}


@pytest.mark.slow
def test_whisper_accepts_only_its_own_length():
    case = MODELS["whisper_encoder"]()
    error = failing(case.module, [case.inputs["input_features"]], 2)
    assert error.code in ("SC413", "SC410") and any("f32[1,16,64]" in h for h in error.hints)
    module = capture(case.module, ["input_features=f32[1,16,64]"])
    assert module.main.inputs[0].type.static
    with pytest.raises(CaptureError):
        capture(case.module, ["input_features=f32[1,16,T]"])


@pytest.mark.slow
def test_all_unknown_operators_at_once():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Inner(lambda x: torch.special.bessel_j0(x))
            self.second = Inner(lambda x: torch.special.i1(x) + torch.cdist(x, x).sum())

        def forward(self, x):
            return self.second(self.first(x))

    error = failing(Unknown())
    assert error.code == "SC420"
    assert "bessel_j0" in error.message and "i1" in error.message
    assert any(w.startswith("first (Inner") for w in error.where)
    assert any(w.startswith("second (Inner") for w in error.where)
    assert "aten.special_bessel_j0.default" in error.message and "prims." not in error.message
    used = used_operators(Unknown(), [X])
    assert {u.known for u in used} == {True, False} and {u.path for u in used} == {"first", "second"}


def test_weights_that_are_not_numbers():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    for value in (math.nan, math.inf):
        with torch.no_grad():
            model[1].bias[2] = value
        error = failing(model)
        assert error.code == "SC440" and "1.bias" in error.message


def test_infinite_mask_buffers_are_fine():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, -math.inf, 0.0, 0.0]))

        def forward(self, x):
            return (x + self.mask).softmax(-1)

    assert len(capture(Masked(), [X]).main)


def test_inputs_that_make_no_sense():
    model = nn.Linear(4, 3)
    for arguments, code in (
        ((None,), "SC041"), (([X], 3), "SC042"), (([X], {"y": 1}), "SC042"), (({"x": X},), "SC044"),
        (([X, X],), "SC044"), (([X[:, :1]],), "SC043"), ((["f32[1,T,4"],), "SC040"), ((["f99[1,T,4]"],), "SC040"),
        ((["f32[1,T-1,4]"],), "SC040"), ((["a=f32[1,T,4]"],), "SC044"), ((["f32[1,T,4]", "f32[1]"],), "SC044"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as error:
            capture(model, *arguments)
        assert error.value.code == code, error.value
    with pytest.raises(CaptureError) as error:  # the wrong rank and size reach forward
        capture(model, ["f32[1,T,5]"])
    assert error.value.code == "SC410"


def test_two_inputs_want_their_axes_by_name():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(UsageError, match=r"time_axis=\{'x': 1\}"):
        capture(Two(), [X, X], 1)
    assert len(capture(Two(), [X, X], {"x": 1, "y": 1}).main) == 1


def test_input_specs():
    assert parse_input_spec("x=f32[1, T,80]") == InputSpec("x", "f32", (1, "T", 80))
    assert parse_input_spec("i64[]") == InputSpec(None, "i64", ())
    assert parse_input_spec("f32[B,80,T]").time_axis == 2
    assert parse_input_spec("f32[B,8]").time_axis is None
    assert parse_input("x=f32[1,T]") == InputSpec("x", "f32", (1, "T"))
    assert parse_input("sr=16000") == ConstantSpec("sr", 16000) and parse_input("on = true") == ConstantSpec("on", True)
    assert parse_input("gain=-0.5").value == -0.5 and parse_input("eps=1e-3").value == 1e-3

    class Two(nn.Module):
        def forward(self, features, memory):
            return features.mean(1, keepdim=True) + memory.sum(1, keepdim=True)

    module = capture(Two(), ["features=f32[B,frames,4]", "memory=f32[B,U,4]"])
    assert [str(v.type) for v in module.main.inputs] == ["f32[B, frames@features, 4]", "f32[B, U@memory, 4]"]
    feeds = {"features": np.ones((2, 5, 4), "f"), "memory": np.ones((2, 7, 4), "f")}
    assert run(module.main, feeds)[0].tolist() == np.full((2, 1, 4), 8.0).tolist()


def test_audio_is_a_clock():
    class Net(nn.Module):
        def forward(self, waveform):
            return waveform.unfold(1, 8, 4)

    module = capture(Net(), ["f32[1,T]"])
    assert str(module.main.inputs[0].type) == "f32[1, T@audio]"
    assert str(module.main.outputs[0].type) == "f32[1, (T//4-1)@audio(1/4), 8]"


def test_training_mode_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(9)).train()
    model[1].eval()
    module = capture(model, [X], None)
    assert "training mode" in module.meta["notes"][0]
    assert model.training and model[2].training and not model[1].training
    assert model[2].num_batches_tracked == 0


class Smoother(nn.Module):
    """A running mean over calls: a buffer that forward changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((4,), 0.5))
        self.register_buffer("calls", torch.zeros(1, dtype=torch.long))

    def forward(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.mean((0, 1)))
        self.calls = self.calls + 1
        return x - self.mean


def test_changed_buffers_become_state():
    torch.manual_seed(0)
    model = Smoother()
    module, reference = capture_with_reference(model, [X])
    verify(module)
    assert set(module.main.states) == {"mean", "calls"}
    assert torch.equal(model.mean, torch.full((4,), 0.5)), "capture changed the model"
    from speechc.ir.interpreter import initial_states

    states = initial_states(module.main)
    feeds = [np.random.default_rng(i).standard_normal((1, 5 + i, 4), dtype=np.float32) for i in range(3)]
    for _ in range(2):  # the reference starts afresh at every call
        assert np.allclose(reference({"x": feeds[0]})[0], run(module.main, {"x": feeds[0]})[0], atol=1e-6)
    model = Smoother()
    for x in feeds:
        want = model(torch.from_numpy(x)).numpy()
        assert np.abs(run(module.main, {"x": x}, states)[0] - want).max() < 1e-6
    assert states["calls"] == 3


def test_tied_weights_are_one():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    module = capture(Tied(), [X])
    assert len(module.weights) == 3


def test_half_precision_says_what_to_do():
    error = failing(nn.Linear(4, 4).bfloat16(), [X.bfloat16()])
    assert "bfloat16" in error.message and any(".float()" in h for h in error.hints)


def test_packed_sequences():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(4, 4, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([x.shape[1]]), batch_first=True)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    assert failing(Packed()).code in ("SC411", "SC412", "SC413", "SC414")


def test_modes_inside_forward_are_taken_in():
    class Modes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            with torch.no_grad():
                y = self.linear(x) * 2
            with torch.autocast("cpu", enabled=False):
                z = y.float() @ y.transpose(1, 2)
            return z + x.shape[1]

    module, reference = capture_with_reference(Modes().requires_grad_(False), [X])
    x = np.random.default_rng(0).standard_normal((1, 13, 4), dtype=np.float32)
    assert np.allclose(run(module.main, {"x": x})[0], reference({"x": x})[0], atol=1e-5)


def test_export_leaves_torch_as_it_was():
    import torch.nn.functional as F

    before = (torch._VF.lstm, F.max_pool1d, torch.max_pool1d, torch.backends.mha.get_fastpath_enabled())
    capture(nn.GRU(4, 4, batch_first=True), [X])
    failing(lambda x: x if x.sum() > 0 else -x)
    assert before == (torch._VF.lstm, F.max_pool1d, torch.max_pool1d, torch.backends.mha.get_fastpath_enabled())


def test_exported_program_as_it_is():
    program = torch.export.export(nn.Linear(4, 2), (X,), dynamic_shapes=({1: torch.export.Dim("frames", max=500)},))
    module = capture(program)
    assert module.meta["limits"]["T"][1] == 500
    assert run(module.main, {"input": np.zeros((1, 3, 4), "f")})[0].shape == (1, 3, 2)
