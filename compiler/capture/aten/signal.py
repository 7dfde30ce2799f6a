"""Fourier transforms as products with constant matrices: STFT and its inverse, rfft, irfft, fft."""

from __future__ import annotations

import math

import numpy as np

from ....ir.expr import Size
from ....ir.graph import Value
from ....ir.types import DTYPES
from ..table import Complex, Context, on_complex
from .shape import padded


@on_complex("stft")
def _(
    c, x, n_fft, hop_length=None, win_length=None, window=None, normalized=False, onesided=None, return_complex=None,
    align_to_window=None,
):  # fmt: skip
    return _stft(c, x, n_fft, hop_length, win_length, window, normalized, onesided, return_complex)


@on_complex("stft.center")
def _(
    c, x, n_fft, hop_length=None, win_length=None, window=None, center=True, pad_mode="reflect", normalized=False,
    onesided=None, return_complex=None, align_to_window=None,
):  # fmt: skip
    if center:
        x = padded(c, x, (n_fft // 2, n_fft // 2), pad_mode)
    return _stft(c, x, n_fft, hop_length, win_length, window, normalized, onesided, return_complex)


def _stft(c: Context, x: Value, n: int, hop, length, window, normalized, onesided, return_complex):
    """[..., T] -> [..., bins, frames]: frames, each times the window, times the matrices of the transform."""
    hop, length = hop or n // 4, length or n
    bins = n // 2 + 1 if onesided is None or onesided else n
    frames = c.b.frame(x, size=n, hop=hop)
    scale = n**-0.5 if normalized else 1.0
    left = (n - length) // 2
    if window is not None and not window.known:  # a window computed at run time
        frames = c.b.mul(frames, padded(c, window, (left, n - length - left), "constant"))
        window = None

    def part(name: str, wave) -> Value:
        def matrix(*window):
            weights = np.zeros(n)
            weights[left : left + length] = window[0] if window else 1.0
            return (wave(_angles(bins, n)) * weights * scale).astype(DTYPES[x.type.dtype])

        made = _matrix(c, name, matrix, [window] if window is not None else [], (bins, n), x.type.dtype,
                       f"stft {name} {n} {length} {bins} {scale}")  # fmt: skip
        return c.swapped(c.b.linear(frames, made), -1, -2)

    real, imag = part("stft_cos", np.cos), part("stft_sin", lambda a: -np.sin(a))
    if return_complex is None or return_complex:
        return Complex(real, imag)
    return c.concat([c.unsqueezed(v, -1) for v in (real, imag)], real.type.rank)


def _angles(rows: int, columns: int, n: int | None = None) -> np.ndarray:
    """2 pi k m / n for k < rows and m < columns, reduced modulo n first so that large products stay exact."""
    n = n or columns
    return 2 * math.pi * (np.outer(np.arange(rows), np.arange(columns)) % n) / n


def _matrix(c: Context, name: str, compute, sources, shape, dtype: str, recipe: str) -> Value:
    path = c.b.loc.path
    return c.derived(f"{path}.{name}" if path else name, recipe, sources, shape, dtype, compute)


@on_complex("istft")
def _(
    c, x, n_fft, hop_length=None, win_length=None, window=None, center=True, normalized=False, onesided=None,
    length=None, return_complex=False,
):  # fmt: skip
    if return_complex or (window is not None and not window.known):
        raise c.no("gives complex samples, or has a window computed at run time")
    n, hop, size = n_fft, hop_length or n_fft // 4, win_length or n_fft
    bins = n // 2 + 1 if onesided is None or onesided else n
    left, dtype = (n - size) // 2, x.real.type.dtype
    scale = n**0.5 if normalized else 1.0
    sources = [window] if window is not None else []

    def weights(*window):
        w = np.zeros(n)
        w[left : left + size] = window[0] if window else 1.0
        return w

    def inverse(wave, sign):
        fold = _fold(bins, n)
        return lambda *window: (wave(_angles(n, bins, n)) * fold * sign * scale / n * weights(*window)[:, None]).astype(
            DTYPES[dtype]
        )

    tag = f"{n} {size} {bins} {scale}"
    cos = _matrix(c, "istft_cos", inverse(np.cos, 1), sources, (n, bins), dtype, f"istft cos {tag}")
    sin = _matrix(c, "istft_sin", inverse(np.sin, -1), sources, (n, bins), dtype, f"istft sin {tag}")
    frames = c.b.add(c.b.linear(c.swapped(x.real, -1, -2), cos), c.b.linear(c.swapped(x.imag, -1, -2), sin))
    y = c.b.overlap_add(frames, hop=hop)
    squares = c.derived(c.b.loc.path + ".istft_squares", f"istft squares {tag}", sources, (1, n), dtype,
                        lambda *w: (weights(*w)[None] ** 2).astype(DTYPES[dtype]))  # fmt: skip
    envelope = c.b.overlap_add(c.expand(squares, (frames.type.sizes[-2], n)), hop=hop)
    total = y.type.sizes[-1]
    start = n // 2 if center else 0
    stop = start + length if length is not None else total - (n // 2 if center else 0)
    axis = y.type.rank - 1
    return c.b.div(c.part(y, axis, start, stop), c.part(envelope, 0, start, stop))


def _fold(bins: int, n: int) -> np.ndarray:
    """How often each kept bin counts in the inverse: twice, except the first and (for even n) the middle one."""
    if bins == n:
        return np.ones(n)
    fold = np.full(bins, 2.0)
    fold[0] = 1
    if n % 2 == 0:
        fold[-1] = 1
    return fold


_SCALES = {None: (0, -1), "backward": (0, -1), "ortho": (-0.5, -0.5), "forward": (-1, 0)}
_NORMS = {0: 0, 1: -0.5, 2: -1}  # powers of n, of aten's internal transforms


def _last(c: Context, x: Value, axis: int, n) -> tuple[Value, int]:
    """x with `axis` last, cropped or padded to n elements."""
    x = c.swapped(x, axis, -1)
    size: Size = x.type.sizes[-1]
    n = size if n is None else n
    if not isinstance(n, int):
        raise c.no("transforms a dimension whose length varies", "transform frames of a fixed size")
    if n != size:
        x = padded(c, x, (0, n - size), "constant")
    return x, n


def _transform(c: Context, x: Value, name: str, matrix: np.ndarray) -> Value:
    matrix = matrix.astype(DTYPES[x.type.dtype])
    return c.b.linear(x, _matrix(c, name, lambda: matrix, [], matrix.shape, x.type.dtype, f"{name}{matrix.shape}"))


def _forward(c: Context, x, axis: int, n, power: float, onesided: bool) -> Complex:
    real = x.real if isinstance(x, Complex) else x
    real, n = _last(c, real, axis, n)
    bins = n // 2 + 1 if onesided else n
    angles, scale = _angles(bins, n), float(n) ** power
    tag = f"dft{n}_{power}"
    cos, sin = np.cos(angles) * scale, np.sin(angles) * scale
    re, im = _transform(c, real, f"{tag}_cos", cos), _transform(c, real, f"{tag}_minus_sin", -sin)
    if isinstance(x, Complex):
        imag, _ = _last(c, x.imag, axis, n)
        re = c.b.sub(re, _transform(c, imag, f"{tag}_minus_sin", -sin))
        im = c.b.add(im, _transform(c, imag, f"{tag}_cos", cos))
    return Complex(c.swapped(re, axis, -1), c.swapped(im, axis, -1))


def _backward(c: Context, x: Complex, axis: int, n: int | None, power: float) -> Value:
    """The real signal of n samples whose one-sided spectrum is x."""
    n = 2 * (x.real.type.sizes[axis] - 1) if n is None else n
    bins = n // 2 + 1
    real, _ = _last(c, x.real, axis, bins)
    imag, _ = _last(c, x.imag, axis, bins)
    angles, scale = _angles(n, bins, n), _fold(bins, n) * float(n) ** power
    tag = f"idft{n}_{power}"
    y = c.b.add(
        _transform(c, real, f"{tag}_cos", np.cos(angles) * scale),
        _transform(c, imag, f"{tag}_minus_sin", -np.sin(angles) * scale),
    )
    return c.swapped(y, axis, -1)


@on_complex("fft_rfft")
def _(c, x, n=None, dim=-1, norm=None):
    return _forward(c, x, c.axis(x, dim), n, _SCALES[norm][0], True)


@on_complex("fft_irfft")
def _(c, x, n=None, dim=-1, norm=None):
    return _backward(c, x, c.axis(x.real, dim), n, _SCALES[norm][1])


@on_complex("fft_fft")
def _(c, x, n=None, dim=-1, norm=None):
    return _forward(c, x, c.axis(x.real if isinstance(x, Complex) else x, dim), n, _SCALES[norm][0], False)


@on_complex("_fft_r2c")
def _(c, x, dim, normalization, onesided):
    if len(dim) != 1:
        raise c.no("transforms several dimensions at once", "transform one after the other")
    return _forward(c, x, c.axis(x, dim[0]), None, _NORMS[normalization], onesided)


@on_complex("_fft_c2r")
def _(c, x, dim, normalization, last_dim_size):
    if len(dim) != 1:
        raise c.no("transforms several dimensions at once", "transform one after the other")
    return _backward(c, x, c.axis(x.real, dim[0]), last_dim_size, _NORMS[normalization])
