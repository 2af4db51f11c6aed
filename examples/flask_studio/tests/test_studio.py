"""From a few lines to a contact sheet."""

import pytest
from PIL import Image
from studio.models import Board, db

from tasks_bridge import Job
from tasks_bridge.testing import assert_job_cancelled, assert_job_failed, assert_job_submitted, assert_no_jobs


def page_of(client, board):
    db.session.expire_all()
    return client.get(f"/boards/{board.id}").text


def test_all_pictures_are_shot_and_assembled(app, bytespike, client, shoot):
    board = shoot("a fox sleeps", "a fox runs")
    for shot in board.shots:
        assert_job_submitted(shot, model="seedream-v4", params={"prompt": shot.words, "size": "1280x720"})
    first, second = board.shots

    bytespike.complete(second)
    assert "It is made when the last picture is there." in page_of(client, board)

    bytespike.complete(first)
    assert "Contact sheet of Foxes" in page_of(client, board)
    assert "<bytespike-job" not in page_of(client, board)
    with Image.open(app.config["FILES"] / board.sheet) as sheet:
        assert sheet.format == "JPEG"
    for shot in board.shots:
        assert client.get(f"/shots/{shot.id}/picture", buffered=True).data.startswith(b"\x89PNG")
    assert client.get(f"/boards/{board.id}/sheet", buffered=True).mimetype == "image/jpeg"


def test_a_cancelled_shot_is_cancelled_at_bytespike_and_the_contact_sheet_waits_for_another_take(
    bytespike, client, shoot
):
    board = shoot("a whale", "a gull")
    whale, gull = board.shots
    bytespike.start(whale)

    Job(whale.job_id).cancel()
    bytespike.complete(gull)

    assert_job_cancelled(whale)
    assert "It waits for shot 1." in page_of(client, board)

    client.post(f"/shots/{whale.id}/again", data={"words": "a whale"})
    assert "Shot 1, take 2" in page_of(client, board)
    bytespike.complete()
    assert "Contact sheet of Foxes" in page_of(client, board)


def test_a_refused_shot_can_be_shot_in_other_words(bytespike, client, shoot):
    board = shoot("a secret cargo")
    (shot,) = board.shots

    bytespike.fail(shot, code="content_policy_violation")

    assert_job_failed(shot, code="content_policy_violation")
    shown = page_of(client, board)
    assert "our rules forbid us to shoot this one" in shown
    assert "It waits for shot 1." in shown

    client.post(f"/shots/{shot.id}/again", data={"words": "a strange cargo"})
    assert_job_submitted(params={"prompt": "a strange cargo"})
    bytespike.complete()
    assert "Contact sheet of Foxes" in page_of(client, board)


@pytest.mark.parametrize("words", [" ", "x" * 201])
def test_another_take_without_words_or_with_too_many_is_refused(bytespike, client, shoot, words):
    (shot,) = shoot("a fox").shots
    bytespike.fail(shot)

    answer = client.post(f"/shots/{shot.id}/again", data={"words": words}, follow_redirects=True)

    assert "Say what shot 1 should show" in answer.text
    assert len(bytespike.jobs) == 1


def test_a_shot_that_is_under_way_is_not_shot_again(bytespike, client, shoot):
    board = shoot("a fox")
    (shot,) = board.shots
    for _ in range(2):
        client.post(f"/shots/{shot.id}/again", data={"words": "a hare"})

    assert len(bytespike.jobs) == 1
    assert "take 2" not in page_of(client, board)


@pytest.mark.parametrize(
    "wrong", [{"title": " "}, {"title": "x" * 81}, {"shots": "\n \n"}, {"shots": "a\n" * 7}, {"shots": "x" * 201}]
)
def test_a_wrong_storyboard_is_sent_back_and_costs_nothing(bytespike, client, wrong):
    answer = client.post("/", data={"title": "Foxes", "shots": "a fox"} | wrong)

    assert answer.status_code == 422
    assert "-error" in answer.text
    assert db.session.scalars(db.select(Board)).all() == []
    assert_no_jobs()


def test_nobody_sees_the_storyboards_of_somebody_else(app, bytespike, client, shoot):
    board = shoot("a secret fox")
    (shot,) = board.shots
    bytespike.complete(shot)

    other = app.test_client()
    shoot("a hare", title="Hares", visitor=other)
    assert "Foxes" not in other.get("/").text
    for path in (f"/boards/{board.id}", f"/boards/{board.id}/sheet", f"/shots/{shot.id}/picture"):
        assert client.get(path, buffered=True).status_code == 200
        assert other.get(path).status_code == 404
    for path in (f"/boards/{board.id}/start", f"/boards/{board.id}/sheet", f"/shots/{shot.id}/again"):
        assert other.post(path).status_code == 404


def test_a_storyboard_that_could_not_be_started_is_kept_and_started_later(bytespike, client, shoot, monkeypatch):
    from tasks_bridge import StoreError
    from tasks_bridge.tasks import generate

    def fail(*args, **kwargs):
        raise StoreError("Redis is away")

    with monkeypatch.context() as away:
        away.setattr(generate, "apply_async", fail)
        board = shoot("a fox")
    assert_no_jobs()
    assert "Try again" in page_of(client, board)

    for _ in range(2):
        client.post(f"/boards/{board.id}/start")
    assert "Try again" not in page_of(client, board)
    bytespike.complete()
    assert "Contact sheet of Foxes" in page_of(client, board)
