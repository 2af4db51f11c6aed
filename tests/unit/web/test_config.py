"""A framework's dict of settings: named as its settings are, completed by the environment, signed with its key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from tasks_bridge.errors import SettingsError
from tasks_bridge.tokens import derive_secret
from tasks_bridge.web.config import given_settings, library_settings

WHERE = "the framework's TASKS_BRIDGE"


def test_what_the_dict_leaves_out_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_BRIDGE_POLL_MAX_S", "7")
    monkeypatch.setenv("TASKS_BRIDGE_POLL_MIN_S", "3")

    found = library_settings({"POLL_MIN_S": 5}, WHERE, [])

    assert (found.poll_min_s, found.poll_max_s, found.secret_key) == (5, 7, None)


def test_links_are_signed_with_a_key_of_the_framework_s_unless_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    own = SecretStr("o" * 32)

    derived = library_settings({}, WHERE, ["present", b"past"])
    assert derived.secret_keys == [SecretStr(derive_secret("present")), SecretStr(derive_secret("past"))]
    assert library_settings({"SECRET_KEY": own}, WHERE, ["present"]).secret_keys == [own]
    monkeypatch.setenv("TASKS_BRIDGE_SECRET_KEY", "e" * 32)
    assert library_settings({}, WHERE, ["present"]).secret_keys == [SecretStr("e" * 32)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a string", f"{WHERE} must be a dict"),
        (None, "must be a dict"),
        ({"poll_max_s": 5}, f"{WHERE}: names are in capitals"),
        ({5: 5}, "capitals"),
        ({"POL_MAX_S": 5}, rf"{WHERE}: .*did you mean 'poll_max_s'"),
        ({"POLL_MAX_S": "soon"}, rf"{WHERE}: .*poll_max_s"),
        ({"API_KEYS": {"studio": "sk-byts-hush", "no alias": "sk-byts-hush"}}, "an alias is"),
    ],
)
def test_a_mistake_says_where_it_is_and_shows_no_secret(given: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        library_settings(given_settings(given, WHERE), WHERE, [])

    assert "hush" not in str(caught.value)
