"""The little of CUDA that a session needs, straight from the driver's library: memory, copies, a stream."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p

import numpy as np

from ...ir.errors import MissingError, NumericalError

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, …_MINOR
# CUDA driver API, the functions used here: the types of their arguments (results are CUresult).
SIGNATURES = {
    "cuInit": (c_int,),
    "cuDeviceGetCount": (c_void_p,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (c_void_p, c_int),
    "cuStreamSynchronize": (c_void_p,),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
}


class Device:
    """The first GPU: its name, its compute capability ("8.6"), and one stream. `library` is the driver's.

    Raises `MissingError` SC801 where there is no driver or no GPU.
    """

    def __init__(self, library: str = LIBRARY):
        try:
            self._cuda = ctypes.CDLL(library)
        except OSError:
            raise MissingError("SC801", f"there is no GPU here: {library}, NVIDIA's driver, is missing") from None
        for name, types in SIGNATURES.items():
            getattr(self._cuda, name).argtypes = types
        count, self._device, context, stream = c_int(), c_int(), c_void_p(), c_void_p()
        if self._cuda.cuInit(0) or self._cuda.cuDeviceGetCount(byref(count)) or not count.value:
            raise MissingError("SC801", "there is no GPU here that NVIDIA's driver knows")
        self._do("cuDeviceGet", byref(self._device), 0)
        self._do("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self._do("cuCtxSetCurrent", context)
        self._do("cuStreamCreate", byref(stream), 0)
        self.stream = stream.value

    @property
    def name(self) -> str:
        """What the GPU is called."""
        text = ctypes.create_string_buffer(256)
        self._do("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode()

    @property
    def capability(self) -> str:
        """Its compute capability, such as 8.6."""
        parts = []
        for attribute in (MAJOR, MINOR):
            value = c_int()
            self._do("cuDeviceGetAttribute", byref(value), attribute, self._device)
            parts.append(value.value)
        return ".".join(map(str, parts))

    def allocate(self, size: int) -> int:
        """The address of `size` new bytes on the GPU."""
        address = c_uint64()
        self._do("cuMemAlloc_v2", byref(address), max(size, 1))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._do("cuMemFree_v2", address)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy a contiguous array to the GPU."""
        self._do("cuMemcpyHtoD_v2", address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray, address: int) -> None:
        """Fill a contiguous array from the GPU."""
        self._do("cuMemcpyDtoH_v2", array.ctypes.data, address, array.nbytes)

    def wait(self) -> None:
        """Return when everything on the stream is done."""
        self._do("cuStreamSynchronize", self.stream)

    def _do(self, name: str, *arguments) -> None:
        status = getattr(self._cuda, name)(*arguments)
        if status:
            raise NumericalError("SC515", f"CUDA's {name} failed with status {status}")
