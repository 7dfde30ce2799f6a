"""Train the digit recogniser and write its averaged weights as a state dict.

python train.py build/weights.pt --data ../shared/data/digits --voices build/voices.npz
"""

import argparse
import copy
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import DEV_TAKES, TRAIN_TAKES, Example, batches, by_speaker, read_clips, read_takes, test_set
from evaluate import errors
from model import Digits
from torch import Tensor, nn


def fit_statistics(model: Digits, audio: list[Tensor]) -> None:
    """Set the features' fixed mean and deviation, one per mel band, from batches of audio [B, T]."""
    with torch.no_grad():
        features = torch.cat([model.features(batch).flatten(0, 1) for batch in audio])
    model.features.mean.copy_(features.mean(0))
    model.features.std.copy_(features.std(0))


def mask_features(features: Tensor, draw: random.Random) -> Tensor:
    """SpecAugment on normalised features [B, F, mels]: two bands of at most 6 mels, two spans of at most 120 ms."""
    features = features.clone()
    _, frames, mels = features.shape
    for row in features:
        for _ in range(2):
            width, span = draw.randint(0, 6), draw.randint(0, 12)
            low, start = draw.randrange(mels - width), draw.randrange(frames - span)
            row[:, low : low + width] = 0
            row[start : start + span] = 0
    return features


def draw_context(draw: random.Random) -> tuple[int, int]:
    """Chunk and left context in frames for one batch: half of them whole, half chunks of 160 ms to 1.28 s."""
    if draw.random() < 0.5:
        return 0, -1
    chunk = draw.randint(4, 32)
    return chunk, -1 if draw.random() < 0.3 else chunk * draw.randint(1, max(1, 96 // chunk))


def stack(batch: list[Example], device: torch.device) -> Tensor:
    """The audio of a batch, [B, T]."""
    return torch.from_numpy(np.stack([utterance.audio for utterance in batch])).to(device)


def ctc(log_probs: Tensor, batch: list[Example]) -> Tensor:
    """CTC loss of log-probabilities [B, N, 11], every row N frames long."""
    targets = torch.tensor([d + 1 for utterance in batch for d in utterance.digits], device=log_probs.device)
    lengths = torch.full((len(batch),), log_probs.shape[1])
    counts = torch.tensor([len(utterance.digits) for utterance in batch])
    return F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, counts, zero_infinity=True)


def alignment(log_probs: Tensor, batch: list[Example]) -> Tensor:
    """Cross entropy of log-probabilities [B, N, 11] with the frames at which the digits were put."""
    frames = torch.from_numpy(np.stack([utterance.frames for utterance in batch])).to(log_probs.device)
    return F.nll_loss(log_probs.flatten(0, 1), frames.flatten(), ignore_index=-1)


def alignment_weight(step: int, steps: int) -> float:
    """Starts at 3 and falls to 0 over a third of the steps: it spares CTC its slow start, then leaves it alone."""
    return max(0.0, 3 * (1 - 3 * step / steps))


@torch.no_grad()
def average(mean: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every weight and statistic of `mean` towards those of `model`."""
    for old, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        old.lerp_(new, 1 - decay) if old.is_floating_point() else old.copy_(new)


def rate(step: int, steps: int, peak: float) -> float:
    """Learning rate: a linear rise over 5 % of the steps, then a cosine to zero."""
    rise = max(1, steps // 20)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--voices", type=Path, required=True, help="file written by synthesise.py")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=float, default=40, help="seconds of audio in a batch")
    parser.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints and scores on the dev set")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    draw = random.Random(options.seed)

    real = by_speaker(read_takes(options.data, TRAIN_TAKES))
    voices = by_speaker(read_clips(options.voices, test=False))
    dev = test_set(read_takes(options.data, DEV_TAKES), (10, 40), seed=1, strings=60)
    stream = batches([real, voices], options.batch, options.seed)

    model = Digits().to(device)
    fit_statistics(model, [stack(next(stream), device) for _ in range(8)])
    mean = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.peak, betas=(0.9, 0.98), weight_decay=1e-2)
    first = 0
    checkpoint = options.out.with_suffix(".checkpoint")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.resume and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        mean.load_state_dict(saved["mean"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
        draw.seed(first)
        stream = batches([real, voices], options.batch, options.seed + first)

    began, total = time.time(), 0.0
    for step in range(first, options.steps):
        batch = next(stream)
        with torch.no_grad():
            features = mask_features(model.features(stack(batch, device)), draw)
        log_probs = model.train().encode(features, *draw_context(draw))
        loss = ctc(log_probs, batch) + alignment_weight(step, options.steps) * alignment(log_probs, batch)
        optimizer.param_groups[0]["lr"] = rate(step, options.steps, options.peak)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average(mean, model, min(0.995, (step + 1) / (step + 10)))
        total += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {total / 50:.3f}, {time.time() - began:.0f} s", flush=True)
            total = 0.0
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            whole, chunked = (errors(mean, dev, chunk, left, device) for chunk, left in ((0, -1), (16, 64)))
            print(f"step {step + 1}: dev WER whole {whole.rate:.2%}, 640 ms chunks {chunked.rate:.2%}", flush=True)
            torch.save(mean.state_dict(), options.out)
            state = {"model": model.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step + 1}, checkpoint)


if __name__ == "__main__":
    main()
