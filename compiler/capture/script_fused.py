"""The fused attention layers that a trace of `nn.TransformerEncoder` holds, in terms of plain operators."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(
    query: Tensor, key: Tensor, value: Tensor, size: int, heads: int, qkv_weight: Tensor, qkv_bias: Tensor,
    out_weight: Tensor, out_bias: Tensor, mask: Tensor | None = None, need_weights: bool = True,
    average: bool = True, mask_type: int | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`aten::_native_multi_head_attention`: inputs [B, T, size]; the mask is not zero where a key is hidden.

    `mask_type`: 0 [T, S], 1 [B, S], 2 [B, heads, T, S].
    """
    weights, biases = qkv_weight.chunk(3), qkv_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).unflatten(-1, (heads, size // heads)).transpose(1, 2)
        for x, w, b in zip((query, key, value), weights, biases)
    )
    hidden = None if mask is None else mask.to(torch.bool)
    if hidden is not None and mask_type == 1:
        hidden = hidden[:, None, None, :]
    if not need_weights:
        mixed = F.scaled_dot_product_attention(q, k, v, None if hidden is None else ~hidden)
        return F.linear(mixed.transpose(1, 2).flatten(2), out_weight, out_bias), None
    scores = q @ k.transpose(-1, -2) / math.sqrt(size // heads)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    scores = scores.softmax(-1)
    mixed = F.linear((scores @ v).transpose(1, 2).flatten(2), out_weight, out_bias)
    return mixed, scores.mean(1) if average else scores


def encoder_layer(
    x: Tensor, size: int, heads: int, qkv_weight: Tensor, qkv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
    gelu: bool, norm_first: bool, eps: float, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
    expand_weight: Tensor, expand_bias: Tensor, contract_weight: Tensor, contract_bias: Tensor,
    mask: Tensor | None = None, mask_type: int | None = None,
) -> Tensor:  # fmt: skip
    """`aten::_transformer_encoder_layer_fwd`: one layer of `nn.TransformerEncoder` in evaluation mode."""

    def attend(y: Tensor) -> Tensor:
        shared = (size, heads, qkv_weight, qkv_bias, out_weight, out_bias, mask, False, False, mask_type)
        return attention(y, y, y, *shared)[0]

    def feed(y: Tensor) -> Tensor:
        y = F.linear(y, expand_weight, expand_bias)
        return F.linear(F.gelu(y) if gelu else F.relu(y), contract_weight, contract_bias)

    def first(y: Tensor) -> Tensor:
        return F.layer_norm(y, (size,), weight1, bias1, eps)

    def second(y: Tensor) -> Tensor:
        return F.layer_norm(y, (size,), weight2, bias2, eps)

    if norm_first:
        x = x + attend(first(x))
        return x + feed(second(x))
    x = first(x + attend(x))
    return second(x + feed(x))
