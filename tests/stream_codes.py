"""Codes inside ONNX files: what a whole and a streamed file quantize alike, value by value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from speechc.lowering.manifest import Manifest, initial_array
from speechc.lowering.streaming import layout_of


@dataclass
class Seen:
    """Codes compared, how many of them differ, and by how many quanta at most."""

    values: int = 0
    differ: int = 0
    most: int = 0

    def add(self, got: np.ndarray, want: np.ndarray) -> None:
        apart = np.abs(got.astype(int) - want)
        self.values += apart.size
        self.differ += int((apart > 0).sum())
        self.most = max(self.most, int(apart.max(initial=0)))


class Tapped:
    """A file that also gives every code that it computes, and where `given` takes codes from outside for what follows.

    With codes given, what one stretch of float ops does to codes is seen alone: a code that went the other way at a tie
    does not change what comes after it.
    """

    def __init__(self, path, given: bool = False):
        import onnx
        import onnxruntime

        model = onnx.load(path)
        graph, port = model.graph, onnx.helper.make_tensor_value_info
        own = {o.name for o in graph.output}
        types = {t.name: t.data_type for t in graph.initializer}
        by = {o: n for n in graph.node for o in n.output}
        made = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.output[0] not in own and not _masks(n, by)]
        self.codes = [n.output[0] for n in made]
        for node, name in zip(made, self.codes):
            graph.output.append(port(name, types[node.input[2]], None))
            for reader in graph.node if given else ():
                for i, read in enumerate(reader.input):
                    if read == name:
                        reader.input[i] = f"{name}.given"
            if given:
                graph.input.append(port(f"{name}.given", types[node.input[2]], None))
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.names = [o.name for o in self.session.get_outputs()]

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name."""
        wanted = {i.name: feeds[i.name] for i in self.session.get_inputs()}
        return dict(zip(self.names, self.session.run(None, wanted)))


def _masks(node, by) -> bool:
    """Whether a QuantizeLinear only puts masked codes back on their grid."""
    where = _behind_moves(node.input[0], by)
    if where is None or where.op_type != "Where":
        return False
    read = (_behind_moves(name, by) for name in where.input[1:])
    return any(n is not None and n.op_type == "DequantizeLinear" for n in read)


def _behind_moves(name: str, by):
    """The node that computes what `name` holds moved."""
    node = by.get(name)
    while node is not None and node.op_type in ("Reshape", "Transpose", "Slice"):
        node = by.get(node.input[0])
    return node


class Streamed(Tapped):
    """The same for a step file, fed one whole input chunk by chunk."""

    def __init__(self, path, manifest: Manifest, given: bool = False):
        super().__init__(path, given)
        self.manifest, self.layout = manifest, layout_of(manifest)

    def stream(self, x: np.ndarray, given: dict[str, list[np.ndarray]] | None = None) -> dict[str, list[np.ndarray]]:
        """Every output, a list over the steps; `given`: the codes for each step, by name."""
        (track,), chunk = self.layout.inputs, self.layout.chunk
        states = {s.file_name: initial_array(s) for s in self.manifest.states}
        frames, found = x.shape[track.axis], {name: [] for name in self.names}
        for k in range(self.layout.steps(frames)):
            part = x.take(range(min(k * chunk, frames), min((k + 1) * chunk, frames)), track.axis)
            valid = part.shape[track.axis]
            pads = [(0, chunk - valid if i == track.axis else 0) for i in range(x.ndim)]
            feeds = {track.name: np.pad(part, pads), "n_valid": np.int32([valid]), **states}
            out = self.run(feeds | {f"{n}.given": steps[k] for n, steps in (given or {}).items()})
            states = {s.file_name: out[s.output] for s in self.manifest.states}
            for name, array in out.items():
                found[name].append(array)
        return found


def compared(whole: Tapped, step: Streamed, forced: Streamed, x: np.ndarray) -> tuple[Seen, Seen]:
    """What differs between the codes of the whole and those streamed: of each float stretch alone, and in all."""
    (feed,) = whole.session.get_inputs()
    wanted, found = whole.run({feed.name: x}), step.stream(x)
    rank = lambda name, array: array[0] if array.ndim > found[name][0].ndim else array  # steps leave out a batch of 1
    rest, places, like = iter(whole.codes), {}, {}
    for name in step.codes:  # both are made in the same order; positions of the whole are constants of a step
        for other in rest:
            like[name] = rank(name, wanted[other])
            places[name] = _place(found[name], like[name])
            if places[name] is not None:
                break
        else:
            raise AssertionError(f"{name}: no codes of the whole are like these")
    wanted = like
    given, alone, everything = {}, Seen(), Seen()
    for name, (axis, late, frames) in places.items():
        steps, size = found[name], found[name][0].shape[axis]
        codes = np.concatenate(steps, axis).copy()
        at = (slice(None),) * axis + (slice(late, late + frames),)
        everything.add(codes[at], wanted[name])
        codes[at] = wanted[name]
        given[name] = np.split(codes, range(size, codes.shape[axis], size), axis)
    again = forced.stream(x, given)
    for name, (axis, late, frames) in places.items():
        codes = np.concatenate(again[name], axis)
        alone.add(codes.take(range(late, late + frames), axis), wanted[name])
    return alone, everything


def _place(steps: list[np.ndarray], whole: np.ndarray) -> tuple[int, int, int] | None:
    """Where the codes of the whole stand among those of the steps: the axis, how late they are, and how many."""
    if steps[0].ndim != whole.ndim:
        return None
    axes = [i for i, (a, b) in enumerate(zip(steps[0].shape, whole.shape)) if a != b]
    if len(axes) != 1:
        return None
    (axis,) = axes
    codes, frames = np.concatenate(steps, axis), whole.shape[axis]
    if codes.shape[axis] < frames:
        return None
    differ = lambda late: (codes.take(range(late, late + frames), axis) != whole).mean()
    late = min(range(codes.shape[axis] - frames + 1), key=differ)
    return (axis, late, frames) if differ(late) < 0.5 else None  # others agree by chance alone
