"""Transducers as folders of files: heard as their modules would, in chunks as whole, in any number of rows a call."""

import json
import wave

import command
import numpy as np
import pytest
import speechc
import torch
from models.transducer import HOP, RATE, SIZE, TOKENS, Recurrent, Stateless, modules, parts
from speechc.compiler.assembly.assemble import assemble
from speechc.compiler.assembly.calibration import behind
from speechc.compiler.decode.networks import FileNetworks
from speechc.compiler.decode.transducer import Beam, Greedy, Rules
from speechc.compiler.listen import open_listener
from speechc.ir.errors import UsageError
from speechc.lowering.manifest import Manifest

pytestmark = pytest.mark.slow  # models are compiled
# Float32 through the encoder and some twenty calls of the other parts, in another order.
CLOSE = {"rel": 1e-4, "abs": 1e-3}
KINDS = {"recurrent": Recurrent, "stateless": Stateless}


class Modules:
    """The parts in torch, the predictor run on all tokens again at every step."""

    axes = {"tokens": 0}

    def __init__(self, kind):
        self.encoder, self.predictor, self.joiner = modules(kind)

    @torch.no_grad()
    def encoded(self, audio):
        return self.encoder(torch.from_numpy(audio)[None])[0].numpy()

    def begin(self):
        return {"tokens": np.empty((1, 1), object)}

    @torch.no_grad()
    def predict(self, tokens, states):
        said = [[*(s or ()), int(t)] for s, t in zip(states["tokens"][:, 0], tokens)]
        out = np.stack([self.predictor(torch.tensor([s]))[0, -1].numpy() for s in said])
        after = np.empty((len(said), 1), object)
        for i, s in enumerate(said):
            after[i, 0] = s
        return out, {"tokens": after}

    @torch.no_grad()
    def join(self, encoded, predicted):
        heard = torch.from_numpy(np.broadcast_to(encoded, (len(predicted), *encoded.shape)).copy())
        return self.joiner(heard[None], torch.from_numpy(predicted)[None])[0].numpy()


def audio(frames=60, seed=0):
    return np.random.default_rng(seed).standard_normal(frames * HOP + 123).astype(np.float32)


def expected(kind, samples, beam, rules=None):
    made = Modules(kind)
    search = Greedy(made, rules) if beam is None else Beam(made, beam, rules)
    search.push(made.encoded(samples))
    return search.best(3)


def check(heard, found):
    assert [a.tokens for a in heard.alternatives] == [[TOKENS[t] for t in h.tokens] for h in found]
    assert [a.score for a in heard.alternatives] == pytest.approx([h.score for h in found], **CLOSE)
    frame = 1000 * HOP / RATE
    assert [a.times for a in heard.alternatives] == [list(h.times(frame)) for h in found]
    assert found[0].tokens and heard.text == heard.alternatives[0].text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{(predictor, hypotheses a call): folder}, compiled when first asked for."""
    folders = {}

    def folder(name, rows, target="onnx", stream="80ms"):
        key = (name, rows, target, stream)
        if key not in folders:
            out = tmp_path_factory.mktemp("transducer")
            batch = {"batch": rows} if rows > 1 else {}
            streamed = {"stream": stream} if stream else {}
            speechc.compile(parts(KINDS[name]), target=target, output=out, **streamed, **batch)
            folders[key] = out / "transducer"
        return folders[key]

    return folder


def streamed(listener, samples, cuts):
    stream = listener.stream()
    for piece in np.split(samples, cuts):
        stream.push(piece)
    return stream.flush()


def test_chunks_are_heard_as_the_modules_hear_the_whole(made):
    folder, samples = made("recurrent", 4), audio()
    for beam in (None, 4, 6):  # 6: two calls of the predictor a round
        listener = open_listener(folder, beam=beam, best=beam and 3)
        assert listener.kind == "transducer" and listener.sample_rate == RATE and listener.streams
        wanted = expected(Recurrent, samples, beam)
        check(listener.hear(samples), wanted)
        for cuts in ([1, 2, 5000], range(100, len(samples), 777)):
            check(streamed(listener, samples, cuts), wanted)


def test_run_tells_what_is_heard(made, tmp_path):
    folder, samples = made("recurrent", 4), audio()
    stored = np.round(samples / 8 * 32767).clip(-32768, 32767).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(stored.tobytes())
    status, out, err = command.run("run", folder, "a.wav", "--stream", "--beam", 4, "--best", 2, "--json", cwd=tmp_path)
    lines = [json.loads(text) for text in out.splitlines()]
    assert status == 0, err
    heard = open_listener(folder, beam=4, best=2).hear(stored.astype(np.float32) / 32768)
    assert lines[-1]["text"] == heard.text and lines[-1]["final"] and len(lines) > 2
    assert lines[-1]["alternatives"][0]["times_ms"] == heard.alternatives[0].times
    (tmp_path / "words.txt").write_text("a\n")
    status, out, _ = command.run("run", folder, "a.wav", "--bias", "words.txt=20", cwd=tmp_path)
    assert status == 0 and out.split().count("a") > heard.text.split().count("a")


def test_streams_do_not_disturb_each_other(made):
    listener = open_listener(made("recurrent", 4), beam=4, best=3)
    a, b = audio(), audio(40, 1)
    first, second = listener.stream(), listener.stream()
    for x, y in zip(np.split(a, 7 * HOP * np.arange(1, 8)), np.split(b, 5 * HOP * np.arange(1, 8))):
        first.push(x)
        second.push(y)
    check(first.flush(), expected(Recurrent, a, 4))
    check(second.flush(), expected(Recurrent, b, 4))


def test_folders_that_are_not_whole(made, tmp_path):
    folder = made("recurrent", 4)
    about = json.loads((folder / "bundle.json").read_text())
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def refused(**change):
        (tmp_path / "bundle.json").write_text(json.dumps(about | change))
        with pytest.raises(UsageError) as caught:
            open_listener(tmp_path)
        return caught.value.code

    assert refused(files={n: f for n, f in about["files"].items() if n != "joiner"}) == "SC054"
    assert refused(decoding={"most": 0}) == "SC090"
    assert refused(decoding={"more": 1}) == "SC054"
    assert refused(files=about["files"] | {"predictor": "encoder.onnx"}) == "SC094"
    for option in ({"language": "en"}, {"floor": 10.0}):
        with pytest.raises(UsageError) as caught:
            open_listener(folder, **option)
        assert caught.value.code == "SC053"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("rows", [1, 4])
def test_every_predictor_in_any_number_of_rows(made, name, rows):
    samples = audio(60, 2)
    for beam in (None, 5):
        listener = open_listener(made(name, rows), beam=beam, best=beam and 3)
        check(streamed(listener, samples, [3000]), expected(KINDS[name], samples, beam))


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_whole_utterances(made, target):
    listener, samples = open_listener(made("stateless", 1, target, None), beam=3, best=3), audio(40, 2)
    assert not listener.streams
    check(listener.hear(samples), expected(Stateless, samples, 3))


def test_tflite_streams(made):
    listener, samples = open_listener(made("recurrent", 4, "tflite"), beam=4, best=3), audio(40)
    check(streamed(listener, samples, [3000, 3001]), expected(Recurrent, samples, 4))


def test_one_token_a_frame(tmp_path):
    speechc.compile(parts(Stateless, moves=True), target="onnx", output=tmp_path, stream="160ms", batch=2)
    samples = audio(60, 3)
    for beam in (None, 4):
        listener = open_listener(tmp_path / "transducer", beam=beam, best=beam and 3)
        check(listener.hear(samples), expected(Stateless, samples, beam, Rules(moves=True)))


def test_int8_is_calibrated_with_what_the_parts_meet(made, tmp_path):
    recordings = [audio(12, seed)[None] for seed in range(3)]
    folder = made("recurrent", 4)
    (encoder,) = folder.glob("encoder.onnx")
    samples = behind(assemble(parts()), encoder, recordings)
    listener = open_listener(folder)
    for sample, samples_of_joiner, x in zip(samples["predictor"], samples["joiner"], recordings, strict=True):
        said = listener.hear(x[0]).alternatives[0].tokens
        assert [TOKENS[t] for t in sample["tokens"][0]] == [TOKENS[0], *said]
        # A pair for every token and for every blank; a frame that ends at the most tokens has its blank too.
        assert samples_of_joiner["heard"].shape == samples_of_joiner["said"].shape == (1, len(said) + 12, SIZE)
    speechc.compile(
        parts(), target="onnx", precision="int8", calibration=recordings, output=tmp_path, stream="80ms", batch=4
    )
    about = json.loads((tmp_path / "transducer" / "bundle.json").read_text())
    # The joiner of this model is too small to pay.
    assert about["precision"] == {"encoder": "int8", "predictor": "int8", "joiner": "float32"}
    samples = audio()
    quantized = open_listener(tmp_path / "transducer", beam=4).hear(samples)
    assert quantized.alternatives[0].score == pytest.approx(expected(Recurrent, samples, 4)[0].score, rel=0.05)


def test_a_predictor_that_is_late_is_refused(made):
    listener = open_listener(made("recurrent", 4))
    manifest: Manifest = listener.sessions["predictor"].manifest
    port = next(p for p in manifest.outputs if p.time)
    port.time["delay"] = 1
    with pytest.raises(UsageError, match="at once"):
        FileNetworks(listener.sessions["predictor"], listener.sessions["joiner"])
