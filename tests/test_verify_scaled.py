"""`speechc verify` of a file whose values were scaled or split before they became codes: each against what it means."""

import numpy as np
import pytest
import speechc
import torch
from speechc.compiler.driver import read_subject
from speechc.compiler.verify.verify import Asked, verify
from torch import nn


class Loud(nn.Module):
    """features [1, T, 16] -> [1, T, 16], through a norm and hidden units of which one is far louder than the rest."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.expand, self.contract = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)
        with torch.no_grad():
            self.norm.weight[3] = 40.0
            self.expand.weight[:, 3] /= 40.0
            self.expand.weight[7] *= 200.0
            self.contract.weight[:, 7] /= 200.0

    def forward(self, x):
        return x + self.contract(torch.relu(self.expand(self.norm(x))))


@pytest.mark.slow
def test_a_module_is_compared_with_what_its_codes_stand_for(tmp_path):
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 60, 16), dtype=np.float32)}
    made = speechc.compile(Loud().eval(), feeds, precision="int8", output=tmp_path, calibration=[feeds])
    passes = {p["name"] for p in made.report["passes"] if p["changed"]}
    assert {"smooth", "split-outliers"} <= passes  # else nothing is scaled or split
    verdict = verify(read_subject(Loud().eval(), feeds), "loud", made.path, Asked(calibration=[feeds]))
    snr = {row.module: row.total.snr for row in verdict.rows if row.total}
    assert {"norm", "expand", "contract"} <= snr.keys()
    assert min(snr.values()) > 25, snr  # what 8 bits leave of every one of them
