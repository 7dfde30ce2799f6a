"""Every target beside the others: which ops it has, and the digit recogniser in each of its precisions.

python benchmarks/targets.py [--data FOLDER_OF_RECORDINGS] [--only "coverage,digits"]

Words are counted through whatever runs the file here (onnxruntime, LiteRT, the MIL interpreter). Without --data that is
on the shipped recordings alone.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import speechc
from digits import MODEL, material, words
from rich.console import Console
from rich.table import Table
from speechc.compiler.place import size_of
from speechc.ir import ops as _core  # noqa: F401  registers the core ops
from speechc.ir.registry import OPS
from speechc.lowering.target import available, target

CONSOLE = Console(width=200)


def coverage() -> None:
    """Ops that each target has, by family; those that one lacks by name."""
    names = available()
    families = Counter(d.family for d in OPS.values())
    table = Table("family", "ops", *names, box=None)
    for family, count in sorted(families.items()):
        own = {kind for kind, d in OPS.items() if d.family == family}
        table.add_row(family, str(count), *(str(len(own & target(n).kinds)) for n in names))
    table.add_row("all", str(len(OPS)), *(str(len(set(OPS) & target(n).kinds)) for n in names))
    CONSOLE.print(table)
    for name in names:
        lacking = sorted(set(OPS) - target(name).kinds)
        if lacking:
            CONSOLE.print(f"{name} lacks {', '.join(lacking)}")


def digits(data: Path | None) -> None:
    """Size, SNR against the model, word errors and seconds to compile (proof included), by target and precision."""
    from demo import transcribe

    sets, calibration = material(data)
    table = Table("target", "precision", "bytes", "SNR, dB", *(f"WER {s}" for s in sets), "seconds", "run by", box=None)
    with tempfile.TemporaryDirectory() as folder:
        for name in available():
            for precision in target(name).precisions:
                artifact = speechc.compile(
                    MODEL, target=name, precision=precision, calibration=calibration if "int8" in precision else None,
                    output=Path(folder), name=f"{name}-{precision.replace('+', '-')}",
                )  # fmt: skip
                session, report = artifact.session, artifact.report
                heard = {s: [transcribe(session.run(a)[0]) for a in arrays] for s, (arrays, _) in sets.items()}
                table.add_row(
                    name, precision, f"{size_of([artifact.path]):,}", f"{report['snr']:.1f}",
                    *(words(texts, heard[s]) for s, (_, texts) in sets.items()), f"{report['seconds']:.1f}",
                    report["checked_by"],
                )  # fmt: skip
    CONSOLE.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--only", default="coverage,digits")
    options = parser.parse_args()
    if "coverage" in options.only:
        coverage()
    if "digits" in options.only:
        digits(options.data)


if __name__ == "__main__":
    main()
