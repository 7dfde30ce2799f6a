"""Puts this folder on the path, so that tests can import what they share (`models`, `op_cases`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write what passes make into tests/golden/*.sir")
