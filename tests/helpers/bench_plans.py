"""Plans of benchmarks, run whole."""

from __future__ import annotations

from coalesced.tools.bench.registry import Plan
from coalesced.tools.bench.report import Section


def carried_out(plan: Plan) -> Section:
    """Run a plan, and check that it takes as many steps as it says."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    section = plan.run(step)
    assert steps == plan.steps
    return section
