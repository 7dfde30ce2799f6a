"""Messages between a session and its worker: JSON, with arrays as raw bytes behind it; nothing that could run code."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import numpy as np


def send(pipe: BinaryIO, message: Any) -> None:
    """Write one message made of lists, dictionaries, texts, numbers and arrays."""
    arrays: list[np.ndarray] = []
    head = json.dumps(_described(message, arrays)).encode()
    pipe.write(struct.pack("<Q", len(head)))
    pipe.write(head)
    for array in arrays:
        pipe.write(array.reshape(-1).view(np.uint8).data if array.size else b"")
    pipe.flush()


def receive(pipe: BinaryIO) -> Any:
    """Read one message; tuples arrive as lists. EOFError where the other side is gone."""
    (size,) = struct.unpack("<Q", _exactly(pipe, 8))
    return _restored(json.loads(_exactly(pipe, size)), pipe)


def _exactly(pipe: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        n = pipe.readinto(view[at:])
        if not n:
            raise EOFError
        at += n
    return data


def _described(item: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(item, np.ndarray):
        arrays.append(np.ascontiguousarray(item))
        return {"array": item.dtype.str, "shape": list(item.shape)}
    if isinstance(item, dict):
        return {"items": [[name, _described(value, arrays)] for name, value in item.items()]}
    if isinstance(item, (list, tuple)):
        return [_described(i, arrays) for i in item]
    return item


def _restored(item: Any, pipe: BinaryIO) -> Any:
    if isinstance(item, list):
        return [_restored(i, pipe) for i in item]
    if not isinstance(item, dict):
        return item
    if "items" in item:
        return {name: _restored(value, pipe) for name, value in item["items"]}
    dtype, shape = np.dtype(item["array"]), tuple(item["shape"])
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(_exactly(pipe, size), dtype).reshape(shape)
