"""Rewrites that change the meaning: each is what its definition says, at every length, and sees no further.

The references are written down directly in numpy or PyTorch, frame by frame; outputs are compared in float64.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from rewriting import LENGTHS, assert_close, assert_streams, feeds_of, filled, rewritten, support, value_of
from speechc.compiler.manager import evaluate64
from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.text import parse_module

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits" / "model.py"

# -- limit-attention -----------------------------------------------------------------------------------------------
ATTENTION = """speechc 1
graph main(%q: f32[1, 2, T@audio, 4], %k: f32[1, 2, T@audio, 4], %v: f32[1, 2, T@audio, 4]) {
  %0 = attention(%q, %k, %v, none, scale=0.5, causal=false) : f32[1, 2, T@audio, 4] @"net.attention" Attention net.py:1
  return %0 as "y"
}
"""
SPELLED = """speechc 1
graph main(%q: f32[1, 2, T@audio, 4], %k: f32[1, 2, T@audio, 4], %v: f32[1, 2, T@audio, 4]) {
  %0 = transpose(%k, perm=[0, 1, 3, 2]) : f32[1, 2, 4, T@audio] @"net.attention" Attention net.py:1
  %1 = matmul(%q, %0) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %2 = mul(%1, f32(0.5)) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %3 = softmax(%2, axis=3) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %4 = matmul(%3, %v) : f32[1, 2, T@audio, 4] @"net.attention" Attention net.py:1
  return %4 as "y"
}
"""
KEYS_FIRST = """speechc 1
graph main(%q: f32[1, 2, T@audio, 4], %k: f32[1, 2, T@audio, 4], %v: f32[1, 2, T@audio, 4]) {
  %0 = transpose(%q, perm=[0, 1, 3, 2]) : f32[1, 2, 4, T@audio] @"net.attention" Attention net.py:1
  %1 = matmul(%k, %0) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %2 = mul(%1, f32(0.5)) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %3 = transpose(%2, perm=[0, 2, 1, 3]) : f32[1, T@audio, 2, T@audio] @"net.attention" Attention net.py:1
  %4 = softmax(%3, axis=1) : f32[1, T@audio, 2, T@audio] @"net.attention" Attention net.py:1
  %5 = transpose(%4, perm=[0, 2, 3, 1]) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %6 = matmul(%5, %v) : f32[1, 2, T@audio, 4] @"net.attention" Attention net.py:1
  return %6 as "y"
}
"""
BANDS = [
    ("limit-attention{chunk=4, left=8}", lambda i, j: -8 <= j // 4 * 4 - i // 4 * 4 <= 0),
    ("limit-attention{chunk=4}", lambda i, j: j // 4 <= i // 4),
    ("limit-attention{chunk=3, left=3, right=6}", lambda i, j: -1 <= j // 3 - i // 3 <= 2),
    ("limit-attention{window=True, left=5, right=2}", lambda i, j: -5 <= j - i <= 2),
    ("limit-attention{window=True}", lambda i, j: j <= i),
    ("limit-attention{only_left=True, left=6}", lambda i, j: j >= i - 6),
]


def attended(feeds, band):
    q, k, v = (feeds[n].astype(np.float64) for n in "qkv")
    scores = 0.5 * q @ np.swapaxes(k, -1, -2)
    n = scores.shape[-1]
    sees = np.array([[band(i, j) for j in range(n)] for i in range(n)])
    weights = np.where(sees, np.exp(scores), 0)
    return weights / weights.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("source", [ATTENTION, SPELLED, KEYS_FIRST], ids=["op", "spelled", "keys first"])
@pytest.mark.parametrize("text, band", BANDS, ids=[t for t, _ in BANDS])
def test_attention_sees_its_band(text, band, source):
    module, remarks = rewritten(parse_module(source), text)
    assert [r.kind for r in remarks] == ["applied"]
    for length in LENGTHS:
        feeds = feeds_of(module, length)
        assert_close(evaluate64(module, feeds)[0], attended(feeds, band))


def test_attention_sees_no_further_and_no_less():
    module, _ = rewritten(parse_module(ATTENTION), "limit-attention{chunk=4, left=4}")
    sees = support(module, feeds_of(module, 11), "v", 2)
    assert (sees == [[-1 <= j // 4 - i // 4 <= 0 for j in range(11)] for i in range(11)]).all()
    assert support(parse_module(ATTENTION), feeds_of(module, 11), "v", 2).all()


@pytest.mark.parametrize("text, band", BANDS, ids=[t for t, _ in BANDS])
def test_spelled_attention_is_still_recognised(text, band):
    module, _ = rewritten(parse_module(SPELLED), text, "recognise-attention")
    assert [op.kind for op in module.main.ops if op.kind in ("softmax", "attention")] == ["attention"]
    feeds = feeds_of(module, 13)
    assert_close(evaluate64(module, feeds)[0], attended(feeds, band))


@pytest.mark.parametrize("kind", ["bool", "f32"])
def test_a_mask_of_the_model_stays(kind):
    text = ATTENTION.replace("%v: f32[1, 2, T@audio, 4])", f"%v: f32[1, 2, T@audio, 4], %m: {kind}[1, 1, 1, T@audio])")
    before = parse_module(text.replace("none", "%m"))
    after, _ = rewritten(before, "limit-attention{chunk=4, left=4}")
    feeds = feeds_of(before, 11)
    hidden = feeds["m"] > 0.7
    feeds["m"] = ~hidden if kind == "bool" else np.where(hidden, -np.inf, feeds["m"]).astype(np.float32)
    got = evaluate64(after, feeds)[0]
    bias = np.where(hidden, -np.inf, 0 if kind == "bool" else feeds["m"])[0, 0, 0].astype(np.float64)
    q, k, v = (feeds[n].astype(np.float64) for n in "qkv")
    n = 11
    sees = np.array([[-1 <= j // 4 - i // 4 <= 0 for j in range(n)] for i in range(n)])
    weights = np.where(sees, np.exp(0.5 * q @ np.swapaxes(k, -1, -2) + bias), 0)
    total = weights.sum(-1, keepdims=True)
    assert_close(got, weights / np.where(total == 0, 1, total) @ v)


def test_durations_follow_the_rate():
    text = ATTENTION.replace("T@audio", "T@audio(1/4)")
    module, _ = rewritten(parse_module(text), "limit-attention{chunk=16, left=32}")
    assert [op.operands[1].payload for op in module.main.ops if op.kind == "floor_div"] == [4]
    for wrong, hint in [("chunk=6", "a multiple of 4 ticks"), ("chunk=16, left=24", "a multiple of 16 ticks")]:
        with pytest.raises(UnsupportedError, match="SC212") as error:
            rewritten(parse_module(text), f"limit-attention{{{wrong}}}")
        assert "net.attention" in str(error.value) and hint in str(error.value)
    with pytest.raises(UsageError, match="SC020"):
        rewritten(parse_module(text), "limit-attention{chunk=0}")


# -- conv-context --------------------------------------------------------------------------------------------------
def spoken_digits():
    spec = importlib.util.spec_from_file_location("digits_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("chunk, left", [(16, 64), (4, 0), (8, -1)])
@pytest.mark.slow
def test_the_digits_model_by_chunk(chunk, left):
    """The rewrites of the plain model are what the model itself computes by chunk."""
    import torch
    from speechc.compiler.capture import capture

    torch.manual_seed(0)
    model = spoken_digits().Digits(mels=16, size=16, hidden=8, blocks=2).eval()
    for p in model.buffers():
        if p.is_floating_point() and p.dim() == 1 and p.shape[0] == 16:
            p.data.uniform_(0.5, 1.5)
    module = capture(model, {"audio": torch.randn(1, 8000)}, 1)
    limit = f"limit-attention{{chunk={320 * chunk}, left={left if left < 0 else 320 * left}}}"
    after, remarks = rewritten(
        module, "simplify", "fold-pad", limit, f"conv-context{{mode='chunk', chunk={320 * chunk}}}"
    )
    assert sum(r.kind == "applied" for r in remarks) == 4
    folded, _ = rewritten(after, "fuse-conv-bn")
    assert not any(op.kind == "batch_norm" for op in folded.main.ops)
    for frames in (2, 5, 16, 33, 100):
        audio = 0.1 * torch.randn(1, 320 * frames + 37)
        with torch.no_grad():
            want = model.double()(audio.double(), chunk=chunk, left=left).numpy()
            plain = model(audio.double()).numpy()
        model.float()
        for graph in (after, folded):
            assert_close(evaluate64(graph, {"audio": audio.numpy()})[0], want, 1e-5)
        assert frames <= chunk or np.abs(plain - want).max() > 1e-3, "the rewrite changes nothing here"


LOC = '@"net.conv" Conv1d net.py:1'


def conv_text(taps=5, dilation=1, groups=1, pad=(2, 2), last=False, crop=0):
    shape = "f32[1, T@audio, 4]" if last else "f32[1, 4, T@audio]"
    longer = sum(pad) - (taps - 1) * dilation
    n = "T" if not longer else f"(T+{longer})"
    made = f"f32[1, {n}@audio, 4]" if last else f"f32[1, 4, {n}@audio]"
    text = f"""speechc 1
graph main(%x: {shape}) {{
  weight $w: f32[4, {4 // groups}, {taps}] #?
  weight $b: f32[4] #?
  %0 = conv(%x, $w, $b, stride=[1], dilation=[{dilation}], pad=[[{pad[0]}, {pad[1]}]], groups={groups}, \
channel_last={str(last).lower()}) : {made} {LOC}
"""
    if crop:
        text += f"  %1 = slice(%0, axis={1 if last else 2}, start=0, stop=T, step=1) : {shape} {LOC}\n"
    return text + f'  return %{int(crop > 0)} as "y"\n}}\n'


def convolved(module, x, left, dilation=1, groups=1, chunk=None):
    """Frame by frame: x [4, T]; tap k of frame t sees frame t - left + k * dilation, if it is there (in the chunk)."""
    w, b = value_of(module, "w"), value_of(module, "b")
    y = np.repeat(b[:, None], x.shape[1], 1)
    per = 4 // groups
    for t in range(x.shape[1]):
        end = x.shape[1] if chunk is None else min(x.shape[1], t // chunk * chunk + chunk)
        for k in range(w.shape[2]):
            at = t - left + k * dilation
            if 0 <= at < end:
                for o in range(4):
                    group = o // per
                    y[o, t] += w[o, :, k] @ x[group * per : group * per + per, at]
    return y


CONVS = [
    {},
    {"groups": 4},
    {"last": True, "groups": 2},
    {"taps": 3, "dilation": 3, "pad": (3, 3)},
    {"pad": (1, 3)},
    {"taps": 4, "pad": (2, 2), "crop": 1},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("mode", ["causal", "chunk"])
def test_convolutions_see_less(mode, options):
    module = filled(conv_text(**options))
    after, remarks = rewritten(module, f"conv-context{{mode='{mode}', chunk=4}}")
    assert [r.kind for r in remarks] == ["applied"], remarks
    taps, dilation, pad = options.get("taps", 5), options.get("dilation", 1), options.get("pad", (2, 2))
    reach = (taps - 1) * dilation
    left = reach if mode == "causal" else pad[0]
    more = {"dilation": dilation, "groups": options.get("groups", 1), "chunk": 4 if mode == "chunk" else None}
    for length in LENGTHS:
        feeds = feeds_of(module, length)
        x = feeds["x"][0].astype(np.float64)
        want = convolved(module, x.T if options.get("last") else x, left, **more)
        assert_close(evaluate64(after, feeds)[0][0], want.T if options.get("last") else want)
    axis = 1 if options.get("last") else 2
    sees = support(after, feeds_of(module, 13), "x", axis)
    assert support(module, feeds_of(module, 13), "x", axis)[0, 1:].any(), "the model sees no future to begin with"
    for i, j in np.argwhere(sees):
        assert j <= i if mode == "causal" else j // 4 <= i // 4


WINDOWS = {  # op: (its line, pads, reach), f32[1, 2, T] to f32[1, 2, ⌈T / stride⌉]
    "max_pool": ("max_pool(%x, kernel=[3], stride=[1], pad=[[1, 1]], dilation=[1])", "T"),
    "avg_pool": ("avg_pool(%x, kernel=[3], stride=[2], pad=[[1, 1]], count_pad=false)", "((T-1)//2+1)@audio(1/2)"),
    "strided": ("conv(%x, $w, none, stride=[2], pad=[[1, 1]], dilation=[1])", "((T-1)//2+1)@audio(1/2)"),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_other_windows_become_causal(name):
    line, size = WINDOWS[name]
    size = size if "@" in size else f"{size}@audio"
    text = f"""speechc 1
graph main(%x: f32[1, 2, T@audio]) {{
  weight $w: f32[2, 2, 3] #?
  %0 = {line} : f32[1, 2, {size}] {LOC}
  return %0 as "y"
}}
"""
    module = filled(text)
    after, _ = rewritten(module, "conv-context")
    stride = 2 if "/2" in size else 1
    for length in LENGTHS:
        feeds = feeds_of(module, length)
        x = np.pad(feeds["x"][0].astype(np.float64), ((0, 0), (2, 0)), constant_values=np.nan)
        seen = [x[:, t : t + 3] for t in range(0, length, stride)]
        if name == "max_pool":
            want = [np.nanmax(s, 1) for s in seen]
        elif name == "avg_pool":
            want = [np.nanmean(s, 1) for s in seen]
        else:
            want = [np.tensordot(value_of(module, "w"), np.nan_to_num(s)) for s in seen]
        assert_close(evaluate64(after, feeds)[0][0], np.stack(want, 1))
    kept, remarks = rewritten(module, "conv-context{mode='chunk', chunk=4}")
    assert str(kept) == str(module) and [r.kind for r in remarks] == ["missed"]


FRONT = """speechc 1
graph main(%x: f32[1, T@audio]) {{
  %0 = pad(%x, pads=[[0, 0], [4, 4]], mode="{mode}", value=0.0) : f32[1, (T+8)@audio] @"net.stft" STFT net.py:1
  %1 = frame(%0, size=8, hop=2) : f32[1, (T//2+1)@audio(1/2), 8] @"net.stft" STFT net.py:1
  return %1 as "y"
}}
"""


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_centred_frames_move_when_asked(mode):
    module = filled(FRONT.format(mode=mode))
    kept, remarks = rewritten(module, "conv-context")
    assert str(kept) == str(module) and "frames" in remarks[0].message
    after, _ = rewritten(module, "conv-context{frames=True}")
    for length in (5, 6, 21):
        feeds = feeds_of(module, length)
        x = np.pad(feeds["x"][0], (8, 0), mode="edge" if mode == "edge" else "constant")
        want = np.stack([x[t : t + 8] for t in range(0, length + 1, 2)])
        assert_close(evaluate64(after, feeds)[0][0], want)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_padding_in_front_of_a_convolution_moves(mode):
    text = conv_text(pad=(0, 0)).replace("(T+-4)", "T").replace("conv(%x", "conv(%0").replace("%0 =", "%1 =")
    pad = f'  %0 = pad(%x, pads=[[0, 0], [0, 0], [2, 2]], mode="{mode}", value=0.0) : f32[1, 4, (T+4)@audio] {LOC}\n'
    text = text.replace("  %1 =", pad + "  %1 =").replace("return %0", "return %1")
    module = filled(text)
    after, _ = rewritten(module, "conv-context")
    feeds = feeds_of(module, 9)
    x = np.pad(feeds["x"][0].astype(np.float64), ((0, 0), (4, 0)), mode="edge" if mode == "edge" else "constant")
    assert_close(evaluate64(after, feeds)[0][0], convolved(module, x, 0)[:, :9])


def test_a_crop_that_makes_a_convolution_causal_is_left_alone():
    """A TCN's own causality: 2 (K - 1) frames of padding, K - 1 cropped at the end."""
    text = conv_text(pad=(4, 4), crop=4)
    kept, remarks = rewritten(filled(text), "conv-context")
    assert str(kept) == str(filled(text)) and not remarks
    kept, remarks = rewritten(filled(conv_text(pad=(4, 4))), "conv-context")
    assert str(kept) == str(filled(conv_text(pad=(4, 4)))) and "window of 5 frames" in remarks[0].message


def test_transposed_convolutions_crop_at_the_end():
    text = f"""speechc 1
graph main(%x: f32[1, 2, T@audio]) {{
  weight $w: f32[2, 3, 4] #?
  %0 = conv_transpose(%x, $w, none, stride=[2], pad=[[1, 1]]) : f32[1, 3, (2*T)@audio(2)] {LOC}
  return %0 as "y"
}}
"""
    module = filled(text)
    after, _ = rewritten(module, "conv-context")
    feeds = feeds_of(module, 7)
    whole = np.zeros((3, 16))
    for i in range(7):
        whole[:, 2 * i : 2 * i + 4] += np.tensordot(feeds["x"][0, :, i].astype(np.float64), value_of(module, "w"), 1)
    assert_close(evaluate64(after, feeds)[0][0], whole[:, :14])


def test_a_chunk_is_a_whole_number_of_frames():
    text = conv_text().replace("T@audio", "T@audio(1/4)")
    with pytest.raises(UnsupportedError, match="SC212") as error:
        rewritten(filled(text), "conv-context{mode='chunk', chunk=6}")
    assert "a multiple of 4 ticks" in str(error.value) and "net.conv" in str(error.value)


@pytest.mark.parametrize("source", [ATTENTION, SPELLED], ids=["op", "spelled"])
@pytest.mark.parametrize("text", [t for t, _ in BANDS if "left=" in t and "only" not in t])
def test_limited_attention_streams(text, source):
    assert_streams(parse_module(source), text, chunk=4)


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("mode", ["causal", "chunk"])
def test_convolutions_stream(mode, options):
    assert_streams(filled(conv_text(**options)), f"conv-context{{mode='{mode}', chunk=4}}", chunk=8)
