"""Reading a torch.export archive without running anything that it may hold.

`torch.export.load` unpickles sample inputs, constants and old weights, evaluates the expressions of symbolic sizes as
Python, imports modules that a tree description names, and looks operators up by attribute. So nothing is left to it:
members are checked (zip checksums), text is checked against what an exporter writes, tensors are read as raw bytes or
with `weights_only=True`, and only then is the graph rebuilt.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ...ir.errors import CaptureError
from .archive_checks import Refused, plain_program

_PICKLED = ("custom_obj_", "opaque_obj_")


def read(path: Path) -> tuple[ExportedProgram, dict[str, Any]]:
    """The exported program of an archive, and the contents of its `speechc.json`.

    Raises `CaptureError`: SC402 for a damaged archive, SC403 for one that can be read only by unpickling or that names
    things other than operators, tensors and sizes.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = {_inner(n): n for n in file.namelist()}
            read_member = lambda name: file.read(members[name])
            if "serialized_exported_program.json" in members:
                return _old(read_member, members), _about(read_member, members, "extra_files/")
            return _new(read_member, members), _about(read_member, members, "extra/")
    except CaptureError:
        raise
    except Refused as error:
        raise _refused(path, str(error)) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise CaptureError(
            "SC402",
            f"{path} is damaged, or written by another version of torch (this is {torch.__version__}): {reason[:300]}",
            hints=["export the model again with torch.export.save"],
        ) from None


def _refused(path: Path, what: str) -> CaptureError:
    return CaptureError(
        "SC403",
        f"{path} is refused: {what}; reading it could run any code, or run without end",
        hints=["export the model again: torch.export.save writes plain tensors for ordinary models"],
    )


def _inner(name: str) -> str:
    """A member's name without the archive's own folder."""
    head, _, rest = name.partition("/")
    return rest if rest and head not in ("data", "models", "extra", "extra_files") else name


def _about(read_member, members, folder: str) -> dict[str, Any]:
    name = f"{folder}speechc.json"
    if name not in members:
        return {}
    about = json.loads(read_member(name))
    if not isinstance(about, dict):
        raise Refused("its speechc.json is not an object")
    return about


def _new(read_member, members: Mapping[str, str]) -> ExportedProgram:
    models = [n for n in members if n.startswith("models/") and n.endswith(".json")]
    if len(models) != 1:
        raise CaptureError("SC401", f"the archive holds {len(models)} models", hints=["save one model a file"])
    name = models[0].removeprefix("models/").removesuffix(".json")
    for legacy in (f"data/weights/{name}.pt", f"data/constants/{name}.pt"):
        if legacy in members:
            raise Refused(f"{legacy} is a pickle")
    weights = _payloads(read_member, members, "data/weights/", f"{name}_weights_config.json")
    constants = _payloads(read_member, members, "data/constants/", f"{name}_constants_config.json")
    samples = f"data/sample_inputs/{name}.pt"
    return _rebuilt(read_member(models[0]), weights, constants, read_member(samples) if samples in members else b"")


def _old(read_member, members: Mapping[str, str]) -> ExportedProgram:
    """The format of torch before 2.8: tensors in files of torch.save."""
    weights, constants = (
        _plain_tensors(read_member(n), n) if n in members else {}
        for n in ("serialized_state_dict.pt", "serialized_constants.pt")
    )
    samples = "serialized_example_inputs.pt"
    return _rebuilt(
        read_member("serialized_exported_program.json"), weights, constants,
        read_member(samples) if samples in members else b"",
    )  # fmt: skip


def _rebuilt(text: bytes, weights: dict, constants: dict, samples: bytes) -> ExportedProgram:
    from torch._export.serde import schema
    from torch._export.serde.serialize import ExportedProgramDeserializer, _dict_to_dataclass

    from . import patches

    program = _dict_to_dataclass(schema.ExportedProgram, plain_program(json.loads(text)))
    patches.register()
    example = _plain_tensors(samples, "the sample inputs") if samples else None
    # Dictionaries and tuples go through as they are; bytes would be unpickled.
    return ExportedProgramDeserializer(None).deserialize(program, weights, constants, example)


def _plain_tensors(data: bytes, what: str):
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        if "Unsupported" in str(error) or "Weights only" in str(error) or "weights_only" in str(error):
            raise Refused(f"{what} hold more than tensors") from None
        raise


def _payloads(read_member, members, folder: str, config: str) -> dict[str, torch.Tensor]:
    """The tensors of a folder as its configuration describes them; aliases stay aliases."""
    from torch._export.serde import schema
    from torch._export.serde.serialize import (
        _dict_to_dataclass,
        deserialize_scalar_type,
        deserialize_size,
        deserialize_storage_offset,
        deserialize_stride,
    )  # fmt: skip

    storages: dict[str, torch.Tensor] = {}
    out: dict[str, torch.Tensor] = {}
    payloads = _dict_to_dataclass(schema.PayloadConfig, json.loads(read_member(folder + config))).config
    for name, payload in payloads.items():
        file = payload.path_name
        if payload.use_pickle or file.startswith(_PICKLED) or payload.tensor_meta is None:
            raise Refused(f"{folder}{file} ({name}) is a pickle")
        meta = payload.tensor_meta
        dtype = deserialize_scalar_type(meta.dtype)
        if file not in storages:
            data = bytearray(read_member(folder + file))
            storages[file] = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
        raw = storages[file]
        raw = raw[: raw.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        sizes = deserialize_size(meta.sizes)
        tensor = (
            raw.as_strided(sizes, deserialize_stride(meta.strides), deserialize_storage_offset(meta.storage_offset))
            if raw.numel()
            else torch.zeros(sizes, dtype=dtype)
        )
        out[name] = torch.nn.Parameter(tensor, requires_grad=False) if payload.is_param else tensor
    return out
