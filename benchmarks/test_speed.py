"""pytest-benchmark cases, one shape a cell: `pytest benchmarks/test_speed.py` (the test run does not collect
them).

For a quick look and for comparing two states of the tree (`--benchmark-autosave`, `--benchmark-compare`);
figures to quote come from benchmarks/run.py, whose peers take turns.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.grid import GATES, Case, select
from benchmarks.peers import MODES, PEERS, initial_weights

CASES = [case for cell in GATES for case in select(["shapes"], [cell], ["G"])]


@pytest.mark.parametrize("peer", [name for name, peer in PEERS.items() if peer.environment is None])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cell}-{case.name}")
def test_layer(benchmark, case: Case, mode: str, peer: str) -> None:
    benchmark.group = f"{case.cell} {case.text} {mode}, {torch.get_num_threads()} threads"
    prepared = PEERS[peer].prepare(case, mode, initial_weights(case))
    benchmark(prepared.run)
