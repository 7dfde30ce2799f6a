"""The intermediate representation: types that know time, graphs, ops, text, verifier and interpreter (numpy only)."""

if not __name__.endswith("speechc.ir"):
    raise ImportError("import this as speechc.ir: a second copy of the IR would have types unequal to the first")
