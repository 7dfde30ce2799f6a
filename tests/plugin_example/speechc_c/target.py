"""The target `c`: one C file without allocation, for whoever has a compiler and nothing else."""

from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.registry import COMMON
from speechc.lowering.manifest import manifest_of, manifest_path
from speechc.lowering.target import Option, Target

from .emit import CTYPE, Writer
from .kernels import KERNELS
from .run import CSession


class CTarget(Target):
    """Float32 graphs of the ops in `kernels.py`."""

    name, suffix = "c", ".c"
    legalize = ("recognise-snake", "simplify")
    options = (Option("prefix", "model", "what the names of the C functions begin with"),)
    kinds = frozenset(KERNELS)

    def illegal(self, op):
        if op.kind not in KERNELS:
            return "no kernel for it"
        for v in (*op.operands, *op.results):
            if v is not None and (v.type.dtype not in CTYPE or v.type.quant):
                return f"{v.type.dtype} values"
        if given := [name for name in COMMON if op.attrs.get(name)]:
            return f"with {', '.join(given)}"
        return KERNELS[op.kind].refuse(op) or None

    def emit(self, module, path, precision, options):
        prefix = self.chosen(options)["prefix"]
        if not str(prefix).isidentifier():
            raise UsageError("C001", f"prefix {prefix} is no name in C")
        if len(module.graphs) > 1:
            raise UnsupportedError("C002", f"a C file holds one graph, not {', '.join(module.graphs)}")
        self.check(module.main)
        manifest = manifest_of(module.main, path.name, self.name, precision, module.meta)
        manifest.meta["prefix"] = prefix
        path.write_text(Writer(module.main, prefix).text())
        manifest.save(manifest_path(path))
        return [path, manifest_path(path)]

    def load(self, path, threads=None):
        return CSession(path)
