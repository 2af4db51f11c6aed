from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_bridge.errors import InvalidRequest
from tasks_bridge.naming import Target, file_name, parse_target


def name(to: str, *, job_id: str = "fox", index: int = 0, ext: str = "mp4", model: str = "sora-2") -> str:
    return file_name(parse_target(to), job_id=job_id, index=index, ext=ext, model=model)


@pytest.mark.parametrize(
    ("text", "scheme", "root", "pattern"),
    [
        ("/srv/media", "file", "/srv/media", "{id}.{ext}"),
        ("/srv/media/", "file", "/srv/media", "{id}.{ext}"),
        ("/", "file", "/", "{id}.{ext}"),
        ("/srv/hero.mp4/", "file", "/srv/hero.mp4", "{id}.{ext}"),
        ("/srv/media.example", "file", "/srv/media.example", "{id}.{ext}"),
        ("/srv/media/{id}.{ext}", "file", "/srv/media", "{id}.{ext}"),
        ("/srv/media/x-{id}.{ext}", "file", "/srv/media", "x-{id}.{ext}"),
        ("/srv/media/{model}/{id}/", "file", "/srv/media", "{model}/{id}/{id}.{ext}"),
        ("/srv//media//{id}", "file", "/srv/media", "{id}"),
        ("file:///srv/media", "file", "/srv/media", "{id}.{ext}"),
        ("file://localhost/srv/{id}.{ext}", "file", "/srv", "{id}.{ext}"),
        ("s3://bucket", "s3", "bucket", "{id}.{ext}"),
        ("s3://bucket/", "s3", "bucket", "{id}.{ext}"),
        ("s3://bucket/renders", "s3", "bucket", "renders/{id}.{ext}"),
        ("s3://bucket/renders/{id}-{index}.{ext}", "s3", "bucket", "renders/{id}-{index}.{ext}"),
        ("sftp://user@host/{id}", "sftp", "user@host", "{id}"),
        ("local:///srv/media", "local", "", "srv/media/{id}.{ext}"),
        ("django://default", "django", "default", "{id}.{ext}"),
        ("django://default/renders/{id}.{ext}", "django", "default", "renders/{id}.{ext}"),
    ],
)
def test_a_destination_is_taken_apart(text: str, scheme: str, root: str, pattern: str) -> None:
    assert parse_target(text) == Target(scheme, root, pattern)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "absolute path or a URL"),
        ("", "absolute path or a URL"),
        (7, "absolute path or a URL"),
        ("renders/{id}.{ext}", "absolute path"),
        ("./renders", "absolute path"),
        ("~/renders", "absolute path"),
        ("/srv/../etc/{id}", "'..'"),
        ("/srv/{id}/../../etc", "'..'"),
        ("s3://bucket/../other/{id}", "'..'"),
        ("/srv/{id}/./x", "'.'"),
        ("/srv/{name}.{ext}", "{name} is no field"),
        ("/srv/{}", "{} is no field"),
        ("/srv/{id", "brace"),
        ("/srv/id}", "brace"),
        ("/srv/{model}.{ext}", "without {id}"),
        ("/srv/{index}.{ext}", "without {id}"),
        ("/srv/hero.mp4", "put {id} into it"),
        ("s3://bucket/hero.PNG", "put {id} into it"),
        ("s3://{model}/{id}", "behind the first slash"),
        ("s3://", "behind the first slash"),
        ("file://server/share/{id}", "this machine only"),
        ("https://cdn.example/{id}", "nothing can be stored"),
        ("simplecache::s3://bucket/{id}", "characters"),
        ("s3://bucket/{id}?versionId=1", "characters"),
        ("/srv/a\x00b/{id}", "characters"),
        ("C:\\media\\{id}", "characters"),
    ],
)
def test_what_is_no_destination_is_refused_in_words(text: object, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_target(text)

    assert said in str(caught.value)


def test_a_password_in_a_destination_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_target("sftp://user:hush-hush@host/{id}")

    assert "password" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "index", "expected"),
    [
        ("/srv", 0, "fox.mp4"),
        ("/srv", 2, "fox~2.mp4"),
        ("/srv/{id}", 1, "fox~1"),
        ("/srv/{id}.bin", 1, "fox~1.bin"),
        ("/srv/{id}-{index}.{ext}", 0, "fox-0.mp4"),
        ("/srv/{id}-{index}.{ext}", 3, "fox-3.mp4"),
        ("s3://b/{model}/{id}/{index}.{ext}", 1, "sora-2/fox/1.mp4"),
        ("/srv/{id}/output.{ext}", 1, "fox/output~1.mp4"),
        ("/srv/{ext}/{id}", 1, "mp4/fox~1"),
    ],
)
def test_a_name_follows_from_the_job_and_the_place_among_its_outputs(pattern: str, index: int, expected: str) -> None:
    assert name(pattern, index=index) == expected


@pytest.mark.parametrize("value", ["../../etc/passwd", "..", ".", "", "a/b", "a\\b", "\x00", "{id}", "a%2fb", "~1"])
@pytest.mark.parametrize("to", ["/srv/media", "/srv/{model}/{id}", "/srv/.{id}", "s3://b/{id}/{ext}"])
def test_no_value_leads_outside(value: str, to: str) -> None:
    try:
        found = name(to, job_id=value, model=value, ext=value)
    except InvalidRequest:
        return  # such as "." behind a dot

    parts = found.split("/")
    assert len(parts) == len(parse_target(to).pattern.split("/"))
    assert not {"", ".", ".."} & set(parts)


@given(st.text(), st.text(), st.text(), st.integers(0, 99))
def test_a_name_has_only_characters_that_are_safe_everywhere(job_id: str, ext: str, model: str, index: int) -> None:
    found = name("/srv/{model}/{id}.{ext}", job_id=job_id, ext=ext, model=model, index=index)

    assert set(found) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~/")
    assert found.count("/") == 1


_IDS = st.from_regex(r"[A-Za-z0-9._-]{1,6}", fullmatch=True)


@given(_IDS, _IDS, st.integers(0, 20), st.integers(0, 20))
def test_two_outputs_never_have_the_same_name(one: str, other: str, index: int, other_index: int) -> None:
    for to in ("/srv/{id}.{ext}", "/srv/x-{id}-{index}.{ext}"):
        same = name(to, job_id=f"x{one}", index=index) == name(to, job_id=f"x{other}", index=other_index)
        assert same == ((one, index) == (other, other_index))
