"""Speak digits with espeak-ng in many voices and pack the clips into one file for training and testing.

python synthesise.py build/voices.npz
"""

import argparse
import io
import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from data import Clip, trim, write_clips

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ACCENTS = ["en", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029", "en-us-nyc"]
VARIANTS = [
    *("m1", "m2", "m3", "m4", "m6", "m7", "m8", "f1", "f2", "f4", "f5", "Alex", "Alicia", "Andy", "Annie", "Gene"),
    *("Jacky", "Lee", "Mario", "Mike", "adam", "anika", "antonio", "aunty", "benjamin", "boris", "david", "ed"),
    *("edward", "grandma", "iven", "john", "klatt", "klatt2", "linda", "max", "miguel", "paul", "quincy", "rob"),
    *("sandro", "shelby", "steph", "travis", "zac"),
]
HELD_OUT = ["m5", "f3", "Michael", "belinda", "Denis", "victor"]  # spoken by no training voice, whatever the accent


def speak(text: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """`text` in an espeak-ng voice, float32 [T] at 8 kHz, without the silence around it."""
    command = ["espeak-ng", "--stdout", "-v", voice, "-p", str(pitch), "-s", str(speed), text]
    wav = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    audio, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    return trim(soxr.resample(audio, rate, 8000))


# The files that ship in audio/: voice, pitch, speed, digits.
SAMPLES = [
    ("en-us", 50, 150, "371"),
    ("en-gb-x-rp+f2", 50, 140, "4096"),
    ("en-gb-scotland+m3", 45, 140, "58213"),
    ("en-us+f4", 55, 150, "7702"),
    ("en+m1", 40, 150, "164935"),
    ("en-us+m5", 50, 140, "82650"),
]


def write_samples(folder: Path) -> None:
    """Speak SAMPLES to 16-bit mono files of 8 kHz, 300 ms of silence around them, and list them in texts.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for voice, pitch, speed, digits in SAMPLES:
        spoken = speak(", ".join(WORDS[int(digit)] for digit in digits), voice, pitch, speed)
        audio = np.pad(0.5 * spoken / np.abs(spoken).max(), 2400)
        soundfile.write(folder / f"{digits}.wav", audio, 8000, subtype="PCM_16")
        lines.append(json.dumps({"audio": f"{digits}.wav", "text": " ".join(digits)}))
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")


def clips_of(voice: str, seed: int, strings: int) -> list[Clip]:
    """Every digit once, and `strings` natural strings of 2 to 5 digits, at one pitch and speed."""
    draw = random.Random(seed)
    pitch, speed = draw.randint(25, 75), draw.randint(120, 210)
    texts = [[digit] for digit in range(10)]
    texts += [[draw.randrange(10) for _ in range(draw.randint(2, 5))] for _ in range(strings)]
    comma = draw.random() < 0.3  # some voices pause between digits
    join = ", ".join if comma else " ".join
    return [Clip(voice, digits, speak(join(WORDS[d] for d in digits), voice, pitch, speed)) for digits in texts]


def synthesise(voices: int, seed: int = 0) -> list[Clip]:
    """Clips of `voices` training voices, and of the held-out ones, whose names begin with `test:`."""
    draw = random.Random(seed)
    names = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    names = draw.sample(names, min(voices, len(names)))
    tests = [f"{accent}+{variant}" for variant in HELD_OUT for accent in draw.sample(ACCENTS, 3)]
    with ThreadPoolExecutor(2) as pool:
        spoken = list(pool.map(lambda job: clips_of(job[1], job[0], 6), enumerate(names + tests)))
    held = {voice: f"test:{voice}" for voice in tests}
    return [Clip(held.get(c.speaker, c.speaker), c.digits, c.audio) for clips in spoken for c in clips]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voices", type=int, default=140, help="training voices (default 140)")
    parser.add_argument("--samples", type=Path, help="also write the files of audio/ to this folder")
    options = parser.parse_args()
    if options.samples:
        write_samples(options.samples)
    clips = synthesise(options.voices)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_clips(options.out, clips)
    seconds = sum(len(clip.audio) for clip in clips) / 8000
    print(f"{len(clips)} clips of {len({c.speaker for c in clips})} voices, {seconds / 60:.1f} minutes: {options.out}")


if __name__ == "__main__":
    main()
