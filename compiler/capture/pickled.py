"""Pickled models and state dicts: looked at without running them, opened only when the user says so."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path

import torch

from ...ir.errors import CaptureError

# What a pickle of plain tensors names; anything else is code or a class.
_PLAIN = {
    "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor", "torch Size", "torch.storage UntypedStorage", "torch.serialization _get_layout",
}  # fmt: skip


def load_module(path: Path, trusted: bool) -> torch.nn.Module:
    """The pickled module in a file; refused unless `trusted`, because reading a pickle runs code.

    Raises `CaptureError` SC403, SC404 for a state dict, SC402 for a damaged file.
    """
    names = _names(path)
    if all(n in _PLAIN or (n.startswith("torch ") and n.endswith("Storage")) for n in names):
        raise CaptureError(
            "SC404",
            f"{path} holds weights alone (a state dict)",
            hints=[f"pass the model as package.module:factory --weights {path}"],
        )
    if not trusted:
        foreign = next((n for n in names if not n.startswith("torch")), names[0] if names else "")
        raise CaptureError(
            "SC403",
            f"{path} is a pickled Python object (it names {foreign.replace(' ', '.')}); reading it can run any code",
            hints=[
                "--trust-pickle if you know where the file comes from",
                "torch.export.save, or package.module:factory with --weights, need no such trust",
            ],
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as first:
        try:
            with path.open("rb") as file:
                loaded = pickle.load(file)
        except Exception:
            hints = ["run speechc where the model's package can be imported"]
            raise CaptureError("SC402", f"{path} cannot be unpickled: {first}", hints=hints) from first
    if not isinstance(loaded, torch.nn.Module):
        raise CaptureError("SC401", f"{path} holds a {type(loaded).__name__}, not an nn.Module")
    return loaded


def _names(path: Path) -> list[str]:
    """The globals that a pickle names, read without unpickling. Raises `CaptureError` SC402."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                member = next(n for n in file.namelist() if n.endswith("data.pkl"))
                return _globals(file.read(member))
        with path.open("rb") as file:
            names = []
            for _ in range(5):  # a legacy file is several pickles, then raw storages
                names += _globals_from(file)
                if file.peek(1)[:1] != b"\x80":
                    break
            return names
    except Exception as error:
        raise CaptureError(
            "SC402", f"{path} is damaged or cut off: {type(error).__name__}: {error}",
            hints=["copy or save the file again"],
        ) from None  # fmt: skip


def _globals(data: bytes) -> list[str]:
    import io

    return _globals_from(io.BytesIO(data))


def _globals_from(file) -> list[str]:
    names, strings = [], []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            names.append(argument)
        elif opcode.name == "STACK_GLOBAL":
            names.append(" ".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return names


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load a state dict (a .pt file of tensors, or safetensors) into a module. Raises `CaptureError` SC406."""
    if not path.is_file():
        raise CaptureError("SC400", f"cannot read {path}: there is no such file")
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CaptureError(
            "SC406", f"{path} cannot be read as weights: {str(error).splitlines()[0]}",
            hints=["save them with torch.save(model.state_dict(), path)"],
        ) from None  # fmt: skip
    for key in ("state_dict", "model_state_dict", "model"):  # checkpoints hold more than weights
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        module.load_state_dict(state)
    except Exception as error:
        text = " ".join(line.strip() for line in str(error).splitlines()[:6])
        raise CaptureError("SC406", f"{path} does not fit {type(module).__name__}: {text[:500]}") from None
