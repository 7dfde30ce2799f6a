"""Options of targets as flags of their own: `--minimum-deployment iOS17` is `--option minimum_deployment=iOS17`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir.errors import SpeechcError
from ..lowering.target import Option, available
from ..lowering.target import target as find_target

ALL = "all"  # what --target says for every target


def as_options(arguments: Sequence[str], taken: Iterable[str]) -> list[str]:
    """The arguments of `compile`, with flags that the target knows, and the command itself (`taken`) does not, as
    `--option NAME=VALUE`."""
    names = _targets(arguments)
    known = {_flag(o): o for name in names for o in options_of(name)}
    for flag in taken:
        known.pop(flag, None)
    made, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in known:
            made.append(word)
            continue
        option = known[flag]
        if not equals:
            value = "true" if isinstance(option.default, bool) else rest.pop(0) if rest else ""
        made += ["--option", f"{option.name}={value}"]
    return made


def options_of(name: str) -> tuple[Option, ...]:
    """The options of a target; none where there is no such target, which the command itself will say."""
    try:
        return find_target(name).options
    except SpeechcError:
        return ()


def _flag(option: Option) -> str:
    return "--" + option.name.replace("_", "-")


def _targets(arguments: Sequence[str]) -> list[str]:
    """The targets that `--target` names."""
    wanted = "onnx"
    for i, word in enumerate(arguments):
        if word in ("-t", "--target") and i + 1 < len(arguments):
            wanted = arguments[i + 1]
        elif word.startswith("--target="):
            wanted = word.partition("=")[2]
    return available() if wanted == ALL else [wanted]
