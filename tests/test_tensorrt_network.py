"""The network that TensorRT's parser made, layer by layer: the types and the Q/DQ that each precision asks for."""

from __future__ import annotations

from dataclasses import replace

import engines
import numpy as np
import pytest
import torch
from models import MODELS, Case
from models import case as model_case
from speechc.ir.errors import NumericalError
from speechc.lowering.tensorrt.build import Settings, build
from speechc.lowering.tensorrt.emit import Asked
from speechc.lowering.tensorrt.network import Layer, Network, hold
from speechc.lowering.tensorrt.precisions import PRECISIONS
from speechc.lowering.tensorrt.prepare import prepare, save
from speechc.lowering.tensorrt.profiles import ranges, shapes
from torch import nn

# Least SNR of each precision against the model, in dB: half a step of 8 bits, of 11 bits, of rounding alone.
LEAST = {"float32": 100.0, "float16": 50.0, "int8": 25.0, "int8+float16": 25.0}


class Mixed(nn.Module):
    """A convolution, a recurrence, attention between linear layers, and a last projection."""

    def __init__(self, recurrence):
        super().__init__()
        self.conv = nn.Conv1d(16, 32, 3, padding=1)
        self.rnn = recurrence(32, 32, batch_first=True)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.head = nn.Linear(32, 11)

    def forward(self, x):
        y, _ = self.rnn(torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2))
        q, k, v = (f(y).unflatten(-1, (2, 16)).transpose(1, 2) for f in (self.query, self.key, self.value))
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(y + self.out(seen.transpose(1, 2).flatten(2)))


def mixed(recurrence) -> Case:
    torch.manual_seed(0)
    return model_case(Mixed(recurrence), {"x": (1, "T", 16)}, 1, 30)


def parsed(module, folder) -> Network:
    """The network of a module that is built in `folder`."""
    graph = module.main
    model, e = prepare(graph, {})
    path = folder / "model.onnx"
    save(model, path, 1 << 30)
    chosen = shapes(graph, ranges(graph, {"T": [8, 64]}, {}))
    return build(path, Settings(chosen), e.places, e.asked)[1]


@pytest.fixture(scope="module", params=[nn.LSTM, nn.GRU], ids=["lstm", "gru"])
def networks(request, tmp_path_factory):
    """By precision: the parsed network, and outputs of the file and of the model."""
    case, found = mixed(request.param), {}
    for precision in PRECISIONS:
        folder = tmp_path_factory.mktemp("networks")
        module, reference = engines.compiled(case, precision, calibrated=precision.startswith("int8"))
        network = parsed(module, folder)
        session, _ = engines.emitted(module, folder, precision)
        feeds = case.make_inputs(37)
        found[precision] = network, session.run(feeds["x"])[0], reference(feeds)[0]
    return found


def products(network: Network) -> dict[str, Layer]:
    """The products of the network by the module that they are of."""
    kinds = ("MATRIX_MULTIPLY", "CONVOLUTION")
    return {layer.name.rsplit("/", 1)[0].strip("/"): layer for layer in network.layers if layer.kind in kinds}


def from_codes(network: Network, layer: Layer) -> list[bool]:
    """Which inputs of a layer are dequantized."""
    return [o is not None and o.kind == "DEQUANTIZE" for o in map(network.origin, layer.inputs)]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_types_and_codes(networks, precision):
    network, ours, right = networks[precision]
    width, layers = "f16" if precision.endswith("float16") else "f32", products(network)
    for name in ("conv", "query", "key", "value", "out", "head"):
        layer = layers[name]
        assert layer.writes == (width,) and set(layer.reads) == {width}, (name, layer)
        # Weights of a convolution are no input of its layer where they are constants; as codes they are.
        asked = precision.startswith("int8") and name != "head"  # the last projection stays in float
        inputs = from_codes(network, layer)
        assert all(inputs) and len(inputs) >= 2 if asked else not any(inputs), (name, inputs)
    for layer in network.layers:
        if layer.kind == "DEQUANTIZE":
            assert layer.reads[0] == "i8" and layer.reads[1] == layer.writes[0]
        if layer.kind == "QUANTIZE":
            assert layer.writes == ("i8",) and layer.reads[0] == layer.reads[1]
    kinds = {layer.kind for layer in network.layers}
    assert ("QUANTIZE" in kinds) == ("DEQUANTIZE" in kinds) == precision.startswith("int8")
    assert engines.snr(ours, right) >= LEAST[precision]


@pytest.mark.slow
def test_weights_alone(tmp_path):
    """Without calibration: codes of weights reach the products, activations do not become codes."""
    case = small()
    module, reference = engines.compiled(case, "int8")
    network = parsed(module, tmp_path)
    kinds = {layer.kind for layer in network.layers}
    assert "DEQUANTIZE" in kinds and "QUANTIZE" not in kinds
    assert from_codes(network, products(network)["2"]) == [False, True]
    feeds = case.make_inputs(41)
    ours = engines.emitted(module, tmp_path, "int8")[0].run(*feeds.values())[0]
    assert engines.snr(ours, reference(feeds)[0]) >= 40.0


def small() -> Case:
    torch.manual_seed(0)
    return model_case(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 4)),
                      {"input": (1, "T", 16)}, 1, 20)  # fmt: skip


def test_half_scales(tmp_path):
    """int8 with float16: scales are float16, so that no cast stands between codes and products."""
    module, _ = engines.compiled(small(), "int8+float16", calibrated=True)
    network = parsed(module, tmp_path)
    layers = [layer for layer in network.layers if layer.kind == "DEQUANTIZE"]
    assert len(layers) == 4 and all(layer.reads[:2] == ("i8", "f16") and layer.writes == ("f16",) for layer in layers)


@pytest.mark.slow
def test_weights_whose_scales_half_precision_blurs_become_numbers(tmp_path):
    """As TensorRT wants scales of one type on both sides of a product, and float16 holds four bits of 1e-6."""
    case = small()
    with torch.no_grad():
        case.module[2].weight *= 1e-3
    module, reference = engines.compiled(case, "int8+float16", calibrated=True)
    network = parsed(module, tmp_path)
    layers = [layer for layer in network.layers if layer.kind == "DEQUANTIZE"]
    assert len(layers) == 3 and all(layer.writes == ("f16",) for layer in layers)
    assert from_codes(network, products(network)["2"]) == [True, False]
    feeds = case.make_inputs(25)
    ours = engines.emitted(module, tmp_path, "int8+float16")[0].run(*feeds.values())[0]
    assert engines.snr(ours, reference(feeds)[0]) >= LEAST["int8+float16"]


def test_a_network_that_is_not_what_was_asked(tmp_path):
    """Every way to differ is noticed, by module."""
    module, _ = engines.compiled(small(), "int8", calibrated=True)
    network = parsed(module, tmp_path)
    asked = prepare(module.main, {})[1].asked
    assert [a.dequantized for a in asked] == [(True, True), (True, True), (False, False)]
    hold(network, asked)
    wrong = {
        "computes in f32, not f16": replace(asked[0], dtype="f16"),
        "where the graph has no dequantize": replace(asked[0], dequantized=(True, False)),
        "where the graph has a dequantize": replace(asked[2], dequantized=(True, False)),
        "is no layer of the network": Asked("/nowhere/MatMul", "nowhere", "f32", (False, False)),
    }
    for why, other in wrong.items():
        with pytest.raises(NumericalError, match="SC520") as error:
            hold(network, [*asked, other])
        assert why in str(error.value) and len(error.value.where) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_models(name, tmp_path):
    """Every model of `tests/models`: its engine is built, and its ONNX equals it at lengths that were not traced."""
    from models import LENGTHS

    case = MODELS[name]()
    module, reference = engines.compiled(case, "float32")
    session, facts = engines.emitted(module, tmp_path)
    assert facts["layers"]
    for length in LENGTHS[name]:
        feeds = case.make_inputs(length)
        got = session.run(*(feeds[p.name] for p in session.manifest.inputs))
        session.reset()
        for a, b in zip(got, reference(feeds), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            # Eager PyTorch in float32, through hundreds of layers' worth of sums in another order.
            assert np.abs(a.astype(np.float64) - b).max() <= 1e-4 * max(np.abs(b).max(), 1e-6)
