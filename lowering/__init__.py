"""The targets, one folder each."""

if not __name__.endswith("speechc.lowering"):
    raise ImportError("import this as speechc.lowering, not from the repository root")
