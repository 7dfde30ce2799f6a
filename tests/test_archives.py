"""Files: recognised by content, read without running anything, and one clean error for each that is bad."""

import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from speechc.compiler.capture import capture, capture_with_reference
from speechc.compiler.capture.recognise import Kind, recognise
from speechc.compiler.capture.source import open_source
from speechc.ir.errors import CaptureError, UsageError
from speechc.ir.interpreter import run
from torch import nn


class Net(nn.Module):
    """Small, with the things that archives hold: parameters, a buffer, a constant, a symbolic length."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))
        self.table = torch.arange(3.0)

    def forward(self, x):
        y = self.linear(x) * self.scale + self.table
        return {"scores": y[:, : x.shape[1] // 2], "last": y[:, -1]}


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("archives") / "net.pt2"
    program = torch.export.export(Net().eval(), (torch.randn(1, 10, 4),), dynamic_shapes=({1: torch.export.Dim.AUTO},))
    torch.export.save(program, path, extra_files={"speechc.json": json.dumps({"sample_rate": 16000, "tokens": ["a"]})})
    return path


def doctored(archive: Path, tmp_path: Path, change) -> Path:
    """A copy whose members went through `change(members)`; names without the archive's own folder."""
    out = tmp_path / "doctored.pt2"
    with zipfile.ZipFile(archive) as file:
        members = {n.partition("/")[2]: file.read(n) for n in file.namelist()}
    change(members)
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(f"archive/{name}", data)
    return out


def edited(path: tuple, value):
    """A change of the program's JSON: the item at `path` becomes `value`."""

    def change(members):
        program = json.loads(members["models/model.json"])
        item = program
        for key in path[:-1]:
            item = item[key]
        item[path[-1]] = value(item.get(path[-1])) if callable(value) else value
        members["models/model.json"] = json.dumps(program).encode()

    return change


def configured(folder: str, **fields):
    """A change of the first payload's entry in a folder's configuration."""

    def change(members):
        name = f"data/{folder}/model_{folder}_config.json"
        config = json.loads(members[name])
        first = next(iter(config["config"].values()))
        first.update(fields)
        members[name] = json.dumps(config).encode()

    return change


def test_archive_opens(archive):
    source = open_source(archive)
    assert source.about == {"sample_rate": 16000, "tokens": ["a"]} and len(source.digest) == 64
    module, reference = capture_with_reference(archive)
    assert module.main.output_names == ["scores", "last"]
    assert module.meta["sample_rate"] == 16000 and module.meta["source_hash"] == source.digest
    for length in (4, 7, 15):
        feeds = {"x": np.random.default_rng(0).standard_normal((1, length, 4), dtype=np.float32)}
        for a, b in zip(reference(feeds), run(module.main, feeds), strict=True):
            assert np.abs(a - b).max() < 1e-5


def test_content_decides_not_the_name(archive, tmp_path):
    plain = shutil.copy(archive, tmp_path / "model.onnx")
    assert recognise(Path(plain)) == (Kind.ARCHIVE, "")
    (tmp_path / "model.pt2").write_bytes(b"not a model at all")
    assert recognise(tmp_path / "model.pt2")[0] is Kind.OTHER


# -- hostile archives: each makes a file if anything in it is run ----------------------------------------------------
def pickled(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def saved(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((Bomb(mark),), buffer)
    return buffer.getvalue()


def shell(mark: Path) -> str:
    return f"__import__('pathlib').Path({str(mark)!r}).touch()"


def first_node(item, value):
    return ("graph_module", "graph", "nodes", 0, item), value


def put(name, make):
    return lambda mark: lambda members: members.update({name: make(mark)})


HOSTILE = {
    "sample inputs, a pickle": put("data/sample_inputs/model.pt", pickled),
    "sample inputs, torch.save": put("data/sample_inputs/model.pt", saved),
    "weights in the old form": put("data/weights/model.pt", saved),
    "constants in the old form": put("data/constants/model.pt", saved),
    "a pickled weight": lambda mark: (
        lambda members: (
            configured("weights", use_pickle=True, path_name="weight_0")(members),
            members.update({"data/weights/weight_0": saved(mark)}),
        )
    ),
    "an opaque object": lambda mark: (
        lambda members: (
            configured("constants", use_pickle=True, path_name="opaque_obj_0")(members),
            members.update({"data/constants/opaque_obj_0": pickled(mark)}),
        )
    ),
    "a custom object": lambda mark: (
        lambda members: (
            configured("constants", path_name="custom_obj_0")(members),
            members.update({"data/constants/custom_obj_0": saved(mark)}),
        )
    ),
    "a size": lambda mark: edited(
        ("graph_module", "graph", "tensor_values", "x", "sizes", 1, "as_expr", "expr_str"), shell(mark)
    ),
    "a size with a call inside": lambda mark: edited(
        ("graph_module", "graph", "tensor_values", "x", "sizes", 1, "as_expr", "expr_str"), f"Max(1, {shell(mark)})"
    ),
    "a size with an attribute": lambda mark: edited(
        ("graph_module", "graph", "tensor_values", "x", "sizes", 1, "as_expr", "expr_str"), "Max.__class__(1)"
    ),
    "a range": lambda mark: edited(("range_constraints",), lambda old: {shell(mark): {"min_val": 2, "max_val": 9}}),
    "a guard": lambda mark: edited(("guards_code",), [shell(mark)]),
    "an operator of Python": lambda mark: edited(*first_node("target", "torch.os.system")),
    "a loader of libraries": lambda mark: edited(*first_node("target", "torch.ops.load_library")),
    "a download": lambda mark: edited(*first_node("target", "torch.hub.load")),
    "a file": lambda mark: edited(*first_node("target", "torch.ops.aten.from_file.default")),
    "a name that is code": lambda mark: (
        lambda members: members.update(
            {"models/model.json": members["models/model.json"].replace(b'"x"', json.dumps(f"x={shell(mark)}").encode())}
        )
    ),
    "a tree that imports": lambda mark: edited(
        ("graph_module", "module_call_graph", 0, "signature", "in_spec"),
        '[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true, \\"fqn\\": \\"antigravity:X\\", '
        '\\"name\\": \\"a\\"}]", "children_spec": [{"type": null, "context": null, "children_spec": []}]}]',
    ),
}


def test_doctoring_alone_harms_nothing(archive, tmp_path):
    assert len(capture(doctored(archive, tmp_path, lambda members: None)).main)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_runs_nothing(archive, tmp_path, name):
    mark = tmp_path / "ran"
    path = doctored(archive, tmp_path, HOSTILE[name](mark))
    try:
        module, reference = capture_with_reference(path)
        reference({"x": np.zeros((1, 8, 4), np.float32)})
        assert name == "a guard" and len(module.main)  # left out unread, and harmless
    except CaptureError as error:
        assert error.code in (("SC402", "SC420") if name == "a file" else ("SC403",)), error
        assert name != "a guard"
    assert not mark.exists(), "the archive ran code"
    assert "antigravity" not in sys.modules


SIZE = ("graph_module", "graph", "tensor_values", "x", "sizes", 1, "as_expr", "expr_str")
S0 = "Symbol('s0', positive=True, integer=True)"


@pytest.mark.parametrize(
    "size",
    ["9**9**9**9", "Pow(9, Pow(9, Pow(9, 9)))", "Pow(9, 999999999)", f"PowByNatural(2, {S0})", "1 << 99999999999",
     "LShift(1, 99999999999)", "FloatPow(9, 9e9)", "Pow(Pow(Pow(Pow(9, 8), 8), 8), 8)", "9" * 300,
     f"{S0} + " * 3000 + "1", "-" * 200 + "1", "*".join(["9223372036854775807"] * 50),
     f"Mul({', '.join(['9223372036854775807'] * 50)})"],
)  # fmt: skip
def test_a_size_that_never_ends_is_refused(archive, tmp_path, size):
    with pytest.raises(CaptureError) as error:
        capture(doctored(archive, tmp_path, edited(SIZE, size)))
    assert error.value.code == "SC403", error.value


def test_sizes_that_exporters_write_pass():
    from speechc.compiler.capture.archive_checks import check_expression

    for size in (
        S0, "4", f"Pow({S0}, Integer(2))", f"FloorDiv(Mul(Integer(80), {S0}), Integer(2))", "-1 + s0*s1", "s0**2",
        f"Mul({S0}, Pow({S0}, Integer(-1)))", "9223372036854775807", f"Pow({S0}, Rational(1, 2))",
    ):  # fmt: skip
        check_expression(size)


def squared(times: int):
    """A change of the program's nodes: the first size is multiplied with itself, again and again."""

    def node(i):
        one = {"as_sym_int": {"as_name": f"n{i}"}} if i else {"as_int": 9}
        return {
            "target": "_operator.mul", "inputs": [{"name": n, "arg": one, "kind": 1} for n in "ab"],
            "outputs": [{"as_sym_int": {"as_name": f"n{i + 1}"}}], "metadata": {}, "is_hop_single_tensor_return": None,
        }  # fmt: skip

    return edited(("graph_module", "graph", "nodes"), lambda nodes: [*map(node, range(times)), *nodes])


def test_nodes_that_never_end_are_refused(archive, tmp_path):
    with pytest.raises(CaptureError, match="without bound"):
        capture(doctored(archive, tmp_path, squared(60)))


@pytest.mark.parametrize("old", ['"name": "x"', '"torch.ops.aten.linear.default"'])
def test_a_newline_behind_a_name_is_refused(archive, tmp_path, old):
    def change(members):
        program = members["models/model.json"]
        assert old.encode() in program
        members["models/model.json"] = program.replace(old.encode(), (old[:-1] + '\\n"').encode())

    with pytest.raises(CaptureError) as error:
        capture(doctored(archive, tmp_path, change))
    assert error.value.code == "SC403"


def test_hostile_old_archive_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as file:
        file.writestr("version", "8.1")
        file.writestr("serialized_exported_program.json", "{}")
        file.writestr("serialized_state_dict.pt", saved(mark))
    with pytest.raises(CaptureError) as error:
        capture(tmp_path / "old.pt2")
    assert error.value.code == "SC403" and not mark.exists()


def test_the_doctoring_would_work(tmp_path):
    """The same payload does run where pickles are trusted (so the tests above can fail)."""
    mark = tmp_path / "ran"
    torch.load(io.BytesIO(saved(mark)), weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickle_runs_nothing(tmp_path, legacy):
    mark, path = tmp_path / "ran", tmp_path / "model.pt"
    torch.save({"weights": torch.zeros(2), "bomb": Bomb(mark)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CaptureError) as error:
        capture(path, ["x=f32[1,T,4]"])
    assert error.value.code == "SC403" and "--trust-pickle" in str(error.value)
    assert not mark.exists()
    (tmp_path / "plain.pkl").write_bytes(pickled(mark))
    with pytest.raises(CaptureError, match="pickled"):
        capture(tmp_path / "plain.pkl", ["x=f32[1,T,4]"])
    assert not mark.exists()


# -- damaged archives --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated_archive(archive, tmp_path, share):
    data = archive.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CaptureError) as error:
        capture(tmp_path / "cut.pt2")
    assert error.value.code == "SC402" and error.value.exit_code == 3


def test_flipped_bits(archive, tmp_path):
    data = archive.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(data), 25):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        (tmp_path / "flipped.pt2").write_bytes(flipped)
        try:
            capture(tmp_path / "flipped.pt2")  # some bits are padding
        except CaptureError as error:
            assert error.exit_code == 3


def test_weights_go_with_a_factory(archive):
    with pytest.raises(UsageError, match="--weights goes with"):
        capture(archive, weights=archive)


def test_package_does_not_import_torch():
    code = "import sys, speechc.compiler.capture, speechc.compiler.capture.recognise, speechc.compiler.capture.spec; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
