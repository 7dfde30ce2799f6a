"""Inputs, outputs and states as Core ML has them: no bool, no int64, no scalars; float16 caches held by Core ML."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Graph, Value
from ...ir.types import Tensor
from ...ir.weights import Weight
from ..manifest import Manifest, stored_initial
from .choices import HALF_PORTS, STATES, Choices
from .emit import MIL_TYPE, Emitter
from .ops_quant import codes
from .reals import real_types


def held_by_core_ml(graph: Graph, choices: Choices) -> frozenset[str]:
    """The states that Core ML can hold: float16, zero at first, and moved along by `history` alone.

    What is added up from call to call, and counters, stay outside: float16 has eleven bits.
    """
    if not choices.native or (choices.release is not None and choices.release < STATES):
        return frozenset()
    reals = real_types(graph)
    return frozenset(
        name
        for name, v in graph.states.items()
        if (v.type.dtype if v.type.quant is None else reals.get(id(v))) == "f16"
        and not isinstance(v.payload.initial, Weight)
        and v.payload.initial == (0 if v.type.quant is None else v.type.quant.zero_point)
        and v.users
        and all(op.kind == "history" and op.operands[0] is not v for op in v.users)
    )


def port_dtype(type: Tensor, release: int) -> str:
    """The element type that a value has at the interface."""
    if type.quant is not None or not type.is_float:
        return "i32"
    return "f16" if type.dtype == "f16" and release >= HALF_PORTS else "f32"


class Interface:
    """The inputs, states and outputs of one function; fills in what the manifest says of them."""

    def __init__(self, e: Emitter, native: frozenset[str], manifest: Manifest):
        self.e, self.native, self.manifest = e, native, manifest
        graph = e.graph
        self._states = {p.name: p for p in manifest.states}
        for p, v in zip(manifest.inputs, graph.inputs):
            self._describe(p, v, e.names.claim(v.name))
        for p, name, v in zip(manifest.outputs, graph.output_names, graph.outputs):
            self._describe(p, v, e.names.claim(name))
        for name, v in graph.states.items():
            p = self._states[name]
            p.file_name, p.native = e.names.claim(f"state.{name}"), name in native
            p.output = None if p.native else e.names.claim(f"state.{name}.out")
            p.dtype, p.quant = e.real_of(v), None
            file_dtype = "f16" if p.native else port_dtype(v.type.with_(dtype=p.dtype, quant=None), e.release)
            p.file_dtype = None if file_dtype == p.dtype else file_dtype
            if v.type.quant is not None:
                p.initial = stored_initial(real_value(v))

    def _describe(self, p, v: Value, file_name: str) -> None:
        file_dtype = port_dtype(v.type, self.e.release)
        p.file_name, p.file_dtype = file_name, None if file_dtype == v.type.dtype else file_dtype

    # -- in --------------------------------------------------------------------------------------------------------
    def placeholders(self) -> dict[str, object]:
        """What the function takes, by name."""
        e, made = self.e, {}
        for p, v in zip(self.manifest.inputs, e.graph.inputs):
            made[p.file_name] = self._placeholder(v, p.file_dtype or p.dtype)
        for name, v in e.graph.states.items():
            p, shape = self._states[name], [int(s) for s in v.type.sizes] or [1]
            if p.native:
                made[p.file_name] = e.mb.state_tensor_placeholder(shape, dtype=e.types.fp16)
            else:
                made[p.file_name] = self._placeholder(v, p.file_dtype or p.dtype)
        return made

    def _placeholder(self, v: Value, dtype: str):
        e = self.e
        shape = [e.symbol(s) for s in v.type.sizes] or [1]
        return e.mb.placeholder(shape, dtype=e.types.string_to_builtin(MIL_TYPE[dtype]))

    def bind(self, inputs: dict[str, object]) -> None:
        """Turn what comes in into what the graph means."""
        e = self.e
        for p, v in zip(self.manifest.inputs, e.graph.inputs):
            port = inputs[p.file_name]
            e.bind(v, self._inside(port, p, v), port)
            if not v.users and not any(v is o for o in e.graph.outputs):
                e.named(f"{p.file_name}.unused", "identity", x=port)  # Core ML drops inputs that nothing reads
        for name, v in e.graph.states.items():
            p = self._states[name]
            var = inputs[p.file_name]
            if p.native:
                var = e.named(f"{p.file_name}.read", "read_state", input=var)
            e.bind(v, self._inside(var, p, v, state=True))

    def _inside(self, var, p, v: Value, state: bool = False):
        e = self.e
        with e.located(p.file_name):
            if not v.type.rank:
                var = e.op("squeeze", x=var, axes=[0])
            file_dtype, dtype = p.file_dtype or p.dtype, e.real_of(v)
            if v.type.quant is not None and not state:
                quant = v.type.quant
                real = e.op("sub", x=e.cast(var, "i32", "f32"), y=np.float32(quant.zero_point))
                return e.cast(e.op("mul", x=real, y=np.float32(quant.scale)), "f32", dtype)
            if dtype == "bool":
                return e.op("not_equal", x=var, y=np.int32(0))
            return e.cast(var, file_dtype, dtype)

    # -- out -------------------------------------------------------------------------------------------------------
    def results(self) -> list:
        """What the function gives; states that Core ML holds are written here."""
        e, out = self.e, []
        for p, v in zip(self.manifest.outputs, e.graph.outputs):
            out.append(self._outside(e.value(v), p, v, p.file_name, out))
        for name, v in e.graph.states.items():
            p = self._states[name]
            new = e.written.get(name, e.value(v))
            if not p.native:
                out.append(self._outside(new, p, v, p.output, out, state=True))
            elif name in e.written:
                e.named(f"{p.file_name}.write", "coreml_update_state", state=e.inputs[p.file_name], value=new)
        return out

    def _outside(self, var, p, v: Value, name: str, others: list, state: bool = False):
        """`var` as the output `name`: of the interface's type, and an operation's own result."""
        e = self.e
        with e.located(name):
            dtype, file_dtype = e.real_of(v), p.file_dtype or p.dtype
            if v.type.quant is not None and not state:
                quant = v.type.quant
                var = codes(e, var, dtype, quant.scale, quant.zero_point, v.type.dtype)
                dtype = v.type.dtype
            if isinstance(var, np.generic):
                var = e.op("const", val=var)
            if MIL_TYPE[dtype] != MIL_TYPE[file_dtype]:
                var = e.op("cast", x=var, dtype=MIL_TYPE[file_dtype])
            if not v.type.rank:
                var = e.op("reshape", x=var, shape=[1])
            if not _computed(var) or any(var is o for o in others):
                var = e.op("identity", x=var)
        var.name = name
        return var


def _computed(var) -> bool:
    """Whether `var` is what an operation gives, and not an input or a constant."""
    op = getattr(var, "op", None)
    return op is not None and op.op_type != "read_state" and not op.op_type.startswith("const")


def real_value(v: Value) -> float:
    """The real number that a quantized state starts from."""
    quant = v.type.quant
    return float(np.float32(quant.scale) * (v.payload.initial - quant.zero_point))
