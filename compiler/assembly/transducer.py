"""A transducer (Graves 2012) as parts: an encoder of audio, a predictor over tokens, and what joins them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .parts import Part, Parts

KIND, ENCODER, PREDICTOR, JOINER = "transducer", "encoder", "predictor", "joiner"


def transducer(
    encoder: Any,
    predictor: Any,
    joiner: Any,
    sizes: tuple[int, int],
    tokens: Sequence[str],
    audio: str = "f32[1,T]",
    sample_rate: int | None = None,
    blank: int = 0,
    start: int | None = None,
    most: int = 5,
    moves: bool = False,
    **more: Any,
) -> Parts:
    """Parts of a transducer from three modules, each for a batch of one.

    `encoder`: audio (or features: `audio` is their type, T their frames) to [1, frames, sizes[0]]. `predictor`: all
    tokens so far i64[1, T], the start token first, to [1, T, sizes[1]]; it becomes a step over tokens. `joiner`: any
    number of pairs, [1, T, sizes[0]] and [1, T, sizes[1]], to scores of the classes [1, T, tokens]. `blank`, `start`,
    `most` and `moves` are the `Rules` of the search; `more` goes to `Parts`.
    """
    axis = next(i for i, size in enumerate(audio[audio.index("[") + 1 : -1].split(",")) if size.strip() == "T")
    heard, said = (f"f32[1,T,{size}]" for size in sizes)
    return Parts(
        KIND,
        {
            ENCODER: Part(encoder, {"audio": audio}, ("encoded",), {"audio": axis}, listens=True),
            PREDICTOR: Part(predictor, {"tokens": "i64[1,T]"}, ("predicted",), {"tokens": 1}, stream=1),
            JOINER: Part(joiner, {"heard": heard, "said": said}, ("scores",), {"heard": 1, "said": 1}),
        },
        {"blank": blank, "start": start, "most": most, "moves": moves},
        list(tokens),
        sample_rate=sample_rate,
        **more,
    )
