"""The rewrites, one idea a file."""

if not __name__.endswith("speechc.passes"):
    raise ImportError("import this as speechc.passes, not from the repository root")
