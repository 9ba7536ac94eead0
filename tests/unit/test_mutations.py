"""Breaking a rule must fail a test: tests/mutations.py, and the table of these mutations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mutations
from coalesced.hv import core
from mutation_list import MUTATIONS, Mutation

README = Path(__file__).parents[1] / "README.md"


def test_the_table_in_the_readme_is_that_of_the_script() -> None:
    """`python tests/mutations.py --table` prints it."""
    text = README.read_text()
    shown = text.partition("<!-- mutations -->\n")[2].partition("<!-- end -->")[0]
    assert shown == mutations.table()


def test_every_rule_is_broken_by_some_mutation() -> None:
    """The ten of coalescing, several vCPUs, own rings, posted zones and ioeventfds."""
    numbered = {mutation.rule.split()[0] for mutation in MUTATIONS}
    assert {str(number) for number in range(1, 17)} <= numbered


def test_every_order_of_the_headers_is_relaxed_by_some_mutation() -> None:
    headers = Path(core.__file__).parent.joinpath("core").glob("*.h")
    named = {
        order
        for header in headers
        for order in re.findall(r"define (ORDER_\w+)", header.read_text())
    }
    relaxed = {m.how.split()[0] for m in MUTATIONS if m.rule.startswith("ordering:")}
    assert len(named) >= 10
    assert relaxed == named


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.rule}: {m.how}")
def test_what_a_mutation_changes_is_there_once(mutation: Mutation) -> None:
    """A mutation of code that has gone would show nothing, as would one without its test."""
    assert (mutations.ROOT / mutation.file).read_text().count(mutation.old) == 1
    file, *names = re.findall(r"[\w/.]+", mutation.test)
    name = next(name for name in names if name.startswith("test_"))
    assert f"def {name}(" in (mutations.ROOT / file).read_text()


@pytest.mark.heavy
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.rule}: {m.how}")
def test_a_broken_rule_fails_a_test(mutation: Mutation, tmp_path: Path) -> None:
    """In a copy of the tree."""
    assert mutations.fails(mutation, tmp_path), f"{mutation.test} passes: {mutation.how}"
