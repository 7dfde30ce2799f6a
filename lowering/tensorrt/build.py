"""Building an engine: the SDK that is installed, what its parser refuses by module, profiles, and the build itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...ir.errors import MissingError, UnsupportedError, UsageError
from ..target import needs
from .emit import Asked
from .network import Network, hold, read
from .profiles import Shapes

SDKS = ("tensorrt", "tensorrt_rtx")  # the full one is preferred


@dataclass(frozen=True)
class Settings:
    """How an engine is built: the shapes of inputs that vary, GPUs to build for ("8.6"), a file of timings, bytes."""

    shapes: Shapes = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None
    workspace: int | None = None


def sdk():
    """The module `tensorrt`, else `tensorrt_rtx`. Raises `MissingError` SC800 (exit status 8) where there is none."""
    for name in SDKS:
        try:
            return needs(name, "tensorrt")
        except MissingError:
            continue
    raise MissingError(
        "SC800",
        "neither tensorrt nor tensorrt_rtx is installed",
        hints=["pip install 'speechc[tensorrt]'  (TensorRT-RTX, which builds without a GPU)", "pip install tensorrt"],
    )


def build(
    model: Path, settings: Settings, places: Mapping[str, str] | None = None, asked: Iterable[Asked] = ()
) -> tuple[bytes, Network]:
    """The serialized engine of an ONNX file, and the network it was built from.

    `places` says of ONNX nodes where in the user's model they come from; `asked` is what the network is held to before
    it is built. Raises `UnsupportedError` SC320 for nodes that the parser refuses, all of them, SC321 where the builder
    fails; `UsageError` SC017 for settings that do not fit.
    """
    trt, places = sdk(), places or {}
    if settings.timing_cache is not None and not settings.timing_cache.parent.is_dir():
        raise UsageError("SC017", f"timing_cache {settings.timing_cache}: there is no such folder")
    log = _log(trt)
    builder = trt.Builder(log)
    network, _parser = _parsed(trt, builder, log, model, places)
    found = read(network)
    hold(found, asked)
    config = _config(trt, builder, settings)
    _profile(builder, network, config, settings.shapes)
    log.errors.clear()
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _failed(trt, log, places)
    if settings.timing_cache is not None:
        with _deprecated():
            settings.timing_cache.write_bytes(memoryview(config.get_timing_cache().serialize()))
    return bytes(memoryview(engine)), found


def _log(trt):
    class Errors(trt.ILogger):
        """Keeps what went wrong; the rest is not for users."""

        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity, message):
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Errors()


def _network(trt, builder):
    return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def _parsed(trt, builder, log, model: Path, places: Mapping[str, str]):
    """The network of an ONNX file, and its parser, which holds the weights until the engine is built.

    The parser that looks for unsupported nodes cannot parse afterwards: there are two.
    """
    data, path = model.read_bytes(), str(model)
    tried = _network(trt, builder)
    judge = trt.OnnxParser(tried, log)
    if not judge.supports_model_v2(data, path):
        raise _refused(trt, judge, log, places)
    network = _network(trt, builder)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(data, path):
        raise _refused(trt, parser, log, places)
    return network, parser


def _refused(trt, parser, log, places: Mapping[str, str]) -> UnsupportedError:
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    where = [
        f"{places.get(e.node_name(), e.node_name() or '(model)')}: {e.node_operator() or 'model'}: {_short(e.desc())}"
        for e in errors
    ]
    where = list(dict.fromkeys(where)) or [_short(m) for m in log.errors[:8]]
    return UnsupportedError(
        "SC320", f"{trt.__name__} {trt.__version__} refuses {len(where)} nodes", where, ["another target may have them"]
    )


def _failed(trt, log, places: Mapping[str, str]) -> UnsupportedError:
    text = log.errors[0] if log.errors else "it does not say why"
    nodes = sorted((n for n in places if n in text), key=len)[-1:]  # fused layers extend the name of their node
    where = [places[n] for n in nodes]
    hints = [
        "where this is int8 without recordings: --calibrate DIR",
        "other GPUs (--compute-capability), more --workspace, another --profile",
    ]
    return UnsupportedError("SC321", f"{trt.__name__} {trt.__version__} builds no engine: {_short(text)}", where, hints)


def _short(text: str) -> str:
    """A message without the places in TensorRT's own source, and without what it says of a missing GPU."""
    first = text.split("\n[checkMacros")[0].replace("\n", ": ")
    return first.split(" In ", 1)[0].strip() if " at /_src" in first else first.strip()


def _config(trt, builder, settings: Settings):
    config = builder.create_builder_config()
    if settings.capabilities:
        _capabilities(trt, config, settings.capabilities)
    if settings.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    if settings.timing_cache is not None:
        old = settings.timing_cache.read_bytes() if settings.timing_cache.exists() else b""
        with _deprecated():
            cache = config.create_timing_cache(old)
            if cache is None or not config.set_timing_cache(cache, False):
                raise UsageError("SC017", f"timing_cache {settings.timing_cache} is not one of {trt.__name__}'s")
    return config


@contextmanager
def _deprecated() -> Iterator[None]:
    """TensorRT-RTX warns of timing caches: it takes them, and builds the same engine with or without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _capabilities(trt, config, wanted: tuple[str, ...]) -> None:
    if not hasattr(trt, "ComputeCapability"):
        raise UsageError(
            "SC017",
            f"compute_capability: {trt.__name__} builds for the GPU that it finds",
            hints=["leave it out", "pip install tensorrt-rtx, and no tensorrt, builds for others"],
        )
    known = {_number(n): c for n, c in trt.ComputeCapability.__members__.items() if n.startswith("SM")}
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        if name not in known or not config.set_compute_capability(known[name], index):
            raise UsageError(
                "SC017", f"compute_capability {name}: {trt.__name__} does not build for it",
                hints=[f"one or more of {', '.join(sorted(known, key=float))}"],
            )  # fmt: skip


def _number(name: str) -> str:
    """`SM86` as 8.6."""
    return f"{name[2:-1]}.{name[-1]}"


def _profile(builder, network, config, shapes: Shapes) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    moving = [t for t in inputs if -1 in tuple(t.shape)]
    for name in {t.name for t in moving} ^ set(shapes):
        raise UsageError("SC017", f"input {name} wants shapes where its sizes vary, and none where they do not")
    if moving:
        profile = builder.create_optimization_profile()
        for t in moving:
            profile.set_shape(t.name, *shapes[t.name])
        if config.add_optimization_profile(profile) < 0:
            raise UsageError("SC017", f"these shapes make no profile: {shapes}")
