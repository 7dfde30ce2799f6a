"""The plugin: importing this registers the op `snake`, the pass `recognise-snake` and the target `c`."""

from speechc.ir.plugins import later
from speechc.lowering.target import register

from . import recognise, snake  # noqa: F401  they register what they define
from .target import CTarget

register(CTarget())
later("capture", "speechc_c.capture")  # needs torch: imported when a PyTorch model is read
