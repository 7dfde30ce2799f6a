"""What the streaming flags ask for, as passes: rewrites that change the meaning, and the streaming pass itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..ir.errors import UnsupportedError, UsageError
from ..ir.types import split_commas
from .durations import ticks

PASS = "streaming"


@dataclass
class Streaming:
    """The streaming settings of a compilation, durations as text; None: not asked for."""

    stream: str | int | None = None
    attention: str | None = None  # chunk:640ms,left=2560ms,right=0ms | window:left=…,right=…
    left_context: str | None = None
    conv: str | None = None  # delay | causal | chunk[:640ms]
    bidirectional: str | None = None  # forward | latency-controlled[:chunk=…,right=…]
    normalise: str | None = None  # fixed | cumulative | window[:3s]
    max_latency: str | None = None
    batch: int | None = None  # None: as many as the model was captured with
    own_inputs: bool = False  # of streams, not shared by them: those without time
    cache: str = "speed"
    frame_shift: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether a step file is to be made."""
        return self.stream is not None

    def checked(self) -> Streaming:
        """These settings, if flags that only a step file can have are given for one. Raises `UsageError` SC017."""
        if self.cache not in ("speed", "memory"):
            raise UsageError("SC017", f"--cache {self.cache}: one of speed, memory")
        if self.batch is not None and self.batch < 1:
            raise UsageError("SC017", f"--batch {self.batch}: 1 or more streams")
        for flag, given in (("--max-latency", self.max_latency is not None), ("--batch", self.batch is not None),
                            ("--cache memory", self.cache != "speed"), ("--own-inputs", self.own_inputs)):  # fmt: skip
            if given and not self.wanted:
                raise UsageError("SC017", f"{flag} is for files that take chunks", hints=["--stream 320ms with it"])
        return self


@dataclass(frozen=True)
class _Flag:
    """`KIND:value,name=value` taken apart: durations in ticks."""

    flag: str
    text: str
    kind: str
    given: Mapping[str, int]

    def known(self, *names: str) -> None:
        extra = sorted(set(self.given) - set(names))
        if extra:
            has = ", ".join(n for n in names if n) or "nothing"
            raise UsageError("SC017", f"{self.flag} {self.text}: {self.kind} takes {has}, not {', '.join(extra) or ''}")


def _taken_apart(flag: str, text: str, kinds: tuple[str, ...], hz: Fraction | None) -> _Flag:
    kind, _, rest = text.partition(":")
    if kind not in kinds:
        raise UsageError("SC017", f"{flag} {text}: one of {', '.join(kinds)}")
    given = {}
    for number, part in enumerate(split_commas(rest)):
        found = re.fullmatch(r"([a-z]+)=(.*)", part)
        name, value = found.groups() if found else ("", part)
        if name in given or (not found and number):
            raise UsageError("SC017", f"{flag} {text}: {part!r} is not name=duration")
        unlimited = name == "left" and value in ("all", "-1")
        given[name] = -1 if unlimited else ticks(value, hz, f"{flag} {name or kind}")
    return _Flag(flag, text, kind, given)


def rewrites(s: Streaming, hz: Fraction | None) -> list[str]:
    """The passes, as text, that turn the model into one that can stream; in order. Their loss is measured."""
    step = ticks(s.stream, hz, "--stream") if s.wanted else None
    attention, chunk = _attention(s, hz)
    made = [*attention]
    for flag, text, kinds, build in (
        ("--conv", s.conv, ("delay", "causal", "chunk"), _conv),
        ("--bidirectional", s.bidirectional, ("forward", "latency-controlled"), _bidirectional),
        ("--normalise", s.normalise, ("fixed", "cumulative", "window"), _normalise),
    ):
        if text is not None:
            made += build(_taken_apart(flag, text, kinds, hz), chunk or step, s.wanted)
    return made


def _attention(s: Streaming, hz: Fraction | None) -> tuple[list[str], int | None]:
    left = None if s.left_context is None else ticks(s.left_context, hz, "--left-context")
    if s.attention is None:
        return ([] if left is None else [f"limit-attention{{left={left}, only_left=True}}"]), None
    f = _taken_apart("--attention", s.attention, ("chunk", "window"), hz)
    if left is not None and "left" in f.given:
        raise UsageError("SC017", f"--left-context {s.left_context} and --attention {s.attention} both set the left")
    left = f.given.get("left", -1 if left is None else left)
    right = f.given.get("right", 0)
    if f.kind == "window":
        f.known("left", "right")
        return [f"limit-attention{{window=True, left={left}, right={right}}}"], None
    f.known("", "chunk", "left", "right")
    chunk = f.given.get("", f.given.get("chunk"))
    if not chunk or ("" in f.given and "chunk" in f.given):
        raise UsageError("SC017", f"--attention {s.attention}: write chunk:640ms,left=2560ms,right=0ms")
    return [f"limit-attention{{chunk={chunk}, left={left}, right={right}}}"], chunk


def _conv(f: _Flag, chunk: int | None, wanted: bool) -> list[str]:
    f.known(*(["", "chunk"] if f.kind == "chunk" else []))
    if f.kind == "delay":  # exact and late: nothing to rewrite
        return []
    if f.kind == "causal":
        return ["conv-context{mode='causal'}"]
    return [f"conv-context{{mode='chunk', chunk={_chunk(f, chunk)}}}"]


def _bidirectional(f: _Flag, chunk: int | None, wanted: bool) -> list[str]:
    if f.kind == "forward":
        f.known()
        return ["bidirectional{mode='forward'}"]
    f.known("", "chunk", "right")
    chunk = _chunk(f, chunk)
    return [f"bidirectional{{mode='latency-controlled', chunk={chunk}, right={f.given.get('right', chunk)}}}"]


def _normalise(f: _Flag, chunk: int | None, wanted: bool) -> list[str]:
    """A step has no last frame to give one answer at: an utterance's classifier answers at every frame."""
    f.known(*([""] if f.kind == "window" else []))
    each = ", outputs=True" if wanted else ""
    if f.kind != "window":
        return [f"normalise{{mode='{f.kind}'{each}}}"]
    if not f.given.get(""):
        raise UsageError("SC017", "--normalise window: how long is it?", hints=["--normalise window:3s"])
    return [f"normalise{{mode='window', frames={f.given['']}{each}}}"]


def _chunk(f: _Flag, chunk: int | None) -> int:
    own = f.given.get("", f.given.get("chunk", chunk))
    if not own:
        raise UsageError("SC017", f"{f.flag} {f.text}: how long is a chunk?", hints=[f"{f.flag} {f.kind}:640ms"])
    return own


def step_pass(s: Streaming, hz: Fraction | None, most: int | None = None) -> str:
    """The streaming pass, as text; `most`: frames of input that the model can take, None for any number."""
    chunk = ticks(s.stream, hz, "--stream")
    if chunk < 1:
        raise UsageError("SC047", f"--stream {s.stream}: a step takes at least one frame")
    more = (f", most={most}" if most else "") + (", own=True" if s.own_inputs else "")
    return f"{PASS}{{chunk={chunk}, batch={s.batch or 0}, cache='{s.cache}'{more}}}"


def fixed_scales(
    compress: tuple[str, ...], note: Callable[[str], None] = lambda text: None, one_frame: bool = False
) -> tuple[str, ...]:
    """Of the passes that quantize, those whose scales do not depend on how audio is cut into chunks.

    A scale found at run time over a whole tensor is another one for every chunk; one found for each frame is not.
    Steps of `one_frame` have nothing but frames to quantize: matrix products take a scale for each.
    Raises `UnsupportedError` SC208 where nothing is left; `note` is told what is left out.
    """
    if one_frame:
        compress = tuple(_by_frame(text) if 'per="tensor"' in text else text for text in compress)
    kept = tuple(text for text in compress if 'per="tensor"' not in text)
    if len(kept) == len(compress):
        return compress
    why = "activations quantized at run time by the whole tensor would have another scale in every chunk"
    if not kept:
        raise UnsupportedError(
            "SC208",
            f"--int8 with --stream: {why}, so that streamed is not whole",
            hints=["--calibrate DIR with recordings fixes the scales", "--fp16, or no --int8"],
        )
    note(f"{why}: such layers stay in float; --calibrate DIR fixes the scales")
    return kept


def _by_frame(text: str) -> str:
    """The quantizer with a scale for every row, and none for windows, which see several."""
    return re.sub(r'kinds="[^"]*"', 'kinds="linear"', text.replace('per="tensor"', 'per="row"'), count=1)
