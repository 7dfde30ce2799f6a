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
