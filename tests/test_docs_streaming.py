"""What `docs/streaming.md` says that commands print, they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import speechc
from speechc.compiler.cli import main

ROOT = Path(speechc.__file__).parent
PAGE = (ROOT / "docs" / "streaming.md").read_text()
STEP = "examples/digits/model.pt -o out --stream 640ms"
COSTS = re.findall(r"^\| `(--attention [^`]+)` \| (.+?) \| (.+?) \| (.+?) dB \|$", PAGE, re.M)
SHOWN = re.findall(r"```text\n(.*?)```", PAGE, re.S)


@pytest.fixture
def says(tmp_path, monkeypatch, capsys):
    """What a command prints, run as from the root of the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)

    def run(arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(arguments))
        assert not ended.value.code
        printed = capsys.readouterr()
        return [line.rstrip() for line in (printed.out + printed.err).splitlines()]

    return run


def words(line: str) -> str:
    """A line with single spaces, and without the bar, which is as long as the largest row allows."""
    return " ".join(line.replace("█", "").split())


@pytest.mark.slow
def test_partial_results(says):
    commands = re.findall(r"^speechc (.*)$", PAGE, re.M)
    assert commands[0].startswith(STEP)
    says(commands[0])
    assert says(commands[1]) == [line.rstrip() for line in SHOWN[0].splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("flags, latency, state, snr", COSTS, ids=[c[0] for c in COSTS])
def test_what_flags_cost(flags, latency, state, snr, says):
    report = [words(line) for line in says(f"{STEP} {flags}")]
    wait = "the chunk alone" if latency == "none" else f"{latency}, and the chunk"
    assert f"latency of output {wait}" in report
    assert any(line.startswith(f"state {state} in ") for line in report), report
    found = next(re.search(r"SNR (\S+) dB", line)[1] for line in report if line.startswith("the rewrite"))
    assert float(found) == pytest.approx(float(snr), abs=1)  # the samples are random ones


@pytest.mark.slow
@pytest.mark.parametrize("block, flags", [(1, COSTS[0][0]), (2, COSTS[1][0])], ids=["delay", "chunk"])
def test_tables(block, flags, says):
    report = [words(line) for line in says(f"{STEP} {flags}")]
    missing = [line for line in SHOWN[block].splitlines() if words(line) not in report]
    assert not missing, report


def test_there_are_costs():
    assert len(COSTS) == 4 and len(SHOWN) == 4  # partial results, two reports, the pseudo-code
