"""`speechc fit`: what a file needs is what its manifest counted, verdicts are arithmetic, remedies do make it fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import speechc
from command import run
from models.steps import late
from speechc.compiler.fit.need import Need, needs_of
from speechc.compiler.fit.table import load_table
from speechc.compiler.fit.verdict import as_int8, busy, judge, pruned
from speechc.compiler.listen.source import read_source
from speechc.ir.cost import Cost
from speechc.ir.errors import UsageError
from speechc.ir.text import save
from speechc.lowering.manifest import Manifest, manifest_path

MINE = """
[devices.mine]
name = "Mine"
kind = "iot"
memory = { bytes = "2 MB", source = "me" }
memory_share = 1.0
storage = { bytes = "3 MB", source = "me" }
storage_share = 1.0
cores = { count = 4, source = "me" }
float32 = { macs = 10e6, basis = "measured", source = "me" }
int8 = { macs = 100e6, basis = "peak", source = "me" }
"""
NEED = Need(Path("m"), "float32", 250_000, 1_100_000, 1_000_000, 50_000, 400_000, 500_000, 1e6, 0.0, 10.0, False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small model of features as a file for whole recordings and one for steps of 40 ms."""
    folder = tmp_path_factory.mktemp("fit")
    save(late()[0], folder / "late.sir")
    assert run("late.sir", "-o", "whole.onnx", cwd=folder)[0] == 0
    assert run("late.sir", "-o", "step.onnx", "--stream", "40ms", cwd=folder)[0] == 0
    return folder


@pytest.fixture
def mine(tmp_path):
    """The table with a device of known numbers."""
    (tmp_path / "mine.toml").write_text(MINE)
    table = load_table(tmp_path / "mine.toml")
    return table.chosen(["mine"])[0], table.assumptions


# -- what a file needs -------------------------------------------------------------------------------------------------
def test_a_second_of_audio_is_a_hundred_frames(files):
    cost = Cost.of(Manifest.load(manifest_path(files / "whole.onnx")).cost)
    need = needs_of(read_source(files / "whole.onnx"), seconds=10)
    assert need.seconds == 10 and need.parameters == cost.parameters > 0
    from speechc.ir.expr import evaluate, symbols

    (symbol,) = symbols(cost.macs)
    assert need.macs == pytest.approx(evaluate(cost.macs, {symbol: 1000}) / 10)
    assert need.activation_bytes == evaluate(cost.activation_bytes, {symbol: 1000})
    assert need.file_bytes == (files / "whole.onnx").stat().st_size
    assert sum(m[2] for m in need.modules) == pytest.approx(need.macs)
    shorter = needs_of(read_source(files / "whole.onnx"), seconds=5)
    assert shorter.activation_bytes < need.activation_bytes
    assert need.lengths[5.0] == shorter.activation_bytes


def test_a_step_counts_once_a_chunk(files):
    manifest = Manifest.load(manifest_path(files / "step.onnx"))
    need = needs_of(read_source(files / "step.onnx"))
    assert need.seconds == 0.04 and need.streams
    assert need.macs == pytest.approx(Cost.of(manifest.cost).macs * 25)
    assert need.state_bytes == manifest.streaming["state_bytes"] > 0


def test_frames_of_another_length_are_counted_at_theirs(files):
    from fractions import Fraction

    ten, twenty = (needs_of(read_source(files / "whole.onnx"), 10, Fraction(ms, 1000)) for ms in (10, 20))
    assert twenty.macs == pytest.approx(ten.macs / 2, rel=0.02)


def test_every_stage_of_a_cascade_hears_audio(files, tmp_path):
    stages = [{"file": str(p)} for p in (files / "step.onnx", files / "whole.onnx", tmp_path / "folder")]
    (tmp_path / "cascade.json").write_text(json.dumps({"kind": "cascade", "stages": stages}))
    with pytest.raises(UsageError, match="SC010"):
        read_source(tmp_path / "cascade.json")
    (tmp_path / "folder").mkdir()
    need = needs_of(read_source(tmp_path / "cascade.json"))
    alone = [needs_of(read_source(files / name)) for name in ("step.onnx", "whole.onnx")]
    assert need.macs == sum(n.macs for n in alone) and need.state_bytes == sum(n.state_bytes for n in alone)
    assert need.activation_bytes == max(n.activation_bytes for n in alone)
    assert not any("tokens" in note for note in need.notes) and any("1 of its stages" in note for note in need.notes)


def test_a_file_without_counts_is_refused(files, tmp_path):
    (tmp_path / "old.onnx").write_bytes((files / "whole.onnx").read_bytes())
    data = json.loads(manifest_path(files / "whole.onnx").read_text()) | {"cost": None, "artefact": "old.onnx"}
    manifest_path(tmp_path / "old.onnx").write_text(json.dumps(data))
    status, _, said = run("fit", "old.onnx", cwd=tmp_path)
    assert status == 2 and "SC082" in said and "compile it again" in said


# -- verdicts ----------------------------------------------------------------------------------------------------------
def test_the_margin_is_the_rate_that_is_reached_over_what_is_needed(mine):
    device, assumed = mine
    float_share, int8_share = assumed.utilisation["float32"], assumed.utilisation["int8"]
    assert judge(NEED, device, assumed).margin == pytest.approx(10 * float_share)
    integers = replace(NEED, int8_macs=1e6)
    assert judge(integers, device, assumed).margin == pytest.approx(100 * int8_share * assumed.of_peak)
    mixed = replace(NEED, int8_macs=0.5e6)
    assert busy(mixed, device, assumed) == pytest.approx(
        0.5 / (10 * float_share) + 0.5 / (100 * int8_share * assumed.of_peak)
    )
    assert judge(NEED, device, assumed, cores=3).margin == pytest.approx(30 * float_share)
    assert judge(NEED, device, assumed, cores=9).cores == 4


@pytest.mark.parametrize(
    "change, lacks",
    [
        ({}, []),
        ({"activation_bytes": 950_000}, []),
        ({"activation_bytes": 950_001}, ["memory"]),  # 1 000 000 of weights and 50 000 of state beside it
        ({"file_bytes": 3_000_001}, ["storage"]),
        ({"macs": 2.6e6}, ["time"]),
    ],
)
def test_what_lacks_is_named(mine, change, lacks):
    device, assumed = mine
    found = judge(replace(NEED, **change), device, assumed)
    assert [r.name for r in found.resources if not r.fits] == lacks and found.fits is not bool(lacks)
    assert bool(found.remedies) is bool(lacks)


def test_weights_that_are_read_from_flash_need_no_memory(mine):
    device, assumed = mine
    flash = replace(device, weights_in_memory=False, memory=450_000)
    assert judge(NEED, flash, assumed).fits and not judge(NEED, replace(flash, memory=449_999), assumed).fits


def test_a_rate_that_nobody_measured_is_no_pass(mine):
    device, assumed = mine
    unknown = replace(device, rates={"int8": device.rates["int8"]})
    found = judge(NEED, unknown, assumed)
    assert not found.fits and found.margin is None and found.resources[2].fits is None
    assert "float32" in found.resources[2].said
    assert judge(replace(NEED, int8_macs=1e6), unknown, assumed).margin is not None


def test_remedies_make_it_fit(mine):
    device, assumed = mine
    heavy = replace(NEED, macs=4e6)
    found = judge(heavy, device, assumed)
    assert not found.fits and judge(as_int8(heavy), device, assumed).fits and judge(heavy, device, assumed, 4).fits
    assert any("--int8" in r for r in found.remedies) and any("--cores 4" in r for r in found.remedies)
    share = next(float(r.split("of ")[1].split("%")[0]) / 100 for r in found.remedies if r.startswith("pruning"))
    assert judge(pruned(heavy, share), device, assumed).fits
    assert not judge(pruned(heavy, share - 0.01), device, assumed).fits


def test_where_nothing_helps_that_is_said(mine):
    device, assumed = mine
    (said,) = judge(replace(NEED, macs=1e12), device, assumed).remedies
    assert said.startswith("another model") and "speed" in said


def test_shorter_recordings_are_offered_where_memory_lacks(mine):
    device, assumed = mine
    long = replace(NEED, activation_bytes=1_600_000, lengths={5.0: 800_000, 10.0: 1_600_000})
    assert any("at most 5.0 s" in r for r in judge(long, device, assumed).remedies)


def test_int8_again_is_no_remedy():
    small = replace(NEED, weight_bytes=NEED.parameters)
    assert as_int8(small) is None and as_int8(NEED).file_bytes == NEED.file_bytes - 750_000


# -- the command -------------------------------------------------------------------------------------------------------
def test_the_gate_ends_with_7_and_json_has_every_number(files, tmp_path):
    guessed = MINE.replace("2 MB", "1 KB").replace('bytes = "3 MB"', 'bytes = "3 MB", assumed = true')
    (tmp_path / "tiny.toml").write_text(guessed)
    asked = ["fit", files / "whole.onnx", "--devices", "tiny.toml", "--device", "mine"]
    status, out, said = run(*asked, "--gate", "--json", cwd=tmp_path)
    told = json.loads(out)
    assert status == 7 and "SC700" in said and "memory" in said
    (device,) = told["devices"]
    assert device["fits"] is False and device["sources"]["memory"] == "me" and device["assumed"] == ["storage"]
    assert told["need"]["parameters"] > 0 and {"name", "limit", "under"} <= told["stores"][0].keys()
    assert run(*asked, cwd=tmp_path)[0] == 0
    assert run("fit", files / "whole.onnx", "--device", "phone", "--gate", "-q", cwd=tmp_path) == (0, "", "")


def test_tables_name_devices_and_sources(files, tmp_path):
    status, out, _ = run("fit", files / "step.onnx", "--device", "esp32-s3", cwd=tmp_path)
    assert status == 0 and "ESP32-S3" in out and "espressif.com" in out and "assumed" in out
    assert "module" in out and "under every limit" in out
    status, out, _ = run("fit", files / "step.onnx", "--device", "raspberry-pi-5", cwd=tmp_path)
    assert status == 0 and "raspberry-pi-5, storage: assumed, not read in https" in out
    assert "raspberry-pi-5, memory: https" in out


@pytest.mark.parametrize(
    "flags, code",
    [
        (["--device", "no-such"], "SC080"),
        (["--seconds", "0"], "SC017"),
        (["--frame-shift", "x"], "SC047"),
        (["--devices", "no.toml"], "SC010"),
    ],
)
def test_bad_input_is_named(files, flags, code):
    status, _, said = run("fit", "whole.onnx", *flags, cwd=files)
    assert status == 2 and code in said


# -- the table ---------------------------------------------------------------------------------------------------------
def test_every_number_of_every_device_has_a_source():
    table = load_table()
    kinds = {d.kind for d in table.devices.values()}
    assert kinds == {"phone", "budget-phone", "smart-speaker", "raspberry-pi", "iot", "microcontroller"}
    for device in table.devices.values():
        assert {"memory", "storage", "cores", *device.rates} == device.sources.keys()
        assert all(s.startswith("https://") for s in device.sources.values()), device.key
        assert set(device.assumed) <= device.sources.keys()
    assert table.devices["raspberry-pi-5"].assumed == ("storage",) and not table.devices["oneplus-7t"].assumed
    assert all(s.source.startswith("https://") for s in table.stores)
    assert all(table.assumptions.why.values()), "an assumption without its reason"


@pytest.mark.parametrize(
    "change",
    [
        ("kind =", "kin ="),
        ('"2 MB"', '"2 parsecs"'),
        ("10e6", "-1"),
        ('"measured"', '"guessed"'),
        ("count = 4", "count = 0"),
    ],
)
def test_a_malformed_device_is_named(tmp_path, change):
    (tmp_path / "bad.toml").write_text(MINE.replace(*change))
    with pytest.raises(UsageError, match="mine") as error:
        load_table(tmp_path / "bad.toml")
    assert error.value.code == "SC081"


def test_users_replace_parts_of_the_table(tmp_path):
    (tmp_path / "part.toml").write_text("[kinds.phone]\nmemory_share = 0.5\n[assumptions.margin]\nleast = 3.0\n")
    table = load_table(tmp_path / "part.toml")
    assert table.assumptions.margin == 3.0 and table.assumptions.utilisation == load_table().assumptions.utilisation
    assert table.devices["pixel-3a"].memory_share == 0.5 and table.devices["redmi-2"].memory_share == 0.15


def test_the_table_of_the_page_is_one(tmp_path):
    page = (Path(speechc.__file__).parent / "docs" / "devices.md").read_text()
    (tmp_path / "page.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    table = load_table(tmp_path / "page.toml")
    assert table.chosen(["doorbell"])[0].memory == 64 * 2**20 and table.assumptions.margin == 3.0


def test_parts_that_take_no_audio_are_called_for_tokens_and_frames(files, tmp_path):
    """A folder of an encoder with a frame every 20 ms, a part that takes tokens and one that takes what was heard."""
    encoder = json.loads(manifest_path(files / "step.onnx").read_text())
    ports = {"encoder": encoder["inputs"]}
    time = {"axis": 1, "clock": "tokens", "rate": "1", "delay": 0, "length": "T"}
    port = encoder["inputs"][0] | {"name": "t", "shape": [1, 1], "time": time, "dtype": "i64"}
    ports["predictor"] = [port]
    ports["joiner"] = [port | {"dtype": "f32", "shape": [1, "T", 3], "time": time | {"clock": "heard"}}]
    macs = {"encoder": 700, "predictor": 50, "joiner": "3*T"}
    for name, inputs in ports.items():
        (tmp_path / f"{name}.onnx").write_bytes(b"0" * 100)
        cost = encoder["cost"] | {"macs": macs[name], "int8_macs": 0, "activation_bytes": 8, "unshared_bytes": 9}
        cost |= {"modules": {}, "parameters": 5, "weight_bytes": 20}
        streaming = encoder["streaming"] if name == "encoder" else None
        told = encoder | {"artefact": f"{name}.onnx", "inputs": inputs, "cost": cost, "streaming": streaming}
        told |= {} if name == "encoder" else {"states": [], "tick_hz": None}
        manifest_path(tmp_path / f"{name}.onnx").write_text(json.dumps(told))
    listed = {"kind": "transducer", "files": {n: f"{n}.onnx" for n in ports}}
    (tmp_path / "bundle.json").write_text(json.dumps(listed))
    need = needs_of(read_source(tmp_path), tokens=4)
    frames = 50  # a second: every other one of 100
    assert need.macs == pytest.approx(700 * 25 + 50 * 4 + 3 * (frames + 4))
    assert (need.parameters, need.file_bytes, need.activation_bytes, need.seconds) == (15, 300, 8, 0.04)
