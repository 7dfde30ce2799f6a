"""Attention in the forms that PyTorch gives it."""

from __future__ import annotations

import math

from ....ir.graph import Value
from ..table import Context, aten


@aten("scaled_dot_product_attention")
def _(c, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False):
    return attention(c, q, k, v, attn_mask, is_causal, scale)


@aten("_scaled_dot_product_flash_attention_for_cpu")
def _(c, q, k, v, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None):
    return attention(c, q, k, v, attn_mask, is_causal, scale), None


@aten("_scaled_dot_product_attention_math", "_scaled_dot_product_fused_attention_overrideable")
def _(c, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, *_, scale=None, **__):
    return attention(c, q, k, v, attn_mask, is_causal, scale), None


def attention(c: Context, q: Value, k: Value, v: Value, mask: Value | None, causal: bool, scale: float | None) -> Value:
    """`torch.nn.functional.scaled_dot_product_attention`; without heads, a head of size 1 is put in."""
    scale = 1 / math.sqrt(q.type.sizes[-1]) if scale is None else scale
    if mask is not None and mask.type.dtype not in ("bool", q.type.dtype):
        mask = c.cast(mask, q.type.dtype)
    if q.type.rank > 2:
        return c.b.attention(q, k, v, mask, scale=float(scale), causal=bool(causal))
    y = c.b.attention(*(c.unsqueezed(x, 0) for x in (q, k, v)), mask, scale=float(scale), causal=bool(causal))
    return c.reshape(y, y.type.sizes[1:])


def self_attention(c: Context, x: Value, heads: int, qkv, out, mask: Value | None) -> Value:
    """Self-attention of x [B, T, C] with packed projections qkv = (w [3C, C], b) and out = (w, b)."""
    batch, time, size = x.type.sizes
    packed = c.b.linear(x, *qkv)
    q, k, v = (
        c.swapped(
            c.reshape(c.part(packed, 2, i * size, (i + 1) * size), (batch, time, heads, size // heads)), 1, 2
        )
        for i in range(3)
    )  # fmt: skip
    y = c.swapped(attention(c, q, k, v, mask, False, None), 1, 2)
    return c.b.linear(c.reshape(y, (batch, time, size)), *out)


def _visible(c: Context, mask: Value | None, mask_type) -> Value | None:
    """PyTorch's fused layers mark what is hidden; attention here marks what is seen. 0: [T, T], 1: [B, T], 2: 4-D."""
    if mask is None:
        return None
    if mask.type.rank == 2 and mask_type == 1:
        mask = c.reshape(mask, (mask.type.sizes[0], 1, 1, mask.type.sizes[1]))
    return c.b.logical_not(mask) if mask.type.dtype == "bool" else mask


@aten("_transformer_encoder_layer_fwd")
def _(
    c, x, embed_dim, num_heads, qkv_w, qkv_b, proj_w, proj_b, use_gelu, norm_first, eps,
    norm1_w, norm1_b, norm2_w, norm2_b, ffn1_w, ffn1_b, ffn2_w, ffn2_b, mask=None, mask_type=None,
):  # fmt: skip
    mask = _visible(c, mask, mask_type)

    def attend(x):
        return self_attention(c, x, num_heads, (qkv_w, qkv_b), (proj_w, proj_b), mask)

    def feed(x):
        y = c.b.linear(x, ffn1_w, ffn1_b)
        return c.b.linear(c.b.gelu(y) if use_gelu else c.b.relu(y), ffn2_w, ffn2_b)

    def norm(x, w, b):
        return c.b.layer_norm(x, w, b, axis=2, eps=eps)

    if norm_first:
        x = c.b.add(x, attend(norm(x, norm1_w, norm1_b)))
        return c.b.add(x, feed(norm(x, norm2_w, norm2_b)))
    x = norm(c.b.add(x, attend(x)), norm1_w, norm1_b)
    return norm(c.b.add(x, feed(x)), norm2_w, norm2_b)


@aten("_native_multi_head_attention")
def _(
    c, q, k, v, embed_dim, num_head, qkv_w, qkv_b, proj_w, proj_b, mask=None, need_weights=True,
    average_attn_weights=True, mask_type=None,
):  # fmt: skip
    if q is not k or k is not v:
        raise c.no("attends to other inputs", "call torch.backends.mha.set_fastpath_enabled(False) before exporting")
    if need_weights and any("getitem" in str(u.target) and u.args[1] == 1 for u in c.node.users):
        raise c.no("its weights are used", "call torch.backends.mha.set_fastpath_enabled(False) before exporting")
    return self_attention(c, q, num_head, (qkv_w, qkv_b), (proj_w, proj_b), _visible(c, mask, mask_type)), None
