"""What is asked of ByteSpike, and what becomes of the answers. The tasks run in the workers, in the app's context."""

from pathlib import Path

from celery import chord, shared_task
from flask import current_app
from sqlalchemy.exc import OperationalError

from tasks_bridge import JobState, RemoteTask, generate, save_output
from tasks_bridge.contrib.flask import NotYet, job_changed

from .models import Board, Shot, db
from .sheet import draw_sheet

MODEL = "seedream-v4"


def shoot(board):
    """Start all shots at once; when the last picture is there, the contact sheet is made."""
    chord([take(shot) for shot in board.shots], assemble.si(board.id)).delay()


def shoot_again(shot):
    """Start one shot, and make the contact sheet if that was the one it lacked. Safe to repeat: the id is the job."""
    (take(shot) | assemble.si(shot.board_id)).delay()


def resume(board):
    """Start what of a storyboard is under way, as far as its rows know, once more."""
    for shot in board.shots:
        if not JobState(shot.job_state).is_terminal:
            shoot_again(shot)


def take(shot):
    """A chain: the picture, its file, and the row. ByteSpike's files are said to be there for a day: they are saved."""
    request = (MODEL, {"prompt": shot.words, "size": "1280x720"})
    return generate.s(*request, label=shot.board.visitor).set(task_id=shot.job_id) | save_output.s() | keep.s()


@shared_task(pydantic=True, acks_late=True, autoretry_for=(OperationalError,), retry_backoff=True, max_retries=10)
def keep(finished: RemoteTask) -> None:
    """Write into the row where `save_output` has put the picture. Running twice, as after a crash, does no harm."""
    name = Path(finished.saved[0].path).name
    db.session.execute(db.update(Shot).where(Shot.job_id == finished.out_task_id).values(file=name))
    db.session.commit()


@shared_task
def assemble(board_id):
    """Make the contact sheet, unless a picture is missing. Running twice, as it may after a crash, changes nothing."""
    board = db.session.get(Board, board_id)
    folder = current_app.config["FILES"]
    if all(shot.file for shot in board.shots):
        name = f"sheet-{board.id}.jpg"
        draw_sheet(board.title, [(folder / shot.file, shot.words) for shot in board.shots], folder / name)
        board.sheet = name
        db.session.commit()


@job_changed.connect
def follow(app, job_id, state, **news):
    """Keep the row up to date: one statement, so that of any number of reports, late or doubled, one moves it."""
    behind = Shot.job_state.in_([before.value for before in state.earlier])
    try:
        db.session.execute(db.update(Shot).where(Shot.job_id == job_id, behind).values(job_state=state.value))
        db.session.commit()
    except OperationalError as problem:  # the database is away: the end of the job waits for it
        raise NotYet("the database is away") from problem
