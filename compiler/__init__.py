"""The driver: command line, API, capture, pipeline, checking and reports."""

if not __name__.endswith("speechc.compiler"):
    raise ImportError("import this as speechc.compiler, not from the repository root")
