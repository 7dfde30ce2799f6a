"""Specifications of features as text: read, printed, listed, and refused where they make no sense."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import run as command
from front_ends import STREAM, WHOLE
from speechc.ir.errors import UsageError
from speechc.passes.front_end.reference import digest
from speechc.passes.front_end.spec import parse, registered


@pytest.mark.parametrize("spec", [*STREAM, *WHOLE])
def test_text_is_read_back(spec):
    meant = parse(spec)
    assert parse(str(meant)) == meant and parse(meant.text(every=True)) == meant
    assert " " not in str(meant) and " " not in meant.text(every=True)  # ops name it as their class
    assert meant.samples(meant.frames(50000)) <= 50000 < meant.samples(meant.frames(50000) + 1)
    assert meant.frames(meant.least) >= 1


def test_only_what_is_not_usual_is_printed():
    assert str(parse("log-mel{like=librosa, n_fft=2048, bins=64, norm='slaney'}")) == "log-mel{like=librosa,bins=64}"
    assert str(parse("log-mel{n_fft=512,win_length=512,hop_length=256}")) == "log-mel{n_fft=512}"
    assert str(parse("log-mel{n_fft=512,hop_length=160}")) == "log-mel{n_fft=512,hop_length=160}"
    assert str(parse("log-mel{sample_rate=8000,f_max=4000}")) == "log-mel{sample_rate=8000}"


WRONG = [
    ("", "SC070"), ("whisper{", "SC070"), ("whisper{80}", "SC070"), ("whisper{bins=80,bins=80}", "SC070"),
    ("wisper", "SC071"), ("whisper+mean", "SC071"), ("utterance", "SC071"), ("whisper+", "SC070"),
    ("whisper{bin=80}", "SC072"), ("whisper{bins=0}", "SC072"), ("whisper{bins=80.5}", "SC072"),
    ("mfcc{bins=24}", "SC072"), ("mfcc{window=kaiser}", "SC072"), ("mfcc{snip_edges=1}", "SC072"),
    ("kaldi-fbank{low_freq=9000}", "SC072"), ("kaldi-fbank{frame_length=0}", "SC072"),
    ("kaldi-fbank{energy_floor=-1}", "SC072"), ("log-mel{win_length=500}", "SC072"), ("log-mel{like=kaldi}", "SC072"),
    ("log-mel{maximum=1.0}", "SC072"), ("log-mel{cepstra=200}", "SC072"), ("log-mel{log=dB}", "SC072"),
    ("log-mel{hop_length=-1}", "SC072"), ("log-mel{n_fft=none}", "SC072"), ("log-mel{floor=-1}", "SC072"),
    ("kaldi-fbank{scale=1e400}", "SC072"), ("mfcc+utterance{eps=-1}", "SC072"), ("mfcc+cumulative{eps=-1}", "SC072"),
    ("mfcc+fixed{mean=(1,2)}", "SC072"), ("mfcc+fixed{std=0}", "SC072"), ("mfcc+stack{of=0}", "SC072"),
    ("mfcc+fixed{mean=(1,2),std=(1,2,3)}", "SC072"), ("mfcc+fixed{file=none.npz}", "SC074"),
]  # fmt: skip


@pytest.mark.parametrize("spec, code", WRONG, ids=[w[0] or "empty" for w in WRONG])
def test_what_makes_no_sense(spec, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        parse(spec)
    assert error.value.code == code and error.value.message


def test_statistics_of_files(tmp_path):
    mean, std = np.arange(13.0), np.arange(1.0, 14.0)
    np.savez(tmp_path / "a.npz", mean=mean, std=std)
    np.savez(tmp_path / "b.npz", mean=mean, var=std**2)
    np.save(tmp_path / "c.npy", np.stack([mean, std]))
    frames = 1000
    sums = {"mean_stat": (mean * frames).tolist(), "var_stat": ((std**2 + mean**2) * frames).tolist()}
    (tmp_path / "d.json").write_text(json.dumps(sums | {"frame_num": frames}))
    (tmp_path / "e f.json").write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    digests = set()
    for name in ("a.npz", "b.npz", "c.npy", "d.json", "e f.json"):
        meant = parse(f"mfcc+fixed{{file={str(tmp_path / name)!r}}}")
        assert parse(str(meant)) == meant and " " not in str(meant)
        found = meant.behind[0].statistics()
        assert np.allclose(found, (mean, std))
        digests.add(digest(meant) if name != "d.json" else None)
    same = parse(f"mfcc+fixed{{mean={tuple(mean.tolist())},std={tuple(std.tolist())}}}")
    assert digests - {None} == {digest(same)}, "the hash is of the numbers, not of where they are kept"
    (tmp_path / "bad.json").write_text('{"mean": [1]}')
    with pytest.raises(UsageError, match="no mean"):
        parse(f"mfcc+fixed{{file={tmp_path / 'bad.json'}}}")


@pytest.mark.parametrize("whole", ["kaldi-fbank{low_freq=20}", "mfcc{scale=32768,lifter=22}", "log-mel{power=2}"])
def test_whole_numbers_are_real_ones(whole):
    """The same definition has one hash, however its numbers are written."""
    assert digest(parse(whole)) == digest(parse(whole.partition("{")[0]))
    assert parse(whole).text(every=True) == parse(whole.partition("{")[0]).text(every=True)


def test_hashes_differ():
    texts = [*STREAM, *WHOLE]
    assert len({digest(parse(t)) for t in texts}) == len(texts)


def test_the_command_lists_them_all(tmp_path):
    status, out, _ = command("front-ends", cwd=tmp_path)
    assert status == 0
    status, listed, _ = command("front-ends", "--json", cwd=tmp_path)
    found = {f["name"] for f in json.loads(listed)}
    assert found == {n for table in registered() for n in table} and all(n in out for n in found)
    status, one, _ = command("front-ends", "mfcc{bins=12}", "--json", cwd=tmp_path)
    assert status == 0 and json.loads(one)["bins"] == 12
    status, out, error = command("front-ends", "mfcc{bins=99}", cwd=tmp_path)
    assert status == 2 and not out and "SC072" in error


def test_every_part_says_what_it_is():
    for table in registered():
        for cls in table.values():
            assert cls.__doc__ and cls().text(every=True)
