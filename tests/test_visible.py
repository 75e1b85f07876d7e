"""What a person is shown is what would run: nothing hidden, no host that only looks like another."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.safety.verdict import printable
from orchestrator.safety.visible import escaped, is_hidden, strange_hosts, warnings


@pytest.mark.parametrize(
    "char",
    [
        "\u200b",
        "\u202e",
        "\u2066",
        "\ufeff",
        "\u3164",
        "\ufe0f",
        "\u2800",
        "\x1b",
        "\x07",
        "\u00ad",
        "\U000e0041",
    ],
)
def test_a_character_that_shows_nothing_is_written_out(char: str) -> None:
    assert char not in escaped(f"rm {char}x")
    assert "\\" in escaped(f"rm {char}x")
    assert "\\" in printable(f"rm {char}x")
    assert "hidden characters" in warnings(f"rm {char}x")[0]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_nothing_hidden_is_left_in_any_text(text: str) -> None:
    assert not [char for char in escaped(text) if is_hidden(char) and char != "\n"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_looking_at_hosts_never_fails(text: str) -> None:
    strange_hosts(f"curl https://{text}/ {text}.com xn--{text}.com")


@pytest.mark.parametrize("piece", ["a", "a.", "a-", "@", "x://", "xn--", "\u0430"])
def test_a_long_text_does_not_take_long(piece: str) -> None:
    started = time.process_time()
    warnings(piece * (1_000_000 // len(piece)))
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("curl https://g\u043e\u043egle.com/x", "Cyrillic and Latin"),
        ("curl g\u043e\u043egle.com", "xn--"),
        ("git push git@g\u0456thub.com:me/x.git", "g\\u0456thub.com"),
        ("https://\u0430\u0440\u0440\u04cf\u0435.com", "Cyrillic"),
        ("ping xn--ggle-55da.com", "g\\u043e\\u043egle.com"),
        ("https://user@xn--80ak6aa92e.com/", "xn--80ak6aa92e.com"),
    ],
)
def test_a_host_that_is_not_what_it_seems_is_named(text: str, says: str) -> None:
    assert says in " ".join(strange_hosts(text))


@pytest.mark.parametrize(
    "text",
    [
        "curl https://example.com/\u00fcber?q=\u0434\u0430",
        "cat \u00dcbung.txt",
        "rm r\u00e9sum\u00e9.pdf",
        "mv \u0444\u0430\u0439\u043b.txt x",
        "a@b.org",
    ],
)
def test_ordinary_names_raise_no_warning(text: str) -> None:
    assert warnings(text) == []
