"""Export trained weights as a torch.export archive with a dynamic length, and check it against the network.

python export.py build/weights.pt model.pt
"""

import argparse
import json
import re
from pathlib import Path

import torch
from model import SAMPLE_RATE, TOKENS, Digits

SECONDS = (0.4, 3.3, 20.0)  # lengths at which the archive is compared with the network


def export(model: Digits, path: Path) -> None:
    """Write the whole-utterance network: `audio` [1, T], T dynamic -> `log_probs` [1, T // 320, 11]."""
    program = torch.export.export(
        model.eval(), (torch.zeros(1, 2 * SAMPLE_RATE),), dynamic_shapes=({1: torch.export.Dim.AUTO},)
    )
    about = {"sample_rate": SAMPLE_RATE, "tokens": TOKENS, "input": "audio"}
    folders = re.compile(re.escape(str(Path(__file__).resolve().parent)) + r'/|(?<=")/[^"]*/site-packages/')
    for node in program.graph.nodes:  # an archive names source files, not the folders of whoever exported it
        if trace := node.meta.get("stack_trace"):
            node.meta["stack_trace"] = folders.sub("", trace)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"speechc.json": json.dumps(about)})


@torch.inference_mode()
def check(model: Digits, path: Path) -> float:
    """The largest difference between the archive and the network over several lengths."""
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    worst = 0.0
    for seconds in SECONDS:
        audio = 0.1 * torch.randn(1, int(seconds * SAMPLE_RATE) + 7)
        worst = max(worst, (program(audio) - model(audio)).abs().max().item())
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    model = Digits()
    model.load_state_dict(torch.load(options.weights, map_location="cpu"))
    export(model, options.out)
    worst = check(model.eval(), options.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{options.out}: {count} parameters, {options.out.stat().st_size / 1e6:.2f} MB, worst difference {worst:.1e}")
    if not worst < 1e-4:
        raise SystemExit("the archive does not compute what the network does")


if __name__ == "__main__":
    main()
