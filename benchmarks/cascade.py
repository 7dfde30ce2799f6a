"""A cascade on a recording with silences: Silero VAD, then a keyword spotter, then the recogniser of digits.

pip install --no-deps silero-vad; python benchmarks/cascade.py --data FOLDER_OF_RECORDINGS [--minutes N]

The recording is made from the test takes: every 10 to 20 s somebody says digits, one in two times with the keyword in
front. Every stage is a file of its own. What the recogniser says inside is compared with what the same file says alone
on the same stretch, and the cascade with all three files awake all the time.
"""

import argparse
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import speechc
from rich.console import Console
from rich.table import Table
from speechc.compiler.cascade import Cascade, Stage
from speechc.compiler.listen import open_listener
from speechc.lowering import target as targets

ROOT = Path(__file__).parent.parent
AUDIO = ROOT / "examples" / "digits" / "audio"
sys.path.insert(0, str(ROOT / "examples" / "keyword"))
from model import FRONT_END, KEYWORD, SAMPLE_RATE  # noqa: E402
from strings import clips  # noqa: E402


def recording(data: Path, minutes: float, seed: int = 3) -> tuple[np.ndarray, list[list[int]]]:
    """Audio, and the digits that follow each keyword."""
    draw, recorded = np.random.default_rng(seed), clips(data, range(5))
    of = lambda digit: [c.audio for c in recorded if c.digits == [digit]]
    said, parts = [], []
    while sum(map(len, parts)) < minutes * 60 * SAMPLE_RATE:
        parts.append(np.zeros(int(draw.uniform(10, 20) * SAMPLE_RATE)))
        digits = [int(d) for d in draw.choice([d for d in range(10) if d != KEYWORD], 4)]
        wake = draw.random() < 0.5
        said += [digits] if wake else []
        for digit in [KEYWORD] * wake + digits:
            takes = of(digit)
            parts += [takes[draw.integers(len(takes))], np.zeros(int(draw.uniform(0.1, 0.3) * SAMPLE_RATE))]
    audio = np.concatenate(parts)
    return (audio + 1e-3 * draw.standard_normal(len(audio))).astype(np.float32), said


def stages(folder: Path, silero: Path) -> list[Stage]:
    """Three compiled files."""
    speechc.compile(
        silero, ["x=f32[1,256]", "sr=8000"], target="tflite", sample_rate=SAMPLE_RATE,
        detect={"like": "silero", "labels": ["speech"]}, output=folder / "vad.tflite",
    )  # fmt: skip
    speechc.compile(
        ROOT / "examples" / "keyword" / "model.pt", target="tflite", precision="int8", calibration=AUDIO,
        front_end=FRONT_END, stream="30ms", output=folder / "keyword.tflite",
    )  # fmt: skip
    speechc.compile(
        ROOT / "examples" / "digits" / "model.pt", stream="640ms", attention="chunk:640ms,left=2560ms", conv="chunk",
        output=folder / "digits.onnx",
    )  # fmt: skip
    return [
        # Its authors' 250 ms are for cutting recordings up; whoever waits for a word wants to know at once.
        Stage("voice", folder / "vad.tflite", options={"least_ms": 0}),
        Stage("keyword", folder / "keyword.tflite", pre_roll_ms=300, hang_over_ms=500),
        Stage("digits", folder / "digits.onnx", pre_roll_ms=200, hang_over_ms=800, until="voice"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    if (found := find_spec("silero_vad")) is None:
        sys.exit("Silero VAD is not installed: pip install --no-deps silero-vad")
    targets.ALONE = True  # LiteRT in this process, not behind a pipe
    audio, said = recording(options.data, options.minutes)
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as name:
        made = stages(Path(name), Path(found.origin).parent / "data" / "silero_vad.jit")
        cascade = Cascade.of(made, threads=1)
        heard = cascade.hear(audio)
        table = Table("stage", "woken", "audio heard, s", "of all", "calls", "MACs", "if always awake", "s", "s always")
        always = []
        for stage in made:
            listener = open_listener(stage.file, threads=1, **stage.options)
            listener.hear(audio[:SAMPLE_RATE])
            start = time.perf_counter()
            listener.hear(audio)
            always.append(time.perf_counter() - start)
        for usage, seconds in zip(heard.usage["stages"], always):
            table.add_row(
                usage["stage"],
                str(usage["wakes"]),
                f"{usage['heard_s']:.1f}",
                f"{usage['duty']:.1%}",
                f"{usage['calls']:,}",
                f"{usage['macs'] / 1e6:,.1f} M",
                f"{usage['macs_always'] / 1e6:,.1f} M",
                f"{usage['seconds']:.3f}",
                f"{seconds:.3f}",
            )
        usage = heard.usage
        table.add_row(
            "all", "", f"of {usage['audio_s']:.1f}", "", "", f"{usage['macs'] / 1e6:,.1f} M",
            f"{usage['macs_always'] / 1e6:,.1f} M", f"{usage['seconds']:.3f}", f"{sum(always):.3f}",
        )  # fmt: skip
        console.print(table)
        alone, same = open_listener(made[-1].file, threads=1), []
        stretches = [s for s in heard.segments if s.label.startswith("digits: ")]
        for s in stretches:
            samples = audio[round(s.start * SAMPLE_RATE) : round(s.end * SAMPLE_RATE)]
            same.append(f"digits: {alone.hear(samples).text}" == s.label)
        time_saved = 1 - usage["seconds"] / sum(always)
        console.print(f"{usage['saved']:.1%} of the multiply-accumulates saved, {time_saved:.1%} of the time")
        console.print(f"{sum(same)} of {len(stretches)} stretches as the recogniser alone hears them")
        # The recogniser may hear the end of the keyword, or the keyword again.
        wanted = [" ".join(map(str, d)) for d in said]
        texts = [s.label.removeprefix("digits: ") for s in stretches]
        console.print(f"{sum(any(t.endswith(w) for t in texts) for w in wanted)} of {len(wanted)} commands heard right")


if __name__ == "__main__":
    main()
