"""Meanings of MIL's ops, each against PyTorch or worked by hand: those too that no converter writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from speechc.lowering.coreml import interpreter  # noqa: F401  it fills the table
from speechc.lowering.coreml.mil_table import Refused, meaning_of

RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def mil(name, opset=18, **operands):
    return meaning_of(name, opset).run(**operands)


def near(got, want, rtol=1e-5):
    want = want.numpy() if isinstance(want, torch.Tensor) else np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("kind", ["same", "same_lower"])
@pytest.mark.parametrize("size, kernel, stride, dilation", [(10, 4, 1, 1), (11, 4, 3, 1), (9, 3, 2, 2), (5, 2, 4, 1)])
def test_same_padding(kind, size, kernel, stride, dilation):
    x, w = normal(2, 4, size), normal(6, 2, kernel)
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    front = total // 2 if kind == "same" else total - total // 2
    padded = F.pad(torch.tensor(x), (front, total - front))
    want = F.conv1d(padded, torch.tensor(w), stride=stride, dilation=dilation, groups=2)
    got = mil("conv", x=x, weight=w, pad_type=kind, strides=[stride], dilations=[dilation], groups=2)
    assert got.shape[2] == out
    near(got, want, 1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(groups):
    x, w, b = normal(2, 4, 5, 6), normal(4, 3, 3, 4), normal(3 * groups)
    want = F.conv_transpose2d(*map(torch.tensor, (x, w, b)), stride=(2, 3), padding=1, dilation=(2, 1), groups=groups)
    options = dict(x=x, weight=w, bias=b, strides=[2, 3], dilations=[2, 1], groups=groups)
    got = mil("conv_transpose", pad_type="custom", pad=[1, 1, 1, 1], **options)
    near(got, want, 1e-4)
    longer = mil("conv_transpose", pad_type="custom", pad=[1, 1, 1, 1], output_shape=[2, 0, 12, 18], **options)
    want = F.conv_transpose2d(
        *map(torch.tensor, (x, w, b)), stride=(2, 3), padding=1, output_padding=(1, 1), dilation=(2, 1), groups=groups
    )
    near(longer, want[:, :, :12, :18], 1e-4)
    assert mil("conv_transpose", pad_type="same", **options).shape[2:] == (10, 18)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("excluded", [False, True])
def test_pools(ceil, excluded):
    x = normal(2, 3, 12, 9)
    t = torch.tensor(x)
    options = dict(kernel_sizes=[4, 3], strides=[3, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=ceil)
    near(mil("max_pool", x=x, **options), F.max_pool2d(t, (4, 3), (3, 2), 1, ceil_mode=ceil))
    want = F.avg_pool2d(t, (4, 3), (3, 2), 1, ceil, not excluded)
    near(mil("avg_pool", x=x, exclude_padding_from_average=excluded, **options), want)
    if not ceil:
        want = torch.sqrt(F.avg_pool2d(t**2, (4, 3), (3, 2), 1) * 12)
        near(mil("l2_pool", x=x, **options), want)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_lstm_gates_and_directions(direction):
    layer = torch.nn.LSTM(5, 4)
    x, h, c = normal(6, 2, 5), normal(2, 4), normal(2, 4)
    order = [0, 1, 3, 2]  # PyTorch i f z o, MIL i f o z
    w, u, b = (
        np.concatenate([np.split(p.detach().numpy(), 4)[i] for i in order])
        for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    )
    given = np.flip(x, 0).copy() if direction == "reverse" else x
    y, (hn, cn) = layer(torch.tensor(given), (torch.tensor(h)[None], torch.tensor(c)[None]))
    y = y.detach().numpy()  # backward, the sequence is in the order of the steps
    options = dict(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, bias=b, direction=direction)
    got = mil("lstm", output_sequence=True, **options)
    for g, want in zip(got, (y, hn[0].detach(), cn[0].detach())):
        near(g, want, 1e-4)
    near(mil("lstm", **options)[0], hn.detach(), 1e-4)


def test_lstm_peepholes_and_clip_by_hand():
    one = np.ones((1, 1), np.float32)
    got = mil(
        "lstm", x=one[None], initial_h=0 * one, initial_c=2 * one, weight_ih=np.zeros((4, 1), np.float32),
        weight_hh=np.zeros((4, 1), np.float32), bias=np.array([0, 0, 0, 1], np.float32),
        peephole=np.array([1, 2, 3], np.float32), clip=1.5,
    )  # fmt: skip
    s = lambda v: 1 / (1 + np.exp(-v))
    c = min(1.5, s(4) * 2 + s(2) * np.tanh(1))  # gates of the old cell: i sees 2, f sees 4
    near(got[2], [[c]])
    near(got[1], [[s(3 * c) * np.tanh(c)]])  # the output gate sees the new cell


def test_gru_resets_before_the_product_unless_asked():
    layer = torch.nn.GRU(5, 4)
    x, h = normal(6, 2, 5), normal(2, 4)
    order = [0, 2, 1]  # PyTorch r z n, MIL r o z
    w, u, bi, bh = (
        np.concatenate([np.split(p.detach().numpy(), 3)[i] for i in order])
        for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    )
    want, last = layer(torch.tensor(x), torch.tensor(h)[None])
    options = dict(x=x, initial_h=h, weight_ih=w, weight_hh=u, output_sequence=True)
    got = mil("gru", bias=bh, input_bias=bi, reset_after=True, **options)
    near(got[0], want.detach(), 1e-4)
    near(got[1], last[0].detach(), 1e-4)
    # By hand, one step: W x + b + U (r h).
    s = lambda v: 1 / (1 + np.exp(-v))
    (wr, wo, wz), (ur, uo, uz), (br, bo, bz) = np.split(w, 3), np.split(u, 3), np.split(bi, 3)
    r, z = s(x[0] @ wr.T + h @ ur.T + br), s(x[0] @ wz.T + h @ uz.T + bz)
    o = np.tanh(x[0] @ wo.T + bo + (r * h) @ uo.T)
    near(mil("gru", bias=bi, **{**options, "x": x[:1]})[1], (1 - z) * o + z * h, 1e-4)


def test_rnn_backward():
    x, h, w, u, b = normal(4, 2, 3), normal(2, 5), normal(5, 3), normal(5, 5), normal(5)
    y, last = mil("rnn", x=x, initial_h=h, weight_ih=w, weight_hh=u, bias=b, direction="reverse", output_sequence=True)
    want = h
    for step, t in enumerate((3, 2, 1, 0)):
        want = np.tanh(x[t] @ w.T + want @ u.T + b)
        near(y[step], want, 1e-4)
    near(last, y[3])


def test_epsilons_are_added():
    x = np.array([1e-4, 0.5], np.float32)
    near(mil("inverse", x=x), 1 / (x + 1e-4))
    near(mil("inverse", x=x, epsilon=np.float32(0.5)), 1 / (x + 0.5))
    near(mil("rsqrt", x=x, epsilon=np.float32(0.25)), 1 / np.sqrt(x + 0.25))
    near(mil("log", x=x, epsilon=np.float32(1e-3)), np.log(x + 1e-3))


def test_integers_divide_towards_what_their_op_says():
    x, y = np.array([-7, 7, -8], np.int32), np.array([2, -2, 2], np.int32)
    assert mil("floor_div", x=x, y=y).tolist() == [-4, -4, -4]
    assert mil("real_div", x=x, y=y).tolist() == [-3, -3, -4]
    assert mil("mod", x=x, y=y).tolist() == [1, -1, 0]
    assert mil("round", x=np.array([0.5, 1.5, -0.5], np.float32)).tolist() == [0, 2, 0]
    assert mil("cast", x=np.array([-1.9, 2.9], np.float32), dtype="int32").tolist() == [-1, 2]


def test_slices():
    x = np.arange(60).reshape(3, 4, 5)
    got = mil(
        "slice_by_index", x=x, begin=[2, 9, -3], end=[9, 9, -1], stride=[1, 2, 1], begin_mask=[False, True, False],
        end_mask=[False, True, False], squeeze_mask=[True, False, False],
    )  # fmt: skip
    assert (got == x[2, ::2, -3:-1]).all()
    assert (mil("slice_by_size", x=x, begin=[0, 1, -2], size=[2, -1, 1]) == x[:2, 1:, 3:4]).all()
    new = -np.ones((3, 2, 5), int)
    got = mil("slice_update", x=x, update=new, begin=[0, 1, 0], end=[3, 3, 5])
    assert (got[:, 1:3] == -1).all() and (got[:, [0, 3]] == x[:, [0, 3]]).all()
    with pytest.raises(Refused):
        mil("slice_by_size", x=x, begin=[0, 0, 4], size=[1, 1, 2])


def test_gathers():
    x = normal(2, 4, 3)
    at = np.array([[3, 0], [1, 1]], np.int32)
    near(mil("gather", x=x, indices=at, axis=1), x[:, at])
    near(mil("gather", x=x, indices=at, axis=1, batch_dims=1), np.stack([x[0, [3, 0]], x[1, [1, 1]]]))
    near(mil("gather_nd", x=x, indices=np.array([[1, 2], [0, 3]])), x[[1, 0], [2, 3]])
    near(mil("gather_nd", x=x, indices=at[..., None], batch_dims=1), np.stack([x[0, [3, 0]], x[1, [1, 1]]]))
    along = RNG.integers(0, 4, (2, 6, 3))
    near(mil("gather_along_axis", x=x, indices=along, axis=1), np.take_along_axis(x, along, 1))
    near(mil("gather", 16, x=x, indices=np.array([-1]), axis=1), x[:, [-1]])
    for indices in ([4], [-1]):  # negative ones are out of bounds from iOS 17 on
        with pytest.raises(Refused):
            mil("gather", x=x, indices=np.array(indices), axis=1)


@pytest.mark.parametrize("mode", ["add", "mul", "max", "min", "sub", "update", "div"])
def test_scatters(mode):
    data, updates = normal(5, 3) + 3, normal(4, 3) + 3
    at = np.array([1, 4, 1, 0])
    want = data.copy()
    fold = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "sub": np.subtract}
    for i, row in zip(at, updates):  # in order: an index met twice counts twice
        want[i] = row if mode == "update" else want[i] / row if mode == "div" else fold[mode](want[i], row)
    near(mil("scatter", data=data, indices=at, updates=updates, mode=mode, axis=0), want)
    near(mil("scatter_nd", data=data, indices=at[:, None], updates=updates, mode=mode), want)
    everywhere = np.broadcast_to(at[:, None], (4, 3)).copy()
    near(mil("scatter_along_axis", data=data, indices=everywhere, updates=updates, mode=mode, axis=0), want)


def test_shapes():
    x = np.arange(24).reshape(2, 3, 4)
    assert mil("reshape", 15, x=x, shape=np.array([0, -1, 2])).shape == (2, 6, 2)
    assert mil("reshape", 17, x=x[0], shape=np.array([1, 0, -1, 0])).shape == (1, 1, 3, 4)
    with pytest.raises(Refused):
        mil("reshape", 16, x=x, shape=np.array([0, -1]))
    like = mil("reshape_like", x=x, ref_tensors=(np.zeros((4, 9)), np.zeros((5, 6, 1))), begins=(0, 1), ends=(1, 0),
               end_masks=(False, True))  # fmt: skip
    assert like.shape == (4, 6, 1)
    assert mil("expand_dims", x=x, axes=[0, -1]).shape == (1, 2, 3, 4, 1)
    assert mil("squeeze", x=x[:1], axes=[0, 1]).shape == (3, 4)
    assert mil("concat", values=(x, x), axis=-1, interleave=True)[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    a, b = mil("split", x=x, axis=2, split_sizes=np.array([1, 3]))
    assert (a == x[..., :1]).all() and (b == x[..., 1:]).all()
    assert mil("flatten2d", x=x, axis=-1).shape == (6, 4)
    assert mil("sliding_windows", x=x, axis=1, size=2, stride=1)[1, 1].tolist() == x[1, 1:].tolist()
    y = mil("reverse_sequence", x=x, lengths=[2, 3], seq_axis=1, batch_axis=0)
    assert (y[0] == x[0, [1, 0, 2]]).all() and (y[1] == x[1, ::-1]).all()
    assert mil("pad", x=x[0, :1], pad=np.array([2, 3]), mode="reflect").tolist() == [[2, 1, 0, 1, 2, 3, 2, 1, 0]]
    with pytest.raises(Refused):
        mil("pad", x=x, pad=np.array([4, 0]), mode="reflect")
    p = normal(1, 8, 2, 3)
    near(mil("pixel_shuffle", x=p, upscale_factor=2), F.pixel_shuffle(torch.tensor(p), 2))
    near(mil("pixel_unshuffle", x=mil("pixel_shuffle", x=p, upscale_factor=2), downscale_factor=2), p)
    near(mil("depth_to_space", x=mil("space_to_depth", x=p[:, :, :, :2], block_size=2), block_size=2), p[..., :2])


def test_ranges_bands_and_counts():
    x = np.arange(20).reshape(4, 5) + 1
    assert (mil("band_part", x=x, lower=1, upper=0) == np.tril(x) - np.tril(x, -2)).all()
    assert mil("range_1d", start=np.int32(3), end=np.int32(11), step=np.int32(3)).tolist() == [3, 6, 9]
    assert mil("range_1d", start=np.float32(0), end=np.float32(1), step=np.float32(0.25)).tolist() == [
        0,
        0.25,
        0.5,
        0.75,
    ]
    assert mil("cumsum", x=x[:, 0], axis=0, exclusive=True).tolist() == [0, 1, 7, 18]
    assert mil("cumsum", x=x[:, 0], axis=0, reverse=True).tolist() == [34, 33, 27, 16]
    hot = mil("one_hot", indices=np.array([2, 0]), one_hot_vector_size=3, axis=0, on_value=5, off_value=-1)
    assert hot.tolist() == [[-1, 5], [-1, -1], [5, -1]]
    values, indices = mil("topk", x=np.array([3, 1, 3, 2]), k=3, axis=0, ascending=False)
    assert values.tolist() == [3, 3, 2] and indices.tolist() == [0, 2, 3]
    assert mil("topk", x=np.array([3, 1, 3, 2]), k=2, ascending=True)[1].tolist() == [1, 3]
    assert mil("non_zero", x=np.array([[0, 2], [3, 0]])).tolist() == [[0, 1], [1, 0]]
    assert mil("argsort", x=np.array([2, 1, 2]), ascending=False).tolist() == [0, 2, 1]


def test_norms():
    x = normal(2, 3, 4, 5)
    near(mil("l2_norm", x=x, epsilon=0.5), x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 0.5))
    g, b = normal(3, 5), normal(3, 5)
    centred = (x - x.mean((1, 3), keepdims=True)) / np.sqrt(x.var((1, 3), keepdims=True) + 0.1)
    want = centred * g[:, None] + b[:, None]
    near(mil("layer_norm", x=x, axes=[1, 3], gamma=g, beta=b, epsilon=0.1), want, 1e-4)
    near(mil("reduce_log_sum_exp", x=x * 50, axes=[1]), torch.logsumexp(torch.tensor(x * 50), 1), 1e-4)
    near(mil("reduce_l2_norm", x=x, keep_dims=True), np.sqrt((x**2).sum()).reshape(1, 1, 1, 1))
    assert mil("reduce_mean", x=np.array([1, 2, 4], np.int32)).tolist() == 2


def test_attention_masks():
    q, k, v = normal(1, 2, 4, 8), normal(1, 2, 6, 8), normal(1, 2, 6, 3)
    keep = RNG.random((4, 6)) > 0.4
    keep[:, 0] = True
    t = [torch.tensor(a) for a in (q, k, v)]
    want = F.scaled_dot_product_attention(*t, attn_mask=torch.tensor(keep))
    near(mil("scaled_dot_product_attention", query=q, key=k, value=v, attn_mask=keep), want, 1e-4)
    bias = normal(1, 1, 4, 6)
    want = F.scaled_dot_product_attention(*t, attn_mask=torch.tensor(bias))
    near(mil("scaled_dot_product_attention", query=q, key=k, value=v, attn_mask=bias), want, 1e-4)


@pytest.mark.parametrize("corners", [True, False])
def test_resizing(corners):
    x = normal(1, 2, 4, 5)
    want = F.interpolate(torch.tensor(x), size=(8, 15), mode="bilinear", align_corners=corners)
    got = mil("upsample_bilinear", x=x, scale_factor_height=2, scale_factor_width=3.0, align_corners=corners)
    near(got, want, 1e-4)
    mode = "STRICT_ALIGN_CORNERS" if corners else "UNALIGN_CORNERS"
    near(mil("resize_bilinear", x=x, target_size_height=8, target_size_width=15, sampling_mode=mode), want, 1e-4)
    kept = mil("resize", x=x, shape=np.array([0, 15]), resized_dims=2, sampling_mode=mode)
    near(kept, mil("resize_bilinear", x=x, target_size_height=4, target_size_width=15, sampling_mode=mode))
    nearest = mil("upsample_nearest_neighbor", x=x, scale_factor_height=2, scale_factor_width=3)
    near(nearest, F.interpolate(torch.tensor(x), scale_factor=(2, 3), mode="nearest"))


def test_quantized_values():
    x = np.array([[-10.0, 0.125, 0.375], [0.9, 40.0, 1.25]], np.float32)
    q = mil("quantize", input=x, scale=np.float32(0.25), output_dtype="int8", zero_point=np.int8(3))
    assert q.tolist() == [[-37, 3, 5], [7, 127, 8]]  # halves to even, ends clipped
    near(mil("dequantize", input=q, scale=np.float32(0.25), zero_point=np.int8(3)), (q.astype(int) - 3) * 0.25)
    each = mil("quantize", input=x, scale=np.array([1, 2], np.float32), output_dtype="uint8", axis=0)
    assert each.tolist() == [[0, 0, 0], [0, 20, 1]]


def test_weights_that_are_unpacked():
    indices = np.array([0b11_00_01_10, 0b01], np.uint8)
    table = np.array([1, 2, 4, 8], np.float16)
    got = mil("constexpr_lut_to_dense", 16, indices=indices, lut=table, shape=np.array([5]))
    assert got.tolist() == [4, 2, 1, 8, 2]
    values, mask = np.array([5, 6], np.int8), np.array([0b1010], np.uint8)
    got = mil("constexpr_sparse_to_dense", 16, nonzero_data=values, mask=mask, shape=np.array([2, 2]))
    assert got.tolist() == [[0, 5], [0, 6]]
    lut = np.array([1, 2, 3, 4, -1, -2, -3, -4], np.float16).reshape(2, 1, 2, 2)
    got = mil("constexpr_lut_to_dense", indices=np.array([[0, 1], [1, 0]], np.uint8), lut=lut, vector_axis=1)
    assert got.tolist() == [[1, 2, 3, 4], [-3, -4, -1, -2]]
    mask = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)
    scale, offset = np.array([[0.5], [2]], np.float16), np.array([[1], [-1]], np.int8)
    _, values = mil("constexpr_sparse_blockwise_shift_scale", data_mask=mask, nonzero_data=np.array([3, 5, 7], np.int8),
                    scale=scale, offset=offset)  # fmt: skip
    assert values.tolist() == [1, 2, 16]


def test_lists():
    ls = mil("make_list", elem_shape=(np.int32(2),), init_length=2, dtype="fp32")[0]
    more = mil("list_write", ls=ls, index=3, value=normal(2))[0]
    assert len(ls) == 2 and mil("list_length", ls=more) == 4
    assert mil("list_gather", ls=more, indices=[0, 2]).tolist() == [[0, 0], [0, 0]]
    fixed = mil("make_list", elem_shape=(2,), init_length=2, dynamic_length=False)[0]
    with pytest.raises(Refused):
        mil("list_write", ls=fixed, index=2, value=normal(2))
