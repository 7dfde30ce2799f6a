"""Whole models: captured, and equal to eager PyTorch at three lengths, none of them the traced one."""

from pathlib import Path

import numpy as np
import pytest
from models import LENGTHS, MODELS
from speechc.compiler.capture import capture_with_reference
from speechc.ir.interpreter import run
from speechc.ir.text import parse_module, print_module
from speechc.ir.verifier import verify

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "model.pt"
TOLERANCE = 1e-4  # of the largest output: float32 through a whole model, summed in another order


def assert_equal(module, reference, feeds):
    want, got = reference(feeds), run(module.main, feeds)
    assert len(want) == len(got) == len(module.main.output_names)
    for name, a, b in zip(module.main.output_names, want, got):
        assert a.shape == b.shape, name
        assert np.abs(a - b).max() <= TOLERANCE * np.abs(a).max(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    case = MODELS[name]()
    module, reference = capture_with_reference(case.module, case.inputs, case.time_axis)
    verify(module)
    sample = next(iter(case.inputs.values())).shape
    for length in LENGTHS[name]:
        feeds = case.make_inputs(length)
        assert name == "whisper_encoder" or next(iter(feeds.values())).shape != tuple(sample)
        assert_equal(module, reference, feeds)


@pytest.mark.parametrize("name", ["parakeet", "moonshine_encoder", "bilstm", "log_mel"])
@pytest.mark.slow
def test_text_round_trip(name):
    case = MODELS[name]()
    module, _ = capture_with_reference(case.module, case.inputs, case.time_axis)
    text = print_module(module)
    assert print_module(parse_module(text)) == text


@pytest.mark.slow
def test_weights_are_shared_and_named():
    case = MODELS["conformer"]()
    module, _ = capture_with_reference(case.module, case.inputs, case.time_axis)
    state = case.module.state_dict()
    for weight in module.weights:
        assert weight.array.ctypes.data == state[weight.name].data_ptr(), weight.name
    assert "layers.1.feed_in.expand.weight" in module.weights


@pytest.mark.slow
def test_every_op_names_the_user_s_code():
    case = MODELS["conformer"]()
    module, _ = capture_with_reference(case.module, case.inputs, case.time_axis)
    for op in module.main.ops:
        assert op.loc.path and op.loc.cls, op
        assert op.loc.source.startswith("conformer.py:"), op
    paths = {op.loc.path for op in module.main.ops}
    assert {"conv1", "layers.0.attention", "layers.1.convolution.depthwise", "output"} <= paths


@pytest.mark.slow
def test_time_is_followed():
    case = MODELS["conformer"]()
    module, _ = capture_with_reference(case.module, case.inputs, case.time_axis)
    (time,) = (d.time for d in module.main.outputs[0].type.shape if d.time)
    assert (time.clock, str(time.rate)) == ("features", "1/4")
    assert module.meta["limits"] == {"T": [11, None]}


@pytest.mark.slow
def test_batches_of_padded_utterances():
    """Batch and length both vary; lengths hide frames of a `nn.TransformerEncoder`."""
    import torch
    from torch import nn

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

        def forward(self, x, lengths):
            return self.encoder(x, src_key_padding_mask=torch.arange(x.shape[1])[None] >= lengths[:, None])

    torch.manual_seed(0)
    module, reference = capture_with_reference(Padded().eval(), ["x=f32[B,T,8]", "lengths=i64[B]"])
    for batch, length in ((1, 9), (2, 40), (5, 17)):
        random = np.random.default_rng(batch)
        x = random.standard_normal((batch, length, 8), dtype=np.float32)
        assert_equal(module, reference, {"x": x, "lengths": random.integers(1, length + 1, batch)})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conformer", "moonshine_encoder", "bilstm"])
def test_batch_that_varies(name):
    case = MODELS[name]()
    ((input_name, sample),) = case.inputs.items()
    batch = 1 if name == "bilstm" else 0
    sizes = ["T" if i == case.time_axis else "B" if i == batch else str(s) for i, s in enumerate(sample.shape)]
    module, reference = capture_with_reference(case.module, [f"{input_name}=f32[{','.join(sizes)}]"])
    one = case.make_inputs(LENGTHS[name][-1])[input_name]
    assert_equal(module, reference, {input_name: np.concatenate([one, -one, 0.5 * one], batch)})


@pytest.mark.slow
def test_digits():
    module, reference = capture_with_reference(DIGITS)
    verify(module)
    assert module.meta["sample_rate"] == 8000 and len(module.meta["tokens"]) == 11
    (time,) = (d.time for d in module.main.outputs[0].type.shape if d.time)
    assert (time.clock, str(time.rate), str(time.length)) == ("audio", "1/320", "T//320")
    for length in (801, 4000, 17003):
        noise = np.random.default_rng(length).standard_normal((1, length), dtype=np.float32)
        assert_equal(module, reference, {"audio": 0.1 * noise})


@pytest.mark.slow
def test_the_work_of_capture_grows_with_layers():
    """Twice the layers take at most 2.3 times as many calls of our own functions."""
    import cProfile
    import pstats

    import speechc
    import torch
    from models.conformer import ConformerCTC
    from speechc.compiler.capture import capture

    ours, calls = str(Path(speechc.__file__).parent), {}
    for layers in (5, 10):
        model = ConformerCTC(features=20, size=16, heads=2, hidden=16, layers=layers, channels=4, tokens=5).eval()
        with cProfile.Profile() as profile:
            capture(model, [torch.randn(1, 77, 20)])
        seen = pstats.Stats(profile).stats
        calls[layers] = sum(count for (file, *_), (_, count, *_) in seen.items() if file.startswith(ours))
    assert 10_000 < calls[10] <= 2.3 * calls[5], calls


@pytest.mark.slow
def test_sizes_of_one_name_are_one():
    """A mask is as long as its audio because the user says so, or because what follows from both must be as long."""
    import torch
    from torch import nn

    class Masked(nn.Module):
        def forward(self, audio, mask):
            y = audio.unfold(1, 4, 4).mean(2)
            return y * mask[:, 3::4][:, : y.shape[1]] + (mask[:, ::4][:, : mask.shape[1] // 4])

    named, _ = capture_with_reference(Masked(), ["audio=f32[B,T]", "mask=i64[B,T]"])
    assert named.meta["limits"].keys() == {"B", "T"}
    samples = {"audio": torch.randn(1, 21), "mask": torch.ones(1, 21, dtype=torch.int64)}
    found, reference = capture_with_reference(Masked(), samples, {"audio": 1, "mask": 1})
    assert found.meta["limits"].keys() == {"T"}
    for length in (9, 16):
        assert_equal(found, reference, {"audio": np.ones((1, length), np.float32), "mask": np.ones((1, length), int)})


@pytest.mark.slow
def test_a_class_of_several_graphs_is_one_where_inputs_of_all_are_given():
    from models.zoo import ZOO
    from speechc.compiler.assembly.opening import read_model
    from speechc.ir.errors import CaptureError

    case = ZOO["WhisperForConditionalGeneration"].build()
    assert read_model(case.module, case.inputs, case.time_axis).module.main.output_names[0] == "logits"
    with pytest.raises(CaptureError, match="SC409"):  # as several, its tokens are wanted
        read_model(case.module)
