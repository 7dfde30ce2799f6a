"""Make strings of spoken digits from single recordings: silence between, speed, noise, gain."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
FRAME = 320  # samples of one output frame of the network
TEST_TAKES = range(5)  # the customary test split of the Free Spoken Digit Dataset
DEV_TAKES = range(5, 8)
TRAIN_TAKES = range(8, 50)


@dataclass(frozen=True)
class Clip:
    """One recording: who speaks, which digits, and the samples, float32 [T] at 8 kHz."""

    speaker: str
    digits: list[int]
    audio: np.ndarray


Speakers = dict[str, list[Clip]]


def trim(audio: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """`audio` [T] without the silence at both ends, but for 10 ms."""
    loud = np.flatnonzero(np.abs(audio) > threshold * np.abs(audio).max())
    return audio[max(0, loud[0] - 80) : loud[-1] + 80]


def read_takes(folder: Path, takes: Iterable[int]) -> list[Clip]:
    """The recordings `{digit}_{speaker}_{take}.wav` of the given takes."""
    wanted = set(takes)
    clips = []
    for path in sorted(folder.glob("*_*_*.wav")):
        digit, speaker, take = path.stem.split("_")
        if int(take) in wanted:
            clips.append(Clip(speaker, [int(digit)], soundfile.read(path, dtype="float32")[0]))
    if not clips:
        raise SystemExit(f"no recordings named digit_speaker_take.wav in {folder}")
    return clips


def write_clips(path: Path, clips: list[Clip]) -> None:
    """Pack clips into one .npz file, 16 bits a sample."""
    audio = np.concatenate([np.round(clip.audio * 32767).clip(-32768, 32767).astype(np.int16) for clip in clips])
    digits = np.array(["".join(map(str, clip.digits)) for clip in clips])
    ends = np.cumsum([len(clip.audio) for clip in clips])
    np.savez_compressed(path, audio=audio, ends=ends, digits=digits, speakers=np.array([c.speaker for c in clips]))


def read_clips(path: Path, test: bool) -> list[Clip]:
    """The synthesised clips of the held-out voices (`test`) or of the others."""
    packed = np.load(path)
    audio = packed["audio"].astype(np.float32) / 32768
    parts = np.split(audio, packed["ends"][:-1])
    clips = [
        Clip(str(speaker), [int(d) for d in str(digits)], part)
        for speaker, digits, part in zip(packed["speakers"], packed["digits"], parts, strict=True)
    ]
    return [clip for clip in clips if clip.speaker.startswith("test:") == test]


def by_speaker(clips: list[Clip]) -> Speakers:
    """Clips grouped by who speaks."""
    speakers: Speakers = {}
    for clip in clips:
        speakers.setdefault(clip.speaker, []).append(clip)
    return speakers


def stretch(audio: np.ndarray, speed: float) -> np.ndarray:
    """Play `audio` [T] `speed` times as fast (pitch moves with it)."""
    return np.interp(np.arange(0, len(audio) - 1, speed), np.arange(len(audio)), audio).astype(np.float32)


def noise(length: int, draw: np.random.Generator) -> np.ndarray:
    """White, pink or brown noise, or mains hum under white noise, [length], of unit power."""
    kind = draw.random()
    sound = draw.standard_normal(length, dtype=np.float32)
    if kind < 0.6:
        spectrum = np.fft.rfft(sound)
        slope = draw.uniform(0.2, 1.0)  # 0.5 is pink, 1 is brown
        sound = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 8) ** slope, length)
    elif kind < 0.75:
        time = np.arange(length) / RATE
        mains = draw.choice([50, 60])
        tones = (mains * n * time + draw.random() for n in range(1, 6))
        hum = sum(draw.uniform(0, 0.5) * np.sin(2 * np.pi * tone) for tone in tones)
        sound = 0.3 * sound + 2 * hum
    return (sound / (np.sqrt(np.mean(sound**2)) + 1e-9)).astype(np.float32)


def mix(speech: np.ndarray, snr: float, draw: np.random.Generator) -> np.ndarray:
    """`speech` [T] with noise `snr` dB below the power of its sounding parts."""
    sounding = speech[np.abs(speech) > 1e-3]
    power = float(np.mean(sounding**2)) if len(sounding) else 1e-2
    return speech + noise(len(speech), draw) * np.sqrt(power * 10 ** (-snr / 10))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def string(clips: list[Clip], draw: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Clips in a row with 0 to 500 ms between them and around them, their levels up to 4 dB apart: audio, digits."""
    parts = [silence(draw.uniform(0.05, 0.5))]
    digits: list[int] = []
    for clip in clips:
        gap = draw.uniform(0, 0.02) if draw.random() < 0.2 else draw.uniform(0.02, 0.5)
        parts += [clip.audio * 10 ** (draw.uniform(-4, 4) / 20), silence(gap)]
        digits += clip.digits
    parts.append(silence(draw.uniform(0.05, 0.5)))
    return np.concatenate(parts), digits


def level(audio: np.ndarray, peak: float) -> np.ndarray:
    """`audio` [T] scaled so that its largest sample is `peak`."""
    return (audio * (peak / (np.abs(audio).max() + 1e-9))).astype(np.float32)


def colour(audio: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A random tilt of the spectrum, and now and then a short reverberation, of `audio` [T]."""
    tilt = draw.uniform(-0.5, 0.5)
    audio = audio + tilt * np.concatenate([audio[:1], audio[:-1]])
    if draw.random() < 0.2:
        room = draw.standard_normal(1200) * np.exp(-np.arange(1200) / draw.uniform(80, 400))
        room *= draw.uniform(0.1, 0.5) / np.sqrt(np.sum(room**2))
        room[0] = 1
        size = len(audio) + len(room)
        audio = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size), size)[: len(audio)]
    return audio.astype(np.float32)


@dataclass
class Example:
    """One training utterance: samples [T], its digits, and a token for every frame, [T // 320].

    A frame's token is that of the digit whose second half it lies in, else blank; -1 where that is not known, inside
    strings spoken in one breath.
    """

    audio: np.ndarray
    digits: list[int]
    frames: np.ndarray


def example(length: int, sources: list[Speakers], draw: np.random.Generator) -> Example:
    """A training utterance of exactly `length` samples; one of twenty has no digits."""
    speakers = sources[draw.integers(len(sources))]
    clips = speakers[list(speakers)[draw.integers(len(speakers))]]
    speed = draw.uniform(0.85, 1.15)
    tight = draw.random() < 0.2  # hardly any silence between the digits
    wanted = 0 if draw.random() < 0.05 else int(draw.integers(1, 9))
    placed: list[tuple[int, np.ndarray, list[int]]] = []
    at = int(draw.uniform(0, 0.5) * RATE)
    while sum(len(spoken_digits) for _, _, spoken_digits in placed) < wanted:
        clip = clips[draw.integers(len(clips))]
        spoken = stretch(clip.audio, speed * draw.uniform(0.95, 1.05))
        if at + len(spoken) > length:
            break
        placed.append((at, level(spoken, 10 ** (draw.uniform(-6, 0) / 20)), clip.digits))
        at += len(spoken) + int(draw.uniform(0, 0.02 if tight else 0.5) * RATE)
    # The silence left over goes to either end.
    shift = int(draw.integers(0, length - at + 1)) if at < length and draw.random() < 0.5 else 0
    audio = np.zeros(length, np.float32)
    frames = np.zeros(length // FRAME, np.int64)
    for start, spoken, digits in placed:
        start += shift
        end = start + len(spoken)
        audio[start:end] += spoken
        if len(digits) == 1:
            frames[(start + end) // 2 // FRAME : end // FRAME] = digits[0] + 1
        else:
            frames[start // FRAME : end // FRAME + 1] = -1
    audio = colour(audio, draw)
    if draw.random() < 0.9:
        audio = mix(audio, draw.uniform(5, 45), draw)
    audio = level(audio, 10 ** (draw.uniform(-30, 0) / 20) if placed else draw.uniform(0, 0.3))
    return Example(audio, [digit for _, _, digits in placed for digit in digits], frames)


def batches(sources: list[Speakers], seconds: float, seed: int) -> Iterator[list[Example]]:
    """Endless batches of about `seconds` of audio; the utterances of a batch all have one length, 2 to 6 s."""
    draw = np.random.default_rng(seed)
    while True:
        length = int(draw.uniform(2, 6) * RATE)
        yield [example(length, sources, draw) for _ in range(max(1, round(seconds * RATE / length)))]


def test_set(
    clips: list[Clip], snr: tuple[float, float], seed: int, strings: int = 300
) -> list[tuple[np.ndarray, list[int]]]:
    """`strings` utterances of 1 to 8 clips of one speaker each, with noise at `snr` dB and speeds of 0.9 to 1.1."""
    draw = np.random.default_rng(seed)
    speakers = by_speaker(clips)
    made = []
    for index in range(strings):
        takes = speakers[sorted(speakers)[index % len(speakers)]]
        chosen = [takes[i] for i in draw.integers(len(takes), size=draw.integers(1, 9))]
        audio, digits = string(chosen, draw)
        audio = mix(stretch(audio, draw.uniform(0.9, 1.1)), draw.uniform(*snr), draw)
        made.append((level(audio, 10 ** (draw.uniform(-20, -1) / 20)), digits))
    return made
