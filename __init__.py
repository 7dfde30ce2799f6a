"""speechc: a compiler for speech models (`speechc.compile`, `compile_all`, `load`; `Part`, `Parts`)."""

__version__ = "0.1.0"


def __getattr__(name: str):
    if name in ("compile", "compile_all", "load"):
        from .compiler import api

        return getattr(api, name)
    if name in ("Part", "Parts"):
        from .compiler.assembly import parts

        return getattr(parts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
