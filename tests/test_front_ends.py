"""Front ends against the libraries that define them, and chunk by chunk against whole."""

from __future__ import annotations

import numpy as np
import pytest
from front_ends import STREAM, WHOLE, features, graph, relative, signals, wide
from speechc.compiler.plan import NORMALIZE, OPTIMIZE
from speechc.compiler.step_runner import run_stream
from speechc.ir.errors import UnsupportedError
from speechc.ir.graph import Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone
from speechc.ir.verifier import verify
from speechc.passes.base import Context, make
from speechc.passes.front_end import bands
from speechc.passes.front_end.spec import parse

# Of the largest value, on logarithms. Two float32 computations of a spectrum differ by some 1e-7 of its largest line;
# in a band 60 dB below that is 1e-4 of the band, 1e-4 in its logarithm, and 1e-5 of the largest logarithm (about 20).
# The libraries' own transforms, sums and tables in float32 take up the rest.
TOLERANCE = 1e-4
STREAMED = 1e-10  # of the largest value: float64, summed in another order


# -- the libraries ---------------------------------------------------------------------------------------------------
KALDI = [
    ("fbank", "kaldi-fbank{bins=80}", {}, {"num_bins": 80}, {}),
    ("fbank", "kaldi-fbank{bins=23,scale=1,window=hamming}", {"window_type": "hamming"}, {}, {}),
    ("fbank", "kaldi-fbank{bins=40,window=hanning,remove_dc_offset=False,preemphasis=0.5}",
     {"window_type": "hanning", "remove_dc_offset": False, "preemph_coeff": 0.5}, {"num_bins": 40}, {}),
    ("fbank", "kaldi-fbank{bins=40,window=blackman,low_freq=60,high_freq=-400}",
     {"window_type": "blackman"}, {"num_bins": 40, "low_freq": 60, "high_freq": -400}, {}),
    ("fbank", "kaldi-fbank{bins=20,window=rectangular,round_to_power_of_two=False,frame_length=20,frame_shift=12.5}",
     {"window_type": "rectangular", "round_to_power_of_two": False, "frame_length_ms": 20, "frame_shift_ms": 12.5},
     {"num_bins": 20}, {}),
    ("fbank", "kaldi-fbank{bins=40,snip_edges=False}", {"snip_edges": False}, {"num_bins": 40}, {}),
    ("fbank", "kaldi-fbank{bins=20,frame_length=20,frame_shift=25,snip_edges=False}",
     {"snip_edges": False, "frame_length_ms": 20, "frame_shift_ms": 25}, {"num_bins": 20}, {}),
    ("fbank", "kaldi-fbank{bins=40,use_energy=True}", {}, {"num_bins": 40}, {"use_energy": True}),
    ("fbank", "kaldi-fbank{bins=40,use_energy=True,raw_energy=False,htk_compat=True,energy_floor=1e8,use_power=False}",
     {}, {"num_bins": 40},
     {"use_energy": True, "raw_energy": False, "htk_compat": True, "energy_floor": 1e8, "use_power": False}),
    ("mfcc", "mfcc", {}, {}, {}),
    ("mfcc", "mfcc{bins=20,mels=40,use_energy=False,lifter=0}", {}, {"num_bins": 40},
     {"num_ceps": 20, "use_energy": False, "cepstral_lifter": 0}),
    ("mfcc", "mfcc{htk_compat=True,energy_floor=1e9}", {}, {}, {"htk_compat": True, "energy_floor": 1e9}),
    ("mfcc", "mfcc{htk_compat=True,use_energy=False}", {}, {}, {"htk_compat": True, "use_energy": False}),
]  # fmt: skip


def kaldi(kind, audio, frame, mel, own, scale):
    knf = pytest.importorskip("kaldi_native_fbank")
    options = {"fbank": knf.FbankOptions, "mfcc": knf.MfccOptions}[kind]()
    for target, values in ((options.frame_opts, {"dither": 0, **frame}), (options.mel_opts, mel), (options, own)):
        for name, value in values.items():
            setattr(target, name, value)
    computer = {"fbank": knf.OnlineFbank, "mfcc": knf.OnlineMfcc}[kind](options)
    computer.accept_waveform(options.frame_opts.samp_freq, (audio * scale).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@pytest.mark.parametrize("kind, spec, frame, mel, own", KALDI, ids=[k[1] for k in KALDI])
def test_kaldi(kind, spec, frame, mel, own):
    for audio in signals(16000):
        wanted = kaldi(kind, audio, frame, mel, own, parse(spec).front.scale)
        assert relative(features(spec, audio), wanted) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("bins", [80, 128])
def test_whisper(bins):
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor(feature_size=bins)
    for audio in signals(16000):
        wanted = extractor(audio, sampling_rate=16000, padding="max_length").input_features[0].T
        assert wanted.shape == (3000, bins)
        padded = np.pad(audio, (0, 480000 - len(audio)))
        assert relative(features(f"whisper{{bins={bins}}}", padded), wanted) < TOLERANCE


@pytest.mark.slow
def test_nemo():
    """As transformers computes them for Parakeet."""
    extractor = pytest.importorskip("transformers").ParakeetFeatureExtractor()
    for audio in signals(16000):
        wanted = extractor(audio, sampling_rate=16000).input_features[0].numpy()
        made = features("log-mel{like=nemo}+utterance{unbiased=True,on=std}", audio)
        assert relative(made, wanted[: len(made)]) < TOLERANCE


LIBROSA = [
    ("log-mel{like=librosa,bins=64}", {"sr": 22050, "n_mels": 64}, 80.0),
    ("log-mel{like=librosa,sample_rate=16000,n_fft=512,win_length=400,hop_length=160,bins=40,power=1,scale=htk,norm=none,"
     "pad_mode=reflect,f_min=20,f_max=7600,top_db=0}",
     {"sr": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "power": 1, "htk": True,
      "norm": None, "pad_mode": "reflect", "fmin": 20, "fmax": 7600}, None),
    ("log-mel{like=librosa,sample_rate=16000,n_fft=400,hop_length=160,bins=40,center=False,window=hamming}",
     {"sr": 16000, "n_fft": 400, "hop_length": 160, "n_mels": 40, "center": False, "window": "hamming"}, 80.0),
    ("log-mel{like=librosa,sample_rate=16000,n_fft=512,win_length=400,hop_length=160,bins=40,center=False}",
     {"sr": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "center": False}, 80.0),
    ("log-mel{like=librosa,sample_rate=16000,n_fft=401,win_length=301,hop_length=100,bins=30,last=True}",
     {"sr": 16000, "n_fft": 401, "win_length": 301, "hop_length": 100, "n_mels": 30}, 80.0),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("spec, options, top", LIBROSA, ids=[k[0] for k in LIBROSA])
def test_librosa(spec, options, top):
    librosa = pytest.importorskip("librosa")
    for audio in signals(options["sr"]):
        bank = librosa.feature.melspectrogram(y=audio, **options)
        to_db = librosa.amplitude_to_db if options.get("power") == 1 else librosa.power_to_db
        floor = {"amin": 1e-10}
        assert relative(features(spec, audio), to_db(bank, top_db=top, **floor).T) < TOLERANCE


@pytest.mark.slow
def test_librosa_mfcc():
    librosa = pytest.importorskip("librosa")
    for audio in signals(22050):
        wanted = librosa.feature.mfcc(y=audio, sr=22050, n_mfcc=20, lifter=22).T
        assert relative(features("log-mel{like=librosa,cepstra=20,lifter=22}", audio), wanted) < TOLERANCE


def torchaudio(audio, n_fft, win_length, hop, bins, power, norm, scale, f_min=0.0, f_max=None, rate=16000, center=True):
    """torchaudio.transforms.MelSpectrogram by its published formulas, on torch.stft in float64: [bins, frames]."""
    import torch

    window = torch.hann_window(win_length, dtype=torch.float64)
    spectrum = torch.stft(torch.from_numpy(audio).double(), n_fft, hop, win_length, window, center,
                          "reflect", normalized=False, onesided=True, return_complex=True).abs() ** power  # fmt: skip
    f_max = f_max or rate / 2
    if scale == "htk":
        mel = lambda f: 2595.0 * np.log10(1.0 + f / 700.0)
        back = lambda m: 700.0 * (10.0 ** (m / 2595.0) - 1.0)
    else:
        step = np.log(6.4) / 27.0
        mel = lambda f: f * 3 / 200 if f < 1000 else 15 + np.log(f / 1000) / step
        back = lambda m: np.where(m < 15, m * 200 / 3, 1000 * np.exp(step * (m - 15)))
    points = torch.from_numpy(np.asarray(back(np.linspace(mel(f_min), mel(f_max), bins + 2))))
    lines = torch.linspace(0, rate // 2, n_fft // 2 + 1, dtype=torch.float64)
    width, slopes = points[1:] - points[:-1], points[None] - lines[:, None]
    bank = torch.clamp(torch.minimum(-slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]), min=0)
    if norm == "slaney":
        bank = bank * (2.0 / (points[2:] - points[:-2]))
    return (spectrum.mT @ bank).mT


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec, options",
    [("log-mel{bins=64}", (400, 400, 200, 64, 2, None, "htk")),
     ("log-mel{n_fft=512,win_length=400,hop_length=160,bins=40,norm=slaney,scale=slaney,f_min=30,f_max=7000}",
      (512, 400, 160, 40, 2, "slaney", "slaney", 30.0, 7000.0)),
     ("log-mel{n_fft=480,hop_length=240,bins=32,power=1,top_db=60}", (480, 480, 240, 32, 1, None, "htk")),
     ("log-mel{bins=40,center=False}", (400, 400, 200, 40, 2, None, "htk", 0.0, None, 16000, False))],
)  # fmt: skip
def test_torchaudio(spec, options):
    """With its AmplitudeToDB: 10 log10 of power, 20 log10 of magnitude."""
    for audio in signals(16000):
        bank = torchaudio(audio, *options).numpy().T
        wanted = (10.0 if options[4] == 2 else 20.0) * np.log10(np.maximum(bank, 1e-10))
        if "top_db" in spec:
            wanted = np.maximum(wanted, wanted.max() - 60)
        assert relative(features(spec, audio), wanted) < TOLERANCE


def test_float32_is_close_to_float64():
    """What the graph loses by computing in float32 is a part of what it may differ by."""
    for spec in ("kaldi-fbank{bins=80}", "whisper", "mfcc"):
        for audio in signals(16000):
            exact = run(wide(spec).main, {"audio": audio[None].astype(np.float64)})[0][0]
            assert relative(features(spec, audio), exact) < TOLERANCE / 3


def test_the_comparison_notices(monkeypatch):
    """A bank that is read one line off is seen."""
    monkeypatch.setattr(bands, "banded", lambda g, f, s, b, p: original(g, f, s, np.roll(b, 1, 1), p))
    from speechc.passes.front_end import kaldi as definition

    original = definition.banded
    monkeypatch.setattr(definition, "banded", bands.banded)
    graph.cache_clear()
    try:
        with pytest.raises(AssertionError):
            test_kaldi(*KALDI[0])
    finally:
        graph.cache_clear()


# -- normalisation ---------------------------------------------------------------------------------------------------
def test_normalisation():
    (audio, *_) = signals(16000)
    plain = features("kaldi-fbank{bins=20}", audio).astype(np.float64)
    whole = features("kaldi-fbank{bins=20}+utterance{eps=0.01}", audio)
    wanted = (plain - plain.mean(0)) / np.sqrt(plain.var(0) + 0.01)
    assert relative(whole, wanted) < TOLERANCE
    unbiased = features("kaldi-fbank{bins=20}+utterance{unbiased=True,on=std,eps=0.1}", audio)
    assert relative(unbiased, (plain - plain.mean(0)) / (plain.std(0, ddof=1) + 0.1)) < TOLERANCE
    running = features("kaldi-fbank{bins=20}+cumulative{eps=0.01}", audio)
    for t in (1, 2, 50):
        so_far = plain[: t + 1]
        wanted = (plain[t] - so_far.mean(0)) / np.sqrt(so_far.var(0) + 0.01)
        assert np.abs(running[t] - wanted).max() < 1e-3  # a difference of nearly equal frames, over its own root
    assert np.all(running[0] == 0)
    mean, std = tuple(plain.mean(0).tolist()), tuple(plain.std(0).tolist())
    fixed = features(f"kaldi-fbank{{bins=20}}+fixed{{mean={mean},std={std}}}", audio)
    assert relative(fixed, (plain - plain.mean(0)) / plain.std(0)) < TOLERANCE


def test_equal_frames_stay_equal_in_a_running_normalisation():
    """A steady tone: its frames differ by rounding alone, which `eps` keeps small (with 1e-5 it would be 3e-3)."""
    tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)).astype(np.float32)
    assert np.abs(features("kaldi-fbank{bins=20}+cumulative", tone)).max() < 2e-4
    assert np.abs(features("kaldi-fbank{bins=20}+cumulative{eps=1e-5}", tone)).max() > 1e-3


# -- streaming -------------------------------------------------------------------------------------------------------
def step_of(module: Module, chunk: int, *texts: str) -> Module:
    made = clone(module)
    for text in (*texts, f"streaming{{chunk={chunk}}}"):
        make(text).run(made.main, Context())
        made.main.sweep()
        verify(made)
    return made


def late(meant) -> int:
    """How many frames the least delay is: until the last sample of a frame is there.

    A mirror in front holds back the first frame until the sample furthest from the end is there; one that repeats the
    outermost sample is put in place before frames are cut, and holds back all of them.
    """
    framing, shift = meant.front.framing(), meant.shift
    future = framing.future - min(framing.behind, 0)  # a frame is one when all that its n_fft holds is there
    future += shift - framing.hop  # of frames side by side: that of the last
    if framing.mode == "reflect":
        future = max(future, framing.front + 1)
    if framing.mode == "symmetric":
        future = framing.size + framing.front
    return max(0, -(-(future - shift) // shift))


@pytest.mark.parametrize("spec", STREAM)
@pytest.mark.parametrize("optimised", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_streamed_is_whole(spec, optimised):
    """One frame a step and several, at lengths below a step and beyond; NaN behind the end; as early as can be."""
    meant, module = parse(spec), wide(spec)
    rate, shift = meant.sample_rate, meant.shift
    (audio, *_) = signals(rate)
    for count in (1, 3):
        step = step_of(module, count * shift, *((*NORMALIZE, *OPTIMIZE) if optimised else ()))
        (time,) = (d.time for d in step.main.outputs[0].type.shape if d.time is not None)
        assert time.delay == late(meant)
        for n in (meant.least, meant.least + 1, 7 * shift + 13, 11 * shift):
            fed = {"audio": audio[None, :n].astype(np.float64)}
            (whole,) = run(module.main, fed)
            (streamed,) = run_stream(step.main, fed)
            assert streamed.shape == whole.shape and np.isfinite(streamed).all()
            assert np.abs(streamed - whole).max(initial=0) <= STREAMED * max(1.0, np.abs(whole).max(initial=0)), n


@pytest.mark.parametrize("spec", WHOLE)
def test_what_needs_the_whole_utterance_is_refused(spec):
    meant = parse(spec)
    with pytest.raises(UnsupportedError) as error:
        step_of(wide(spec), 4 * meant.shift)
    assert error.value.code == "SC203"
    own = [h for h in error.value.hints if h.startswith("--front-end")]
    assert own and any("--normalise" in h and "fixed" in h for h in error.value.hints)
    text = own[0].partition(" ")[2].strip('"')
    step_of(wide(text), 4 * meant.shift)
    assert parse(text).width == meant.width and parse(text).sample_rate == meant.sample_rate
