"""speechc: a compiler for speech models (`speechc.compile`, `speechc.load`, `speechc.__version__`)."""

__version__ = "0.1.0"


def __getattr__(name: str):
    if name in ("compile", "load"):
        from .compiler import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
