"""The suite of the models runs, and its rivals compute what we do."""

import torch

from predawn.bench import harness, models, suites

MARK = harness.Stamp("models", "abc", "cpu x2")


def test_the_suite_runs_its_parts_with_one_thread_and_leaves_torch_as_it_was() -> None:
    shares: list[float] = []
    effort = harness.Effort(1, 0.01, only="dense layer", progress=shares.append)
    before = torch.get_num_threads()
    rows = models.run(MARK, smoke=True, effort=effort)
    assert torch.get_num_threads() == before and shares[0] == 0.0
    assert {row.case for row in rows if row.case.startswith("dense layer")}
    assert suites.SUITES["models"] is models.run
