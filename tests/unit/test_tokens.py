from __future__ import annotations

import ast
import inspect
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks_bridge import tokens
from tasks_bridge.errors import InvalidRequest, InvalidToken
from tasks_bridge.tokens import MAX_TOKEN_CHARS, TokenPurpose, sign, verify

SECRET = "s" * 16 + "0123456789abcdef"
OTHER = "another secret of more than 32 characters"
NOW = 1_800_000_000.0

job_ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64)
purposes = st.sampled_from(TokenPurpose)
secrets = st.text(min_size=32, max_size=80)
moments = st.none() | st.floats(NOW + 1, NOW + 1e9)


@given(secrets, purposes, job_ids, moments)
def test_a_token_leads_back_to_its_job_as_often_as_it_is_used(
    secret: str, purpose: TokenPurpose, job_id: str, expires_at: float | None
) -> None:
    token = sign(secret, purpose, job_id, expires_at=expires_at)

    assert [verify(secret, purpose, token, now=NOW) for _ in range(3)] == [job_id] * 3
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", token), "a token should stand in a URL's path as it is"
    assert len(token) <= MAX_TOKEN_CHARS


def refused(token: str, *, secret: str = SECRET, purpose: TokenPurpose = TokenPurpose.STATUS, now: float = NOW) -> str:
    with pytest.raises(InvalidToken) as caught:
        verify(secret, purpose, token, now=now)
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


@given(job_ids)
def test_a_token_is_for_no_other_purpose_and_of_no_other_secret(job_id: str) -> None:
    token = sign(SECRET, TokenPurpose.STATUS, job_id)

    refused(token, purpose=TokenPurpose.CALLBACK)
    refused(token, secret=OTHER)


@given(st.text() | st.text(string.printable) | st.from_regex(r"1~\d*~[\w.-]*~.*"))
def test_whatever_is_no_token_is_refused(text: str) -> None:
    refused(text)


def test_a_token_ends_at_its_expiry() -> None:
    token = sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=NOW + 9.5)

    assert verify(SECRET, TokenPurpose.STATUS, token, now=NOW + 9.9) == "job-1"
    refused(token, now=NOW + 10)


def test_every_refusal_looks_the_same() -> None:
    expired = sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=NOW)
    good = sign(SECRET, TokenPurpose.STATUS, "job-1")

    assert (
        len(
            {
                refused(expired),
                refused(good, secret=OTHER),
                refused(good, purpose=TokenPurpose.CALLBACK),
                refused(good[:-1]),
                refused(""),
                refused("1~~job-1~" + "x" * 1000),
                refused("\ud800~é"),
            }
        )
        == 1
    )


def test_what_the_last_secret_signed_is_valid_until_that_is_dropped() -> None:
    old = sign(OTHER, TokenPurpose.CALLBACK, "job-1")

    assert verify([SECRET, OTHER], TokenPurpose.CALLBACK, old, now=NOW) == "job-1"
    with pytest.raises(InvalidToken):
        verify([SECRET], TokenPurpose.CALLBACK, old, now=NOW)
    with pytest.raises(InvalidToken):
        verify([], TokenPurpose.CALLBACK, old, now=NOW)


@pytest.mark.parametrize("content", ["2~~job-1", "2~~job-1~more", "2"])
def test_another_version_of_the_format_is_refused(content: str) -> None:
    mac = tokens._mac(SECRET, TokenPurpose.STATUS, content)

    refused(f"{content}~{mac}")


@pytest.mark.parametrize("secret", ["", "s" * 31])
def test_a_short_secret_signs_nothing_and_is_not_shown(secret: str) -> None:
    with pytest.raises(InvalidRequest, match="at least 32") as caught:
        sign(secret, TokenPurpose.STATUS, "job-1")

    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("job_id", ["", "a~b", "a/b", "a\n", "x" * 65, None])
def test_what_is_no_job_id_is_not_signed(job_id: str) -> None:
    with pytest.raises(InvalidRequest):
        sign(SECRET, TokenPurpose.STATUS, job_id)


@pytest.mark.parametrize("expires_at", [float("nan"), float("inf"), -1, 1e12])
def test_what_is_no_moment_is_not_signed(expires_at: float) -> None:
    with pytest.raises(InvalidRequest, match="expires_at"):
        sign(SECRET, TokenPurpose.STATUS, "job-1", expires_at=expires_at)


def test_macs_are_compared_in_constant_time_only() -> None:
    tree = ast.parse(inspect.getsource(tokens))
    compared = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for name in ast.walk(node)
        if isinstance(name, ast.Name)
    }
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}

    assert "hmac.compare_digest" in calls
    assert not compared & {"mac", "given", "content", "fits"}, "operators stop at the first difference"
