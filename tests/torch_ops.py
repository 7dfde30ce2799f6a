"""What PyTorch computes for each op, written independently of the ops' numpy meanings."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from speechc.ir.graph import Graph
from speechc.ir.interpreter import initial_states
from speechc.ir.registry import concrete

DTYPE = {"f16": torch.float16, "f32": torch.float32, "f64": torch.float64, "i8": torch.int8, "u8": torch.uint8,
         "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "bool": torch.bool}  # fmt: skip


def run(graph: Graph, feeds: dict[str, np.ndarray], sizes: dict[str, int]) -> list[np.ndarray]:
    """The outputs of a graph, op by op through `TORCH`."""
    values = {id(v): torch.from_numpy(feeds[v.name].copy()) for v in graph.inputs}
    states = initial_states(graph)
    values.update({id(v): torch.from_numpy(states[n].copy()) for n, v in graph.states.items()})

    def look(v):
        if v is None:
            return None
        return torch.from_numpy(v.array.copy()) if v.kind in ("const", "weight") else values[id(v)]

    for op in graph.ops:
        attrs = {k: concrete(a, sizes) for k, a in op.attrs.items()}
        function = TORCH[op.kind]
        if op.kind == "dequantize":
            attrs["graph"], attrs["quant"] = graph, op.operands[0].type.quant
        out = function(*map(look, op.operands), **attrs)
        for r, y in zip(op.results, out if isinstance(out, tuple) else (out,)):
            values[id(r)] = y
    return [look(v).numpy() for v in graph.outputs]


def first(x, last):
    return x.movedim(-1, 1) if last else x


def back(y, last):
    return y.movedim(1, -1) if last else y


def cropped(y, pad):
    for axis, (p, q) in enumerate(pad, 2):
        y = y.narrow(axis, p, y.shape[axis] - p - q)
    return y


def padded(x, pad, value=0.0):
    return F.pad(x, [n for p in reversed(pad) for n in p], value=value)


def conv(x, w, b, *, stride, dilation, pad, groups, channel_last):
    f = (F.conv1d, F.conv2d)[w.dim() - 3]
    return back(f(padded(first(x, channel_last), pad), w, b, stride, 0, dilation, groups), channel_last)


def conv_transpose(x, w, b, *, stride, dilation, pad, output_pad, groups, channel_last):
    f = (F.conv_transpose1d, F.conv_transpose2d)[w.dim() - 3]
    y = f(first(x, channel_last), w, b, stride, 0, output_pad, groups, dilation)
    return back(cropped(y, pad), channel_last)


def max_pool(x, *, kernel, stride, pad, dilation, channel_last):
    f = (F.max_pool1d, F.max_pool2d)[len(kernel) - 1]
    y = f(padded(first(x, channel_last), pad, -torch.inf), kernel, stride, 0, dilation)
    return back(y, channel_last)


def avg_pool(x, *, kernel, stride, pad, count_pad, channel_last):
    x = first(x, channel_last)
    n = torch.ones_like(x)
    f = (F.avg_pool1d, F.avg_pool2d)[len(kernel) - 1]
    y = f(padded(x, pad), kernel, stride) / (1 if count_pad else f(padded(n, pad), kernel, stride))
    return back(y, channel_last)


def attention(q, k, v, mask, *, scale, causal):
    if causal:
        seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        if mask is None or mask.dtype == torch.bool:
            mask = seen if mask is None else mask & seen
        else:
            mask = mask.masked_fill(~seen, -torch.inf)
    k, v = (a.repeat_interleave(q.shape[-3] // a.shape[-3], -3) for a in (k, v))
    scores = q @ k.mT * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).nan_to_num(0.0) @ v


def batch_norm(x, gamma, beta, mean, var, *, axis, eps):
    y = F.batch_norm(x.movedim(axis, 1), mean, var, gamma, beta, False, 0.0, eps)
    return y.movedim(1, axis)


def layer_norm(x, w, b, *, axis, eps):
    return F.layer_norm(x, x.shape[axis:], w, b, eps)


def recurrent(kind, x, states, w, r, b, rb, proj, reverse):
    """One layer and direction of torch.nn.LSTM, GRU or RNN."""
    options = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, torch.nn.RNN)
    hidden = r.shape[0] // {"lstm": 4, "gru": 3}.get(kind, 1)
    if proj is not None:
        options["proj_size"] = proj.shape[0]
    if proj is not None and proj.shape[0] >= hidden:  # torch.nn.LSTM refuses a projection that is not smaller
        return lstm_steps(x, *states, w, r, b, proj, reverse)
    layer = make(x.shape[2], hidden, batch_first=True, dtype=x.dtype, **options)
    zero = torch.zeros(w.shape[0], dtype=x.dtype)
    with torch.no_grad():
        for p, value in [("weight_ih", w), ("weight_hh", r), ("bias_ih", b), ("bias_hh", rb), ("weight_hr", proj)]:
            if hasattr(layer, p + "_l0"):
                getattr(layer, p + "_l0").copy_(zero if value is None else value)
        states = tuple(s[None] for s in states)
        y, last = layer(x.flip(1) if reverse else x, states if kind == "lstm" else states[0])
    last = last if kind == "lstm" else (last,)
    return (y.flip(1) if reverse else y, *(s[0] for s in last))


def lstm_steps(x, h, c, w, r, b, proj, reverse):
    out = []
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        i, f, g, o = (F.linear(x[:, t], w, b) + h @ r.mT).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = (o.sigmoid() * c.tanh()) @ proj.mT
        out.append(h)
    return torch.stack(out[::-1] if reverse else out, 1), h, c


def pad(x, *, pads, mode, value):
    if mode == "constant":
        return F.pad(
            x, [n for p in reversed(pads) for n in p], value=int(value) if not x.is_floating_point() else value
        )
    for axis, (p, q) in enumerate(pads):  # PyTorch's other modes take few ranks: index instead
        n = x.shape[axis]
        at = torch.arange(-p, n + q)
        at = at.clamp(0, n - 1) if mode == "edge" else (n - 1) - ((n - 1) - at.abs()).abs()
        x = x.index_select(axis, at)
    return x


def gather(x, index, *, axis):
    y = x.index_select(axis, index.reshape(-1))
    return y.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def slice_(x, *, axis, start, stop, step):
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def overlap_add(x, *, hop):
    n, size = x.shape[-2:]
    y = F.fold(x.reshape(-1, n, size).mT, (1, (n - 1) * hop + size), (1, size), stride=(1, hop))
    return y.reshape(*x.shape[:-2], -1)


def resize(x, *, axis, scale, linear):
    moved = x.movedim(axis, -1)
    flat = moved.reshape(1, -1, moved.shape[-1])
    y = F.interpolate(flat, scale_factor=scale, mode="linear" if linear else "nearest")
    return y.reshape(*moved.shape[:-1], -1).movedim(-1, axis)


def quantize(x, *, scale, zero_point, dtype):
    low, high = {"i8": (-128, 127), "u8": (0, 255), "i16": (-32768, 32767)}[dtype]
    return ((x / scale).round() + zero_point).clamp(low, high).to(DTYPE[dtype])


def dequantize(q, *, graph, quant, dtype):
    if isinstance(quant.scale, float):
        return ((q.float() - quant.zero_point) * quant.scale).to(DTYPE[dtype])
    scale = torch.from_numpy(graph.weights[quant.scale].array)
    return (q.float() * scale.reshape([-1 if i == quant.axis else 1 for i in range(q.dim())])).to(DTYPE[dtype])


TORCH = {
    **{k: getattr(torch, k) for k in ("exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid",
                                      "erf", "floor", "ceil", "round", "neg", "abs", "sign", "relu", "add", "sub",
                                      "mul", "minimum", "maximum", "pow", "div", "logical_and", "logical_or",
                                      "logical_not", "matmul", "where")},
    "silu": F.silu, "softplus": lambda x: F.softplus(x, threshold=1e9),
    "gelu": lambda x, tanh: F.gelu(x, approximate="tanh" if tanh else "none"),
    "leaky_relu": lambda x, slope: F.leaky_relu(x, slope), "elu": lambda x, alpha: F.elu(x, alpha),
    "mod": torch.remainder, "floor_div": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "equal": torch.eq, "less": torch.lt, "less_equal": torch.le,
    "cast": lambda x, dtype: x.to(DTYPE[dtype]),
    "softmax": lambda x, axis: x.softmax(axis), "log_softmax": lambda x, axis: x.log_softmax(axis),
    "layer_norm": layer_norm, "rms_norm": lambda x, w, eps: F.rms_norm(x, x.shape[-1:], w, eps),
    "batch_norm": batch_norm, "group_norm": lambda x, w, b, groups, eps: F.group_norm(x, groups, w, b, eps),
    "attention": attention,
    "linear": F.linear, "conv": conv, "conv_transpose": conv_transpose,
    "lstm": lambda x, h, c, w, r, b, proj, reverse: recurrent("lstm", x, (h, c), w, r, b, None, proj, reverse),
    "gru": lambda x, h, w, r, b, rb, reverse: recurrent("gru", x, (h,), w, r, b, rb, None, reverse),
    "rnn": lambda x, h, w, r, b, relu, reverse: recurrent(
        "relu" if relu else "tanh", x, (h,), w, r, b, None, None, reverse
    ),
    "sum": lambda x, axes, keepdims: x.sum(axes, keepdims, dtype=x.dtype),
    "mean": lambda x, axes, keepdims: x.mean(axes, keepdims),
    "max": lambda x, axes, keepdims: x.amax(axes, keepdims), "min": lambda x, axes, keepdims: x.amin(axes, keepdims),
    "argmax": lambda x, axis, keepdims: x.argmax(axis, keepdims),
    "cumsum": lambda x, axis: x.cumsum(axis, dtype=x.dtype), "cummax": lambda x, axis: x.cummax(axis)[0],
    "max_pool": max_pool, "avg_pool": avg_pool,
    "reshape": lambda x, shape: x.reshape(shape), "transpose": lambda x, perm: x.permute(perm),
    "expand": lambda x, shape: x.expand(shape), "slice": slice_,
    "concat": lambda *xs, axis: torch.cat(xs, axis), "pad": pad, "gather": gather,
    "gather_elements": lambda x, index, axis: x.gather(axis, index.long()),
    "flip": lambda x, axis: x.flip(axis),
    "iota": lambda size, dtype: torch.arange(size, dtype=DTYPE[dtype]), "size": lambda of: torch.tensor(of),
    "frame": lambda x, size, hop: x.unfold(-1, size, hop), "overlap_add": overlap_add, "resize": resize,
    "history": lambda x, s, axis, lead, trail: torch.cat((s, x), axis), "retime": lambda x, axis, to: x,
    "read": lambda s: s, "write": lambda s, v: (), "quantize": quantize, "dequantize": dequantize,
}  # fmt: skip
