"""What `docs/measuring.md` says that commands print, they print; its Python runs."""

import re
import shlex
from pathlib import Path

import pytest
import speechc
from command import run

ROOT = Path(speechc.__file__).parent
PAGE = (ROOT / "docs" / "measuring.md").read_text()
MINE = ("speechc run", "speechc eval")  # other sections have tests of their own
START, *SECTIONS = PAGE.split("\n## ")
OURS = START + "\n## ".join(s for s in SECTIONS if s.startswith(MINE))
BLOCK = re.compile(r"```\n((?:speechc [^\n]*\n)+)```\n(?:```text\n(.*?)```)?", re.S)


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shown = 0
    for commands, printed in BLOCK.findall(OURS):
        for command in commands.splitlines():
            words = shlex.split(command, comments=True)[1:]
            status, out, err = run(*words, cwd=tmp_path)
            assert status == 0, (command, err)
        if printed:
            shown += 1
            strip = lambda text: [line.rstrip() for line in text.strip().splitlines()]
            assert strip(out) == strip(printed)
    assert shown >= 2
    monkeypatch.chdir(tmp_path)
    code = "".join(re.search(rf"## {section}.*?```python\n(.*?)```", PAGE, re.S)[1] for section in MINE)
    exec(compile(code, "measuring.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.splitlines() == [
        "ctc 3 7 1",
        "3 7 1",
        "whole.onnx 0.0 (0.0, 0.0)",
        "step.onnx 0.0 (0.0, 0.0)",
    ]
