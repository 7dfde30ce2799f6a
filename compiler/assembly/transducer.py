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
    audio: str = "audio=f32[1,T]",
    sample_rate: int | None = None,
    blank: int = 0,
    start: int | None = None,
    most: int = 5,
    moves: bool = False,
    **more: Any,
) -> Parts:
    """Parts of a transducer from three modules, each for a batch of one.

    `encoder(audio)`: to [1, frames, sizes[0]]; `audio` is its argument and type, T samples, or frames of features.
    `predictor(tokens)`: all tokens so far i64[1, T], the start token first, to [1, T, sizes[1]]; it becomes a step over
    tokens. `joiner(heard, said)`: any number of pairs, [1, T, sizes[0]] and [1, T, sizes[1]], to scores of the classes
    [1, T, tokens]. Arguments have these names. `blank`, `start`,
    `most` and `moves` are the `Rules` of the search; `more` goes to `Parts`.
    """
    name, _, text = audio.partition("=")
    axis = [size.strip() for size in text[text.index("[") + 1 : -1].split(",")].index("T")
    heard, said = (f"f32[1,T,{size}]" for size in sizes)
    return Parts(
        KIND,
        {
            ENCODER: Part(encoder, {name: text}, ("encoded",), {name: axis}, listens=True),
            PREDICTOR: Part(predictor, {"tokens": "i64[1,T]"}, ("predicted",), {"tokens": 1}, stream=1),
            JOINER: Part(joiner, {"heard": heard, "said": said}, ("scores",), {"heard": 1, "said": 1}),
        },
        {"blank": blank, "start": start, "most": most, "moves": moves},
        list(tokens),
        sample_rate=sample_rate,
        **more,
    )
