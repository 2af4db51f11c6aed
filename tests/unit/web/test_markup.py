"""The HTML of the element: what a template's author gives is shown, and what a user wrote stays text."""

from __future__ import annotations

import pytest

from tasks_bridge.errors import InvalidRequest
from tasks_bridge.web.markup import job_element, script_element


def test_the_element_has_its_source_and_the_attributes_that_it_is_given() -> None:
    attributes = {"class_": "wide", "data_row": 7, "hidden": True, "title": None, "lang": False}

    assert job_element("/jobs/1", attributes) == (
        '<bytespike-job src="/jobs/1" class="wide" data-row="7" hidden></bytespike-job>'
    )


def test_the_script_takes_a_nonce() -> None:
    assert script_element("/job.js", {"nonce": "r4nd0m"}) == (
        '<script type="module" src="/job.js" nonce="r4nd0m"></script>'
    )


def test_values_are_escaped() -> None:
    found = job_element("/jobs/1?a=1&b=2", {"title": "\"><script>alert('x')</script>"})

    assert found == (
        '<bytespike-job src="/jobs/1?a=1&amp;b=2" title="&quot;&gt;&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;">'
        "</bytespike-job>"
    )


@pytest.mark.parametrize("name", ["", "_", "on load", "x>", 'a"b', "a=b", "é", "1st", "src\n"])
def test_what_can_be_no_attribute_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="attribute"):
        job_element("/jobs/1", {name: "x"})
