"""Puts this folder on the path, so that tests can import what they share (`models`, `op_cases`)."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["plugin_example"]  # a package of its own: test_plugin.py installs it and runs its tests


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what passes make into tests/golden/*.sir, and the tables of docs/models.md",
    )


def pytest_terminal_summary(terminalreporter):
    """The histogram of the random streaming graphs, whichever worker drew them."""
    reports = terminalreporter.stats.get("passed", [])
    found = [json.loads(text) for r in reports for name, text in r.user_properties if name == "streaming"]
    if found:
        from stream_cases import histogram

        terminalreporter.section("random streaming graphs")
        terminalreporter.write_line(histogram([graph for part in found for graph in part]))
