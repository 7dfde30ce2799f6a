"""Front ends: log-mel features from audio."""

from __future__ import annotations

from . import Case, case, model


def _log_mel(centre: bool, length: int) -> Case:
    import torch
    from torch import nn

    class LogMel(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("window", torch.hann_window(200))
            self.register_buffer("filters", torch.rand(129, 20))

        def forward(self, audio):
            spectrum = torch.stft(audio, 256, 80, 200, self.window, center=centre, return_complex=True)
            power = spectrum.abs() ** 2
            return (power.transpose(1, 2) @ self.filters).clamp(min=1e-10).log10()

    torch.manual_seed(0)
    return case(LogMel(), {"audio": (1, "T")}, 1, length)


@model("log_mel", (400, 1600, 4003))
def log_mel() -> Case:
    """Log-mel features from a centred STFT (reflected edges)."""
    return _log_mel(True, 2048)


@model("log_mel_causal", (400, 1600, 4003))
def log_mel_causal() -> Case:
    """Log-mel features from an STFT without padding."""
    return _log_mel(False, 2048)
