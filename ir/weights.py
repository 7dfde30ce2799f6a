"""Weights live beside the graph: by name, shared by every pass, computed or read only when somebody looks."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .errors import IRError, UsageError
from .files import replacing
from .types import DTYPES, Tensor, dtype_of

RECIPE = "~"  # opens a digest of how a weight is computed, not of its contents


class Weight:
    """One named array: its type, and a way to get it. `digest` identifies the contents without keeping them.

    `sources` are the weights that a derived one is computed from.
    """

    __slots__ = ("name", "type", "sources", "_load", "_array", "_digest")

    def __init__(
        self, name: str, type: Tensor, load: Callable[[], np.ndarray] | None, digest: str | None = None, sources=()
    ):
        self.name, self.type, self.sources = name, type, tuple(sources)
        self._load, self._array, self._digest = load, None, digest

    @property
    def array(self) -> np.ndarray:
        """The values; read or computed at the first call and kept."""
        if self._array is None:
            if self._load is None:
                raise IRError(
                    f"the values of weight ${self.name} are not here (only its type is)",
                    code="SC103",
                    hints=["keep the .safetensors file beside the .sir file"],
                )
            array = self._load()
            want = tuple(self.type.sizes)
            if array.shape != want or array.dtype != DTYPES[self.type.dtype]:
                raise IRError(f"weight ${self.name} is {array.dtype}{list(array.shape)}, its type says {self.type}")
            self._array = array
        return self._array

    def release(self) -> None:
        """Let go of values that can be read or computed again."""
        if self._load is not None:
            self._array = None

    @property
    def known(self) -> bool:
        """Whether values are available at all."""
        return self._array is not None or self._load is not None

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of the contents' hash; for a derived weight `~` and those of the recipe's."""
        if self._digest is None:
            self._digest = digest_of(self.array)
        return self._digest


def digest_of(array: np.ndarray) -> str:
    data = np.ascontiguousarray(array)
    head = f"{data.dtype.str}{data.shape}".encode()
    return hashlib.blake2b(data.reshape(-1).view(np.uint8).data, digest_size=4, key=head[:64]).hexdigest()


class Weights:
    """The weights of a module, by name. Adding never copies: arrays are shared with whoever made them."""

    def __init__(self):
        self._by_name: dict[str, Weight] = {}

    def __getitem__(self, name: str) -> Weight:
        if name not in self._by_name:
            raise IRError(f"no weight is called ${name}")
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Weight]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def fresh(self, name: str) -> str:
        """`name`, with a number behind it if it is taken."""
        if name not in self._by_name:
            return name
        i = 1
        while f"{name}.{i}" in self._by_name:
            i += 1
        return f"{name}.{i}"

    def add(self, name: str, array: np.ndarray, dtype: str | None = None, quant=None) -> Weight:
        """Put an array beside the graph under a free name; the same array twice under one name is one weight."""
        old = self._by_name.get(name)
        if old is not None and old._array is array:
            return old
        weight = Weight(self.fresh(name), Tensor(dtype or dtype_of(array), array.shape, quant), None)
        weight._array = array
        return self._put(weight)

    def derive(self, name: str, recipe: str, sources: list, type: Tensor, compute: Callable) -> Weight:
        """A weight computed from others when first needed: `compute(*source arrays)`, identified by `recipe`.

        `sources` are weights or numpy scalars. One recipe with the same sources is one weight.
        """
        parts = [s.digest if isinstance(s, Weight) else repr(s.item()) for s in sources]
        digest = RECIPE + hashlib.blake2b(":".join([recipe, str(type), *parts]).encode(), digest_size=4).hexdigest()
        if name in self._by_name and self._by_name[name]._digest == digest:
            return self._by_name[name]

        def load():
            return compute(*(s.array if isinstance(s, Weight) else s for s in sources))

        made = [s for s in sources if isinstance(s, Weight)]
        return self._put(Weight(self.fresh(name), type, load, digest, made))

    def declare(self, name: str, type: Tensor, digest: str | None = None) -> Weight:
        """A weight known by type alone, as in a text without its weights file."""
        if name in self._by_name:
            known = self._by_name[name]
            if known.type != type:
                raise IRError(f"weight ${name} is {known.type}, the text says {type}")
            return known
        return self._put(Weight(name, type, None, digest))

    def release(self) -> None:
        """Let go of all values that can be read or computed again."""
        for w in self:
            w.release()

    def drop_unused(self, used: set[str]) -> None:
        """Forget every weight that is not in `used`."""
        self._by_name = {n: w for n, w in self._by_name.items() if n in used}

    def _put(self, weight: Weight) -> Weight:
        self._by_name[weight.name] = weight
        return weight

    def save(self, path: Path) -> None:
        """Write all known weights to a safetensors file, whole or not at all. Raises OSError."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        with replacing(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # safetensors makes files that nobody else may read
            try:
                save_file({w.name: np.asarray(w.array, order="C") for w in self if w.known}, str(temporary))
            except SafetensorError as error:
                number = re.search(r"os error (\d+)", str(error))
                if number is None:
                    raise
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
            temporary.chmod(mode)

    def attach(self, path: Path) -> None:
        """Take the values of declared weights from a safetensors file, memory-mapped, read when needed.

        Raises `UsageError` SC107 for a damaged file, and at the first look at a weight that is not the declared one.
        """
        with _opened(path) as file:
            names = set(file.keys())
        for w in self:
            if not w.known and w.name in names:
                w._load = lambda w=w, digest=w._digest: _read_one(path, w, digest)


@contextmanager
def _opened(path: Path):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise UsageError("SC107", f"{path} is damaged, or not a safetensors file: {error}") from None


def _read_one(path: Path, weight: Weight, digest: str | None) -> np.ndarray:
    """A weight of a file, if its contents are those of `digest` (unless it is None or that of a recipe)."""
    with _opened(path) as file:
        array = file.get_tensor(weight.name)
    found = digest_of(array)
    fits = array.shape == tuple(weight.type.sizes) and array.dtype == DTYPES[weight.type.dtype]
    if not fits or (digest is not None and not digest.startswith(RECIPE) and found != digest):
        raise UsageError(
            "SC107",
            f"weight ${weight.name} in {path} is not the one that the text means: it is {array.dtype}"
            f"{list(array.shape)} #{found}, the text says {weight.type} #{digest or '?'}",
            hints=["keep each .sir file with the weights that were written with it", "#? takes whatever is there"],
        )
    return array
