"""Train the keyword spotter on recordings of digits, export it as an archive, and print how well it finds the keyword.

python train.py model.pt --data FOLDER [--voices voices.npz]

Two or three minutes on one core. FOLDER holds recordings named digit_speaker_take.wav (the Free Spoken Digit Dataset);
`../digits/synthesise.py` makes voices.npz.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from model import BINS, FRONT_END, KEYWORD, SAMPLE_RATE, STRIDE, Keyword
from speechc.compiler.spans import Rule, Spans
from speechc.passes.front_end.reference import features, graph_of
from speechc.passes.front_end.spec import parse
from strings import String, clips, hiss, score, spoken, string, strings
from torch.nn import functional as F

SAMPLE = Path(__file__).parent.parent / "digits" / "audio" / "371.wav"  # the keyword is in it
SECONDS = 3.0
STEP = STRIDE * 0.01  # seconds between scores
WINDOW = 0.025 + 0.01 * (STRIDE - 1)  # seconds that the first score has heard
RULE = {"smooth": 3, "gap_ms": 300}
LABEL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][KEYWORD]


def targets(made: String, scores: int) -> np.ndarray:
    """1 from 60 ms before the end of a keyword to 200 ms after it, -1 (any) around that, else 0: i64[scores]."""
    at = WINDOW + STEP * np.arange(scores)
    wanted = np.zeros(scores, np.int64)
    for begin, end in made.keywords:
        wanted[(at >= (begin + end) / 2) & (at <= end + 0.32)] = -1
    for _, end in made.keywords:
        wanted[(at >= end - 0.06) & (at <= end + 0.2)] = 1
    return wanted


class Features:
    """Audio f32[T] to features f32[frames, 40], by the front end that the compiled file has."""

    def __init__(self):
        self.spec = parse(FRONT_END)
        self.graph = graph_of(self.spec)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        return features(self.spec, audio[None], self.graph)[0]


def material(folder: Path, voices: Path | None, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [count, frames, 40] and targets [count, frames // 3] of strings from the training takes.

    A third of the strings are of synthesised voices, where there are any.
    """
    draw, front_end = np.random.default_rng(seed), Features()
    sources = [clips(folder, range(8, 50))] * 2 + ([] if voices is None else [spoken(voices, False)])
    made = [
        hiss(SECONDS, draw) if draw.random() < 0.05 else string(sources[i % len(sources)], SECONDS, (3, 40), draw)
        for i in range(count)
    ]
    found = np.stack([front_end(m.audio) for m in made])
    return torch.from_numpy(found), torch.from_numpy(np.stack([targets(m, found.shape[1] // STRIDE) for m in made]))


def train(folder: Path, voices: Path | None, steps: int, count: int, batch: int = 64, seed: int = 0) -> Keyword:
    """A trained model; the learning rate rises and falls once (Smith and Topin 2018)."""
    torch.manual_seed(seed)
    model = Keyword()
    x, y = material(folder, voices, count, seed)
    print(f"features: mean {x.mean():.2f}, deviation {x.std():.2f}")  # about 0 and 1, or the front end's are to change
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    weight, losses = torch.tensor(3.0), []
    for step in range(steps):
        rows = torch.randint(len(x), (batch,))
        given, wanted = x[rows], y[rows]
        given = given + 0.3 * torch.randn(batch, 1, 1) + 0.05 * torch.randn_like(given)  # levels, and coarse scales
        low = int(torch.randint(BINS - 6, ()))
        given[: batch // 2, :, low : low + int(torch.randint(6, ()))] = 0  # bands masked, as SpecAugment does
        loss = F.binary_cross_entropy_with_logits(
            model(given)[..., 0], wanted.clamp(min=0).float(), (wanted >= 0).float(), pos_weight=weight
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-250:]):.4f}", flush=True)
    return model.eval()


@torch.inference_mode()
def threshold(model: Keyword, folder: Path) -> float:
    """The threshold with the fewest errors on the takes for choosing; a false detection counts as three misses."""
    front_end, tests = Features(), strings(folder, range(5, 8), 100, (5, 30), 1)
    scores = {id(t.audio): model(torch.from_numpy(front_end(t.audio))[None])[0, :, 0].tolist() for t in tests}

    def heard(limit: float):
        def found(audio: np.ndarray) -> list[tuple[float, float]]:
            spans = Spans(Rule.of({**RULE, "threshold": limit}), STEP)
            for value in scores[id(audio)]:
                spans.add(value)
            return [(s.start, s.end) for s in spans.told()]

        return found

    totals = {limit: score(heard(limit), tests) for limit in np.arange(-2, 6.1, 0.5)}
    for limit, total in totals.items():
        print(f"threshold {limit:.2f}: {total.missed} of {total.said} missed, {total.false} false")
    return float(min(totals, key=lambda limit: totals[limit].missed + 3 * totals[limit].false))


def export(model: Keyword, path: Path, limit: float) -> None:
    """Write the archive: `features` [1, T, 40] -> `log_odds` [1, T // 3, 1]."""
    sample, _ = soundfile.read(SAMPLE, dtype="float32")
    given = torch.from_numpy(Features()(sample))[None]
    program = torch.export.export(model, (given,), dynamic_shapes=({1: torch.export.Dim("T", min=6, max=100000)},))
    for node in program.graph.nodes:  # an archive names source files, not the folders of whoever exported it
        node.meta.pop("stack_trace", None)
    about = {"sample_rate": SAMPLE_RATE, "detect": {"threshold": limit, "labels": [LABEL], **RULE}}
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"speechc.json": json.dumps(about)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--voices", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--strings", type=int, default=4000)
    options = parser.parse_args()
    model = train(options.data, options.voices, options.steps, options.strings)
    limit = threshold(model, options.data)
    export(model, options.out, limit)
    count = sum(p.numel() for p in model.parameters())
    print(f"{options.out}: {count} parameters, {options.out.stat().st_size:,} bytes, threshold {limit}")


if __name__ == "__main__":
    main()
