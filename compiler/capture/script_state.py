"""What a script keeps in its attributes from call to call: which of it is state, and what the state starts from.

An attribute is carried when forward reads it before setting it, and has set or changed it in the call before. Tensors
that are carried become buffers that forward changes, so states of the graph; numbers that are carried must settle
after one call (the sample rate of the last call, a flag), since a graph has one value for them. A state starts from
the file's value if that has the state's shape; else (None, an empty tensor) from what forward itself puts there before
it goes on, else from zeros. Whichever it is, the script run by torch from the file and the modules run from these
states must give the same over several calls, or capture refuses.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ...ir.errors import CaptureError
from .script_module import Root, Scripted, map_tensors

CALLS = 4  # of the comparison: the first settles, later ones carry
TOLERANCE = 1e-4  # of the largest output; float32, perhaps fused differently


@dataclass
class State:
    """One carried attribute: its module, its name, and the buffers of its tensors."""

    owner: Scripted
    name: str
    tree: Any
    buffers: list[str]


def forget(module: Root) -> None:
    """Make every call start from the file's own values."""

    modules = [m for _, m in scripted_modules(module)]
    for m in modules:
        m.restart()

    def before() -> None:
        for m in modules:
            m.values.clear()
            m.start_call()

    module.before, module.after = before, lambda: None


def scripted_modules(module: Root) -> Iterator[tuple[str, Scripted]]:
    for path, m in module.named_modules(remove_duplicate=False):
        if isinstance(m, Scripted):
            yield path, m


def settle(module: Root, original: Original, samples: Mapping[str, torch.Tensor]) -> None:
    """Give `module` states for what its script carries; `samples` are inputs that it accepts.

    Raises `CaptureError` SC405: a carried number changes at every call, a tensor changes its shape, an attribute is
    sometimes a tensor, or no start was found from which the script's own outputs follow.
    """
    with torch.no_grad():
        first, second, mutated = _two_calls(module, samples)
    states, constants = [], {}
    for path, m in scripted_modules(module):
        constants[m] = dict(second[m])
        changed = m.changed | {n for n, v in second[m].items() if not _same(v, m.filed(n))}
        original.watch(m.hidden[0], changed | mutated[m])
        for name in sorted(m.carried & changed):
            place = f"{path}.{name}" if path else name
            kind, before = _kind(second[m][name]), first[m].get(name)
            if kind == "mixed" or (kind == "plain" and not _same(before, second[m][name])):
                raise _no(place, "is partly tensors" if kind == "mixed" else "is no tensor and changes at every call")
            if kind == "tensor":
                states.append(_state(m, name, place, before, second[m][name]))
        for name in [n for n, v in second[m].items() if isinstance(v, torch.Tensor)]:
            tensor = constants[m].pop(name)
            if name not in changed and name not in m._buffers:
                m._buffers[name] = tensor
                m._non_persistent_buffers_set.add(name)
    for s in states:
        constants[s.owner].pop(s.name, None)
    _install(module, states, constants)
    _compare(module, original, samples)


def _two_calls(module: Root, samples) -> tuple[dict, dict, dict]:
    """Every module's values after one call from the file's and after another; the buffers that were written to."""
    forget(module)
    modules = [m for _, m in scripted_modules(module)]
    buffers = [(m, n, b, b.clone()) for m in modules for n, b in m._buffers.items()]
    after = []
    for _ in range(2):
        module(**samples)
        after.append({m: map_tensors(_copied, m.values) for m in modules})
        module.before = lambda: [m.start_call() for m in modules]
    mutated: dict[Scripted, set[str]] = {m: set() for m in modules}
    for m, name, tensor, values in buffers:
        if not _same(tensor, values):
            mutated[m].add(name)
            tensor.copy_(values)
    return after[0], after[1], mutated


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if isinstance(tensor, torch.nn.Parameter) else tensor.clone()


def _same(a: Any, b: Any) -> bool:
    (left, tree), (right, other) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    return tree == other and all(
        type(x) is type(y) and (torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y)
        for x, y in zip(left, right)
    )


def _kind(value: Any) -> str:
    found = {isinstance(x, torch.Tensor) for x in pytree.tree_leaves(value)}
    return "mixed" if len(found) == 2 else "tensor" if found == {True} else "plain"


def _state(m: Scripted, name: str, place: str, first: Any, second: Any) -> State:
    """The buffers of a carried attribute, filled with what it starts from."""
    leaves, tree = pytree.tree_flatten(second)
    form = [(x.shape, x.dtype) for x in leaves]

    def fits(value: Any) -> bool:
        found, other = pytree.tree_flatten(value)
        return other == tree and all(isinstance(x, torch.Tensor) for x in found) and [
            (x.shape, x.dtype) for x in found
        ] == form  # fmt: skip

    if not fits(first):
        raise _no(place, "changes its shape from call to call")
    starts = [m.filed(name), *m.first_assigned.get(name, [])[:-1], pytree.tree_map(torch.zeros_like, second)]
    start = pytree.tree_leaves(next(s for s in starts if fits(s)))
    names = [name] if len(leaves) == 1 else [f"{name}_{i}" for i in range(len(leaves))]
    for buffer, tensor in zip(names, start):
        m._buffers[buffer] = tensor.detach().clone().contiguous()
    return State(m, name, tree, names)


def _install(module: Root, states: list[State], constants: Mapping[Scripted, dict[str, Any]]) -> None:
    """Make forward start from the buffers of its states and leave them as its script would."""

    def before() -> None:
        for m, values in constants.items():
            m.values.clear()
            m.values.update(map_tensors(m.known, values))
            m.start_call()
        for s in states:
            s.owner.values[s.name] = pytree.tree_unflatten([s.owner._buffers[b] for b in s.buffers], s.tree)

    def after() -> None:
        new = []
        for s in states:
            leaves, tree = pytree.tree_flatten(s.owner.values[s.name])
            old = [s.owner._buffers[b] for b in s.buffers]
            if tree != s.tree or any(x.shape != o.shape or x.dtype != o.dtype for x, o in zip(leaves, old)):
                raise _no(s.name, "changes its shape from call to call")
            new += [(o, x.clone()) for o, x in zip(old, leaves) if x is not o]  # one may be a view of another
        for old, value in new:
            old.copy_(value)
        for m, values in constants.items():
            for name in sorted(m.carried & set(values)):
                if _kind(values[name]) == "plain" and m.values[name] != values[name]:
                    raise _no(name, "is no tensor and changes again after it has settled")

    module.before, module.after = before, after


def _compare(module: Root, original: Original, samples: Mapping[str, torch.Tensor]) -> None:
    """The script as torch runs it, from the file, against the modules from their states, call by call."""
    buffers = [(b, b.clone()) for b in module.buffers()]
    original.restore()
    with torch.no_grad():
        for k in range(CALLS):
            fed = {n: x.roll(17 * k, -1) if x.ndim else x for n, x in samples.items()}
            want, got = pytree.tree_leaves(original.call(fed)), pytree.tree_leaves(module(**fed))
            for a, b in zip(want, got, strict=True):
                if isinstance(a, torch.Tensor) and not _close(a, b):
                    raise CaptureError(
                        "SC405",
                        f"the script's call {k + 1} gives something else than the captured states lead to: what it "
                        "carries from call to call starts in a way that was not found",
                        hints=["save the script with its states in their full shapes, as after its own reset"],
                    )
    for tensor, values in buffers:
        tensor.copy_(values)
    original.restore()


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    if not a.is_floating_point():
        return torch.equal(a, b)
    scale = a.abs().nan_to_num(0, 0, 0).max().clamp(min=1e-6)
    return bool(torch.allclose(a / scale, b / scale, rtol=0, atol=TOLERANCE, equal_nan=True))


def _no(attribute: str, what: str) -> CaptureError:
    return CaptureError(
        "SC405",
        f"{attribute} of the script {what}, which a graph cannot hold",
        hints=["keep what is carried from call to call in tensors of fixed shape (a counter: torch.zeros(1))"],
    )


class Original:
    """The script as torch itself runs it, for comparison; `restore` puts back the file's state."""

    def __init__(self, script: torch.jit.ScriptModule, constants: Mapping[str, Any]):
        self.script, self.constants = script, dict(constants)
        self.filed: list[tuple[torch.jit.ScriptModule, str, Any]] = []

    def watch(self, script: torch.jit.ScriptModule, names: set[str]) -> None:
        """Remember the file's values of attributes that forward sets or changes, before the script has run."""
        self.filed += [(script, n, copy.deepcopy(script._c.getattr(n))) for n in sorted(names)]

    def restore(self) -> None:
        for script, name, value in self.filed:
            script._c.setattr(name, copy.deepcopy(value))

    def call(self, feeds: Mapping[str, torch.Tensor]) -> Any:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            return self.script(**feeds, **self.constants)

    def __call__(self, **feeds: torch.Tensor) -> Any:
        return self.call(feeds)
