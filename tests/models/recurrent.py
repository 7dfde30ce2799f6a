"""Stacks of recurrent layers."""

from __future__ import annotations

from . import Case, case, model


def _stack(make, size: int = 12, outputs: int = 7) -> Case:
    import torch
    from torch import nn

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = make(nn)
            self.head = nn.LazyLinear(outputs)

        def forward(self, x):
            y, _ = self.rnn(x)
            return self.head(y)

    torch.manual_seed(0)
    module = Stack()
    x_first = not module.rnn.batch_first
    with torch.no_grad():
        module(torch.zeros(1, 1, size))
    shape = ("T", 1, size) if x_first else (1, "T", size)
    return case(module, {"x": shape}, 0 if x_first else 1, 23)


@model("lstm", (1, 17, 40))
def lstm() -> Case:
    """Two LSTM layers, then a linear layer."""
    return _stack(lambda nn: nn.LSTM(12, 16, num_layers=2, batch_first=True))


@model("gru", (1, 17, 40))
def gru() -> Case:
    """Two GRU layers, then a linear layer."""
    return _stack(lambda nn: nn.GRU(12, 16, num_layers=2, batch_first=True))


@model("bilstm", (1, 17, 40))
def bilstm() -> Case:
    """Two bidirectional LSTM layers, time first."""
    return _stack(lambda nn: nn.LSTM(12, 16, num_layers=2, bidirectional=True))


@model("bilstm_projected", (1, 17, 40))
def bilstm_projected() -> Case:
    """Two bidirectional LSTM layers with projections."""
    return _stack(lambda nn: nn.LSTM(12, 16, num_layers=2, bidirectional=True, proj_size=6, batch_first=True))


@model("bigru", (1, 17, 40))
def bigru() -> Case:
    """A bidirectional GRU without biases."""
    return _stack(lambda nn: nn.GRU(12, 16, bidirectional=True, bias=False, batch_first=True))


@model("rnn", (1, 17, 40))
def rnn() -> Case:
    """Two layers of tanh RNN."""
    return _stack(lambda nn: nn.RNN(12, 16, num_layers=2, batch_first=True))


@model("lstm_states", (1, 17, 40))
def lstm_states() -> Case:
    """An LSTM that is given h and c and returns y and both."""
    import torch
    from torch import nn

    class WithStates(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(12, 16, num_layers=2, batch_first=True)

        def forward(self, x, h, c):
            y, (h, c) = self.rnn(x, (h, c))
            return y, h, c

    torch.manual_seed(0)
    return case(WithStates(), {"x": (1, "T", 12), "h": (2, 1, 16), "c": (2, 1, 16)}, {"x": 1}, 23)
