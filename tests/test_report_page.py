"""`--report`: one page that needs nothing else, with a section for all that there is, and every text escaped."""

import functools
import html.parser
import json
import re
from pathlib import Path

import pytest
import speechc
from command import run
from speechc.compiler.page import check_page, write_page
from speechc.compiler.page.write import page
from speechc.ir.errors import MissingError, UsageError

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & $\\frac{1}{2}$ \'"'
EMPTY = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
    "path",
    "use",
}


class Read(html.parser.HTMLParser):
    """The tags of a page, its text, and whatever could load something."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.loads, self.open, self.ids = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        for key in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction"):
            if key in given and not given[key].startswith(("#", "data:")):
                self.loads.append((tag, given[key]))
        self.loads += [(tag, k) for k in given if k.startswith("on")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def compiled(name="encoder.conv", remark="a remark"):
    return {
        "artefact": "out/model.onnx", "target": "onnx", "precision": "int8", "bytes": 12345, "largest_error": 1e-3,
        "snr": 41.5, "file_against_graph": {"error": 0.0, "snr": None}, "checked_by": "onnxruntime",
        "checked_at": [{"audio": [1, 16000]}], "seconds": 3.2, "ops_captured": 7, "remarks": [remark],
        "modules": [{"path": name, "ops_before": 7, "ops_after": 5, "bytes_before": 4096, "bytes_after": 1024}],
        "passes": [{"name": "fold", "seconds": 0.01, "changed": True, "changes": 2, "ops": 5}],
        "streaming": {
            "chunk": {"frames": 16, "ms": 160.0}, "batch": 1, "state_bytes": 2048,
            "outputs": {"y": {"rate": "1", "delay": 4, "latency": {"frames": 4, "ms": 40.0},
                              "by_module": {name: {"frames": 4, "ms": 40.0}}}},
            "states": {name: {"count": 1, "bytes": 2048}},
        },
        "word_errors": {"rates": {"model": 0.01, "file": 0.02}, "words": 50, "recordings": 5, "left_out": 1},
    }  # fmt: skip


def verified(name="encoder.conv", good=True):
    row = {"module": name, "class": "Conv1d", "source": "net.py:3", "ops": 2, "total": {"error": 0.1, "snr": 40.0},
           "own": {"error": 1e-6, "snr": None}, "parts": None if good else "conv"}  # fmt: skip
    return {
        "model": "model.pt", "file": "out/model.onnx", "target": "onnx", "precision": "int8",
        "checked_by": "onnxruntime", "against": "the model", "limit": "at least 20 dB wanted", "audio": "recordings",
        "good": good, "rewrite": None,
        "largest_error": 0.1, "snr": 40.0, "stored": [], "missing_values": 0, "first": None, "notes": [name],
        "trials": [{"name": name, "lengths": {"T": 9}, "good": good, "outputs": [
            {"output": "y", "absolute": None, "error": None, "snr": 40.0, "same_argmax": 0.5, "values": 9}]}],
        "along": [row, {**row, "module": "head"}], "seconds": 1.0,
        "error": None if good else {"code": "SC540", "message": name, "where": [name]},
    }  # fmt: skip


def evaluated(name="a.onnx"):
    counts = {"rate": 0.1, "errors": 1, "substitutions": 1, "deletions": 0, "insertions": 0, "length": 10}
    file = {"file": name, "path": name, "wer": counts | {"interval": [0.05, 0.2]}, "cer": counts | {"interval": None},
            "extra_words": 0}  # fmt: skip
    return {
        "data": "list.jsonl", "normalise_text": "plain", "recordings": 3, "counted": 3, "seconds": 9.0,
        "files": [file, file | {"against_first": {"difference": 0.0, "interval": [0, 0], "better": 0, "worse": 0,
                                                  "p": 1.0}, "not_worse": 1.0}],
        "confidence": {"level": 0.95, "resamples": 100}, "without_text": [], "left_out": [], "notes": {},
        "worst": [{"audio": name, "seconds": 1, "text": "a b", "heard": [name, "a"], "word_errors": [1, 1],
                   "words": 2}],
        "gates": [{"gate": "wer<=5%", "metric": "wer", "file": name, "value": 0.1, "limit": 0.05, "passed": False}],
    }  # fmt: skip


def measured(name="a.onnx"):
    figures = {"count": 9, "median_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0}
    timed = {"threads": 1, "utterance": figures, "chunk": figures, "real_time_factor": 0.01,
             "ratio": {"median": 2.0, "low": 1.0, "high": 3.0},
             "throughput": [{"batch": 1, "audio_seconds_per_second": 99.0}]}  # fmt: skip
    return {
        "machine": {"processor": "a processor", "cores": 2},
        "files": [{"path": name, "timed": [timed], "notes": [name], "profile": [
            {"path": name, "kind": "Conv", "name": "n", "seconds": 0.5}],
            "memory": {"base_bytes": 1, "loaded_bytes": 2, "peak_bytes": 3},
            "load": {"import_seconds": 0.1, "load_seconds": 0.2, "first_seconds": 0.3}}],
    }  # fmt: skip


def fitted(name="a phone"):
    device = {"device": "p", "name": name, "kind": "phone", "fits": False, "margin": None, "cores": 1,
              "resources": [{"name": "memory", "need": 2, "have": 1, "fits": False}], "remedies": [name]}  # fmt: skip
    return {"need": {"path": "m.onnx", "parameters": 5, "notes": [name]}, "devices": [device],
            "stores": [{"name": "a store", "limit": 5_000_000, "under": True}]}  # fmt: skip


def everything(name):
    return {"compile": compiled(name, name), "verify": verified(name, False), "eval": evaluated(name),
            "bench": measured(name), "fit": fitted(name)}  # fmt: skip


@functools.cache
def drawn(name="encoder.conv"):
    """The page of everything, as text."""
    return page(everything(name), ["compile", "a model.pt", "--int8"])


def test_a_page_needs_nothing_else():
    text = drawn()
    read = Read(text)
    assert read.open == [] and read.loads == []
    assert "http:" not in text and "https:" not in text and "//" not in re.sub(r"<!--.*?-->", "", text)
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in read.tags}
    assert re.search(r"url\((?!#)", text) is None and "@import" not in text
    assert len(read.ids) == len(set(read.ids))
    anchors = {given["href"][1:] for tag, given in read.tags if tag == "a"}
    assert anchors <= set(read.ids)


def test_every_text_is_escaped():
    read = Read(page(everything(HOSTILE), ["compile", HOSTILE]))
    assert read.loads == [] and not [t for t in read.tags if t[0] in ("script", "img")]
    assert read.open == [] and sum(HOSTILE in part for part in read.text) >= 8
    assert sum(tag == "svg" for tag, _ in read.tags) >= 4  # names are in drawings too


def test_sections_are_what_there_is():
    sections = lambda text: [g["id"] for tag, g in Read(text).tags if tag == "section"]
    title = lambda found: sections(page(found, ["x"]))
    assert sections(drawn()) == [
        "file", "verify", "errors", "words", "bench", "fit", "streaming", "along", "sizes", "passes", "remarks",
        "again",
    ]  # fmt: skip
    assert title({}) == ["again"]
    assert title({"verify": verified() | {"along": []}}) == ["verify", "again"]
    plain = {k: v for k, v in compiled().items() if k not in ("streaming", "word_errors", "modules")} | {"remarks": []}
    assert title({"compile": [plain, plain]}) == ["file", "file-2", "passes", "passes-2", "again"]
    assert title({"compile": {"parts": {"encoder": plain, "decoder": plain}}})[:2] == ["file", "file-2"]


def test_numbers_and_words_of_the_commands_are_on_the_page():
    text = "".join(Read(drawn()).text)
    for wanted in ("speechc compile 'a model.pt' --int8", "12.3 KB", "41.5 dB", "exact", "10.00 %", "5.00 to 20.00 %",
                   "a gate failed", "does not agree", "SC540", "here: conv", "2.00 (1.00 to 3.00)", "lacks memory",
                   "160 ms", "onnxruntime"):  # fmt: skip
        assert wanted in text, wanted


def test_tables_and_drawings_can_be_read_aloud():
    read = Read(drawn())
    count = lambda name: sum(tag == name for tag, _ in read.tags)
    assert count("table") == count("caption") == count("thead") > 10
    scopes = [g.get("scope") for tag, g in read.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert count("figure") == count("figcaption") == count("svg") >= 4
    assert all(g.get("aria-hidden") == "true" for tag, g in read.tags if tag == "svg")
    assert next(g for tag, g in read.tags if tag == "html")["lang"] == "en"


def test_where_a_page_cannot_go(tmp_path, monkeypatch):
    for place in (tmp_path, tmp_path / "nowhere" / "report.html"):
        with pytest.raises(UsageError) as caught:
            check_page(place)
        assert caught.value.code == "SC011"
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingError) as missing:
        write_page(tmp_path / "report.html", {})
    assert missing.value.exit_code == 8 and "speechc[report]" in str(missing.value)
    assert list(tmp_path.iterdir()) == []


def test_the_command_puts_results_together(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps(verified()))
    (tmp_path / "b.json").write_text(json.dumps(measured()))
    status, _, err = run("page", "all.html", "verify=v.json", "bench=b.json", cwd=tmp_path)
    assert status == 0, err
    assert {"verify", "bench"} <= set(Read((tmp_path / "all.html").read_text()).ids)
    (tmp_path / "bad.json").write_text("{")
    for given, code in (("verify=b.json", "SC088"), ("verify=bad.json", "SC088"), ("what=v.json", "SC088"),
                        ("v.json", "SC088"), ("verify=no.json", "SC010")):  # fmt: skip
        status, _, err = run("page", "again.html", given, cwd=tmp_path)
        assert status == 2 and f"error[{code}]" in err, given
    assert not (tmp_path / "again.html").exists()


@pytest.mark.slow
def test_compile_and_verify_write_pages(tmp_path):
    flags = ("--int8", "--calibrate", DIGITS / "audio", "-q")
    assert run(DIGITS / "model.pt", *flags, "--report", "r.html", cwd=tmp_path)[0] == 0
    read = Read((tmp_path / "r.html").read_text())
    assert read.loads == [] and {"file", "verify", "along", "sizes", "passes", "words"} <= set(read.ids)
    assert "blocks.3.feed_out.contract" in "".join(read.text)
    status, _, err = run("verify", DIGITS / "model.pt", "model.onnx", "--report", "v.html", "-q", cwd=tmp_path)
    assert status == 0, err
    assert "verify" in Read((tmp_path / "v.html").read_text()).ids
    status, _, err = run("eval", "model.onnx", "--data", DIGITS / "audio", "--report", "e.html", "-q", cwd=tmp_path)
    assert status == 0 and "errors" in Read((tmp_path / "e.html").read_text()).ids, err
    flags = ("--most", "1", "--seconds", "1", "--threads", "1", "--batch", "1", "-q")
    status, _, err = run("bench", "model.onnx", *flags, "--report", "b.html", cwd=tmp_path)
    assert status == 0 and "bench" in Read((tmp_path / "b.html").read_text()).ids, err
    status, _, err = run(DIGITS / "model.pt", "--report", "nowhere/r.html", cwd=tmp_path)
    assert status == 2 and "SC011" in err
