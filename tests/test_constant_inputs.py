"""Numbers among the sample inputs: arguments of forward that stay what they are, in Python's two forms of inputs."""

import numpy as np
import pytest
import speechc
import torch
from speechc.ir.errors import SpeechcError


class Scaled(torch.nn.Module):
    """What silence detectors look like: forward(x, sr) does one thing or another by the sample rate."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv1d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, sr: int, loud: bool = True) -> torch.Tensor:
        if sr == 8000:
            return self.layer(x[:, None])
        return self.layer(x[:, None] * (2.0 if loud else 0.5))


X = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32)


@pytest.mark.parametrize(
    ("inputs", "arguments"),
    [
        ({"x": X, "sr": 16000}, (16000,)),
        pytest.param({"sr": 8000, "x": X}, (8000,), marks=pytest.mark.slow),
        pytest.param({"x": X, "sr": 16000, "loud": False}, (16000, False), marks=pytest.mark.slow),
        pytest.param([X, 16000], (16000,), marks=pytest.mark.slow),
        ((X, 8000), (8000,)),
        ([X, 16000, False], (16000, False)),
        ({"x": torch.from_numpy(X), "sr": 16000}, (16000,)),
    ],
)
def test_numbers_among_samples(inputs, arguments, tmp_path):
    torch.manual_seed(0)
    model = Scaled().eval()
    artifact = speechc.compile(model, inputs, output=tmp_path)
    assert artifact.manifest.notes == []
    assert [p.name for p in artifact.manifest.inputs] == ["x"]
    for n in (40, 17):
        x = X[:, :n]
        expected = model(torch.from_numpy(x), *arguments).detach().numpy()
        np.testing.assert_allclose(artifact.run(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_numbers_among_samples_of_a_streamed_factory(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x, gain: float):\n"
        "        return torch.nn.functional.avg_pool1d(x[:, None] * gain, 3, 1, 1)\ndef net():\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    artifact = speechc.compile("nets:net", {"x": X, "gain": 3.0}, stream="8 frames", output=tmp_path / "out")
    session = artifact.stream()
    streamed = np.concatenate([session.push(X)[0], session.flush()[0]], -1)
    padded = np.pad(3 * X, ((0, 0), (1, 1)))
    expected = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:])[:, None] / 3
    np.testing.assert_allclose(streamed, expected, rtol=1e-4, atol=1e-5)


def test_a_number_that_forward_does_not_take(tmp_path):
    with pytest.raises(SpeechcError) as error:
        speechc.compile(Scaled(), {"x": X, "rate": 16000}, output=tmp_path)
    assert error.value.code == "SC044"


def test_what_the_capture_has_to_tell_reaches_the_user(tmp_path):
    artifact = speechc.compile(Scaled().train(), {"x": X, "sr": 8000}, output=tmp_path)
    assert "training mode" in artifact.manifest.notes[0]
    assert any(text.startswith("note[capture]: ") and "training mode" in text for text in artifact.report["remarks"])
