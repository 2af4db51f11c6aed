from __future__ import annotations

import hmac
import re
import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks_bridge import tokens
from tasks_bridge.errors import InvalidRequest, InvalidToken
from tasks_bridge.tokens import MAX_TOKEN_CHARS, TokenPurpose, derive_secret, sign, verify

SECRET = SecretStr("s" * 16 + "0123456789abcdef")
OTHER = SecretStr("another secret of more than 32 characters")
NOW = 1_800_000_000.0

job_ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64)
purposes = st.sampled_from(TokenPurpose)
secrets = st.text(st.characters(), min_size=32, max_size=80).map(SecretStr)  # half surrogate pairs included
moments = st.none() | st.floats(NOW + 1, NOW + 1e9)


@given(secrets, purposes, job_ids, moments)
def test_a_token_leads_back_to_its_job_as_often_as_it_is_used(
    secret: SecretStr, purpose: TokenPurpose, job_id: str, expires_at: float | None
) -> None:
    token = sign(secret, purpose, job_id, expires_at=expires_at)

    assert [verify([secret], purpose, token, now=NOW) for _ in range(3)] == [job_id] * 3
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", token), "a token should stand in a URL's path as it is"
    assert len(token) <= MAX_TOKEN_CHARS


def refused(
    token: str, *, secret: SecretStr = SECRET, purpose: TokenPurpose = TokenPurpose.STATUS, now: float = NOW
) -> str:
    with pytest.raises(InvalidToken) as caught:
        verify([secret], purpose, token, now=now)
    return repr(caught.value) + str(caught.value)


@given(job_ids, moments, st.data())
def test_a_token_with_any_bit_changed_is_refused(job_id: str, expires_at: float | None, data: st.DataObject) -> None:
    token = sign(SECRET, TokenPurpose.STATUS, job_id, expires_at=expires_at)
    place = data.draw(st.integers(0, len(token) - 1))
    bit = data.draw(st.integers(0, 7))

    refused(token[:place] + chr(ord(token[place]) ^ 1 << bit) + token[place + 1 :])


@given(job_ids, st.data())
def test_a_token_cut_short_or_with_more_to_it_is_refused(job_id: str, data: st.DataObject) -> None:
    token = sign(SECRET, TokenPurpose.STATUS, job_id)

    refused(token[: data.draw(st.integers(0, len(token) - 1))])
    refused(token + data.draw(st.text(min_size=1)))
    refused(data.draw(st.text(min_size=1)) + token)


@given(job_ids, job_ids)
def test_a_token_is_for_no_other_job(job_id: str, other_id: str) -> None:
    assume(job_id != other_id)
    mac = sign(SECRET, TokenPurpose.STATUS, job_id).rpartition("~")[2]

    refused(f"1~~{other_id}~{mac}")


@given(job_ids, purposes, purposes)
def test_a_token_is_for_no_other_purpose_and_of_no_other_secret(
    job_id: str, purpose: TokenPurpose, other: TokenPurpose
) -> None:
    token = sign(SECRET, purpose, job_id)

    if other is not purpose:
        refused(token, purpose=other)
    refused(token, purpose=purpose, secret=OTHER)


@given(st.text() | st.text(string.printable) | st.from_regex(r"1~\d*~[\w.-]*~.*"))
def test_whatever_is_no_token_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    ("purpose", "token"),
    [
        (TokenPurpose.STATUS, "1~~job-1~8LNcuzkoCMQQUrYAiU0Bn_02LguZ8YbrQ4yMzM_pOys"),
        (TokenPurpose.CONTROL, "1~1900000000~job-1~weRe7j2eDh8cx-GUe1HBADT7FyQBCuIao6PHZNoK5rM"),
        (TokenPurpose.CALLBACK, "1~~job-1~-CDcTfF_zY-OippoTcrS4ZnPVh_ZNTZD_qEBC2ncRok"),
    ],
)
def test_what_was_signed_before_an_upgrade_is_valid_after_it(purpose: TokenPurpose, token: str) -> None:
    assert verify([SECRET], purpose, token, now=NOW) == "job-1"


def test_what_is_longer_than_any_token_is_refused_however_well_signed() -> None:
    longest, longer = (f"1~~{'x' * (MAX_TOKEN_CHARS - 47 + more)}" for more in (0, 1))
    tokens_of_ours = [f"{content}~{tokens._mac(SECRET, TokenPurpose.STATUS, content)}" for content in (longest, longer)]

    assert [len(token) - MAX_TOKEN_CHARS for token in tokens_of_ours] == [0, 1]
    verify([SECRET], TokenPurpose.STATUS, tokens_of_ours[0], now=NOW)
    refused(tokens_of_ours[1])


def test_a_token_ends_at_its_expiry() -> None:
    refused(sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=0))
    token = sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=NOW + 9.5)

    assert verify([SECRET], TokenPurpose.STATUS, token, now=NOW + 9.9) == "job-1"
    refused(token, now=NOW + 10)


GOOD = sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=NOW + 9)
REFUSED: dict[str, Any] = {
    "tampered": lambda: refused(f"{'A' if GOOD[0] != 'A' else 'B'}{GOOD[1:]}"),
    "its mac tampered at the start": lambda: refused(GOOD.replace(mac := GOOD.rpartition("~")[2], f"_{mac[1:]}")),
    "its mac tampered at the end": lambda: refused(f"{GOOD[:-1]}{'A' if GOOD[-1] != 'A' else 'E'}"),
    "cut short": lambda: refused(GOOD[:-1]),
    "expired": lambda: refused(GOOD, now=NOW + 9),
    "its expiry put off": lambda: refused(GOOD.replace(str(int(NOW + 9)), str(int(NOW + 99)))),
    "its expiry taken away": lambda: refused(GOOD.replace(str(int(NOW + 9)), "")),
    "for another job": lambda: refused(GOOD.replace("job-1", "job-2")),
    "for another purpose": lambda: refused(GOOD, purpose=TokenPurpose.CALLBACK),
    "of another secret": lambda: refused(GOOD, secret=OTHER),
    "empty": lambda: refused(""),
    "too long": lambda: refused("1~~job-1~" + "x" * 1000),
    "not ASCII": lambda: refused("\ud800~\xe9"),
    "no Unicode": lambda: refused("1~~job-1~\ud800"),
}


def test_every_refusal_looks_the_same() -> None:
    assert len({refusal() for refusal in REFUSED.values()}) == 1


def _forbidden(name: str) -> Any:
    def stop(*_: Any) -> Any:
        raise AssertionError(f"the MAC was looked at by {name}, which may stop at the first difference")

    return stop


LOOKS = {
    name: _forbidden(name)
    for name in (
        *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__"),
        *("__contains__", "__getitem__", "__iter__", "startswith", "endswith", "find", "index", "partition", "split"),
    )
}
GuardedBytes: Any = type("GuardedBytes", (bytes,), LOOKS)
"""A MAC that `hmac.compare_digest` may compare, and nothing else."""
Guarded: Any = type("Guarded", (str,), {**LOOKS, "encode": lambda mac: GuardedBytes(str.encode(mac))})


@pytest.mark.parametrize("why", REFUSED)
def test_every_refusal_makes_and_compares_the_same_macs_in_constant_time(why: str, monkeypatch) -> None:
    made: list[str] = []
    compared: list[bytes] = []
    make, compare = tokens._mac, hmac.compare_digest

    def note_made(*arguments: Any) -> Any:
        made.append(Guarded(make(*arguments)))
        return made[-1]

    def note_compared(one: Any, other: Any) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(tokens, "_mac", note_made)
    monkeypatch.setattr(hmac, "compare_digest", note_compared)

    REFUSED[why]()

    assert len(made) == 1, "expected one MAC for the one secret, whatever is wrong with the token"
    assert [type(mac) for mac in compared] == [GuardedBytes], "expected that MAC to be compared by compare_digest"


def test_every_secret_is_tried_whichever_fits(monkeypatch) -> None:
    compared: list[bool] = []
    compare = hmac.compare_digest

    def note(one: bytes, other: bytes) -> bool:
        compared.append(compare(one, other))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", note)

    verify([SECRET, OTHER, OTHER], TokenPurpose.STATUS, GOOD, now=NOW)

    assert compared == [True, False, False]


def test_what_the_last_secret_signed_is_valid_until_that_is_dropped() -> None:
    old = sign(OTHER, TokenPurpose.CALLBACK, "job-1")

    assert verify([SECRET, OTHER], TokenPurpose.CALLBACK, old, now=NOW) == "job-1"
    with pytest.raises(InvalidToken):
        verify([SECRET], TokenPurpose.CALLBACK, old, now=NOW)
    with pytest.raises(InvalidToken):
        verify([], TokenPurpose.CALLBACK, old, now=NOW)


@pytest.mark.parametrize("content", ["2~~job-1", "2~~job-1~more", "2"])
def test_another_version_of_the_format_is_refused(content: str) -> None:
    mac = tokens._mac(SECRET, TokenPurpose.STATUS, content)  # as we would sign it some day

    refused(f"{content}~{mac}")


@pytest.mark.parametrize("secret", ["", "s" * 31])
def test_a_short_secret_signs_nothing_and_is_not_shown(secret: str) -> None:
    with pytest.raises(InvalidRequest, match="at least 32") as caught:
        sign(SecretStr(secret), TokenPurpose.STATUS, "job-1")

    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("job_id", ["", "a~b", "a/b", "a\n", "x" * 65, None])
def test_what_is_no_job_id_is_not_signed(job_id: str) -> None:
    with pytest.raises(InvalidRequest):
        sign(SECRET, TokenPurpose.STATUS, job_id)


@pytest.mark.parametrize("expires_at", [float("nan"), float("inf"), -1, 1e12])
def test_what_is_no_moment_is_not_signed(expires_at: float) -> None:
    with pytest.raises(InvalidRequest, match="expires_at"):
        sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=expires_at)


@given(st.text() | st.binary())
def test_a_framework_s_own_key_makes_a_secret_that_signs(key: str | bytes) -> None:
    secret = SecretStr(derive_secret(key))

    token = sign(secret, TokenPurpose.STATUS, "job-1")
    assert verify([secret], TokenPurpose.STATUS, token, now=NOW) == "job-1"
    assert derive_secret(key) == secret.get_secret_value()


def test_the_secret_of_a_key_is_that_of_no_other_and_does_not_show_it() -> None:
    assert derive_secret("dev") == derive_secret(b"dev") != derive_secret("dev ")
    assert "dev" not in derive_secret("dev")


def test_the_secret_of_a_key_stays_the_same_for_ever_or_links_of_yesterday_would_be_void() -> None:
    """HMAC-SHA256 with the key over the words ``tasks-bridge`` and ``secret``, worked out by OpenSSL."""
    assert derive_secret("k" * 50) == "15e3665bf9be8d34582da10d760a6bc8b3331ab692587737f5a987757eae89e8"


def test_any_text_is_a_key_to_derive_a_secret_from() -> None:
    assert len({derive_secret(key) for key in ("\ud800", "\ud801", "é")}) == 3
