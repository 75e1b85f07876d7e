"""No step of the guardian's chain can loosen what was decided before it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.nodes.intent import beyond_yes
from orchestrator.nodes.judging import tightest
from orchestrator.safety.verdict import STRICTNESS
from orchestrator.state import Verdict

verdicts = st.builds(
    Verdict,
    decision=st.sampled_from(["allow", "ask", "deny"]),
    rule=st.sampled_from(["a", "b"]),
    why=st.just("why"),
    inside=st.booleans(),
    read_only=st.booleans(),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(verdicts, verdicts)
def test_no_step_can_loosen_a_verdict(before: Verdict, proposed: Verdict) -> None:
    after = tightest(before, proposed)
    assert STRICTNESS[after["decision"]] == max(
        STRICTNESS[verdict["decision"]] for verdict in (before, proposed)
    )
    assert after["inside"] <= before["inside"]
    assert after["read_only"] <= before["read_only"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(verdicts, verdicts)
def test_the_rule_that_is_shown_is_the_one_that_decided(before: Verdict, proposed: Verdict) -> None:
    after = tightest(before, proposed)
    assert (after["decision"], after["rule"]) in {
        (verdict["decision"], verdict["rule"]) for verdict in (before, proposed)
    }


@pytest.mark.parametrize(
    ("request_", "wipes"),
    [
        ("format my hard disk", True),
        ("Format drive C please", True),
        ("formatiere die Festplatte", True),
        ("delete everything on this machine", True),
        ("format server.py with black", False),
        ("format server.py and remove everything that it does not use", False),
        ("format the disk usage report as a table", False),
        ("save the table in a format that the server reads", False),
    ],
)
def test_to_format_code_is_not_to_wipe_a_machine(request_: str, wipes: bool) -> None:
    assert bool(beyond_yes([], request_, is_read_only=False)) is wipes
    assert not beyond_yes([], request_, is_read_only=True)
