"""Running an engine on a GPU: every input, output and state has a buffer of its own on the device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...ir.errors import MissingError, NumericalError
from ...ir.types import DTYPES
from ..feeds import checked_feeds
from ..manifest import Manifest, initial_array
from ..target import Session
from .build import sdk
from .cuda import Device
from .network import TYPE_OF


class EngineSession(Session):
    """An engine in the memory of a GPU. Raises `MissingError` SC801 where there is no GPU that it was built for.

    A state is read from one buffer and written to another: TensorRT promises no order between the two.
    """

    def __init__(self, path: Path, manifest: Manifest, device: Device | None = None, engine=None):
        self.manifest = manifest
        self.device = device or Device()
        self._runtime, self.engine = (None, engine) if engine else _deserialized(path, self.device)
        self.runner = f"{manifest.meta['tensorrt']['built_by'].split()[0]} on {self.device.name}"
        self.context = self.engine.create_execution_context()
        self._bound = {self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)}
        self._buffers: dict[str, tuple[int, int]] = {}  # by binding: address and size
        self.reset()

    def reset(self) -> None:
        self.states = {p.file_name: initial_array(p) for p in self.manifest.states}

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in {**checked_feeds(self.manifest, feeds), **self.states}.items():
            if name in self._bound:  # an input that nothing reads is none of the engine's
                self.context.set_input_shape(name, array.shape)
                self.device.upload(self._bind(name, array.nbytes), np.ascontiguousarray(array))
        wanted = [p.file_name for p in self.manifest.outputs] + [p.output for p in self.manifest.states]
        made = {name: self._empty(name) for name in wanted}
        for name, array in made.items():
            self._bind(name, array.nbytes)
        if not self.context.execute_async_v3(self.device.stream):
            raise NumericalError("SC515", f"the engine {self.manifest.artefact} does not run")
        self.device.wait()
        for name, array in made.items():
            self.device.download(array, self._buffers[name][0])
        for port in self.manifest.states:
            self.states[port.file_name] = made[port.output]
        return {p.name: made[p.file_name] for p in self.manifest.outputs}

    def close(self) -> None:
        """Give the memory on the GPU back."""
        for address, _ in self._buffers.values():
            self.device.free(address)
        self._buffers.clear()

    def _empty(self, name: str) -> np.ndarray:
        dtype = DTYPES[TYPE_OF[self.engine.get_tensor_dtype(name).name]]
        return np.empty(tuple(self.context.get_tensor_shape(name)), dtype)

    def _bind(self, name: str, size: int) -> int:
        """The address of a binding's buffer, at least `size` bytes large."""
        address, held = self._buffers.get(name, (0, -1))
        if held < size:
            if held >= 0:
                self.device.free(address)
            address = self.device.allocate(size)
            self._buffers[name] = (address, size)
            self.context.set_tensor_address(name, address)
        return address


def _deserialized(path: Path, device: Device):
    """(runtime, engine); the first must outlive the second."""
    trt = sdk()
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise MissingError(
            "SC801",
            f"{path.name} was not built for this GPU: {device.name}, compute capability {device.capability}",
            hints=[f"compile again with --compute-capability {device.capability}"],
        )
    return runtime, engine
