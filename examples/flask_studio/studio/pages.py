"""The studio's pages. None of them waits for a picture: the page follows it by itself."""

from uuid import uuid4

from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    send_from_directory,
    session,
    url_for,
)

from tasks_bridge import JobState, StoreError

from .models import Board, Shot, db
from .tasks import assemble, resume, shoot, shoot_again

MOST_SHOTS = 6
LONGEST = {"title": 80, "shot": 200}

pages = Blueprint("pages", __name__)


@pages.get("/")
def index():
    """A form for a new storyboard, and the visitor's others."""
    return render_template("index.html", boards=boards_of_visitor(), form=request.args, errors={})


@pages.post("/")
def create():
    """Save a storyboard, then start it: a job that no row knows of would be paid for all the same."""
    title, shots, errors = read(request.form)
    if errors:
        return render_template("index.html", boards=boards_of_visitor(), form=request.form, errors=errors), 422
    session.setdefault("visitor", uuid4().hex)
    session.permanent = True
    board = Board(visitor=visitor(), title=title)
    board.shots = [Shot(number=number, words=words, job_id=str(uuid4())) for number, words in enumerate(shots, start=1)]
    db.session.add(board)
    db.session.commit()
    return start(board, shoot, board)


@pages.post("/boards/<int:board_id>/start")
def start_again(board_id):
    """Start what could not be started when it was saved: under the ids in the rows, so no job is started twice."""
    board = board_of_visitor(board_id)
    return start(board, resume, board)


def start(board, how, *what):
    """Start jobs of a storyboard, and note whether that worked."""
    try:
        how(*what)
        board.is_started = True
    except StoreError:
        board.is_started = False
    db.session.commit()
    return redirect(url_for("pages.board", board_id=board.id))


@pages.get("/boards/<int:board_id>")
def board(board_id):
    """A storyboard, live."""
    return render_template("board.html", board=board_of_visitor(board_id))


@pages.post("/shots/<int:shot_id>/again")
def again(shot_id):
    """Shoot one anew that was refused, failed or cancelled, perhaps in other words."""
    shot = shot_of_visitor(shot_id)
    words = " ".join(request.form.get("words", "").split())
    if not 0 < len(words) <= LONGEST["shot"]:
        flash(f"Say what shot {shot.number} should show, in up to {LONGEST['shot']} characters.", "error")
    elif renew(shot, words):
        return start(shot.board, shoot_again, shot)
    return redirect(url_for("pages.board", board_id=shot.board_id))


def renew(shot, words):
    """Give the shot another job; False if it has one under way or a picture. One statement: of two clicks, one does."""
    lost = [state.value for state in JobState if state.is_terminal and state is not JobState.COMPLETED]
    renewed = db.update(Shot).where(Shot.id == shot.id, Shot.job_state.in_(lost))
    values = {"words": words, "take": Shot.take + 1, "job_id": str(uuid4()), "job_state": JobState.QUEUED.value}
    found = db.session.execute(renewed.values(values)).rowcount
    db.session.commit()
    return found == 1


@pages.post("/boards/<int:board_id>/sheet")
def make_sheet(board_id):
    """Make the contact sheet, should nobody have."""
    assemble.delay(board_of_visitor(board_id).id)
    return redirect(url_for("pages.board", board_id=board_id))


@pages.get("/shots/<int:shot_id>/picture")
def picture(shot_id):
    """A shot's picture."""
    return file(shot_of_visitor(shot_id).file)


@pages.get("/boards/<int:board_id>/sheet")
def sheet(board_id):
    """A storyboard's contact sheet."""
    return file(board_of_visitor(board_id).sheet)


# -- who asks, and what for -------------------------------------------------------------------------------------------


def visitor():
    """Who this browser is, by its session; nobody before the first storyboard."""
    return session.get("visitor", "")


def boards_of_visitor():
    """The visitor's storyboards, the latest first."""
    return db.session.scalars(db.select(Board).filter_by(visitor=visitor()).order_by(Board.id.desc())).all()


def board_of_visitor(board_id):
    """The storyboard, if it is the visitor's."""
    return db.one_or_404(db.select(Board).filter_by(id=board_id, visitor=visitor()))


def shot_of_visitor(shot_id):
    """The shot, if it is in a storyboard of the visitor's."""
    return db.one_or_404(db.select(Shot).join(Board).where(Shot.id == shot_id, Board.visitor == visitor()))


def file(name):
    """One of the saved files."""
    if name is None:
        abort(404)
    return send_from_directory(current_app.config["FILES"], name)


def read(form):
    """The title and the shots in *form*, and what is wrong with them, by field."""
    title = " ".join(form.get("title", "").split())
    shots = [words for line in form.get("shots", "").splitlines() if (words := " ".join(line.split()))]
    errors = {}
    if not 0 < len(title) <= LONGEST["title"]:
        errors["title"] = f"Give it a title, of up to {LONGEST['title']} characters."
    if not 0 < len(shots) <= MOST_SHOTS:
        errors["shots"] = f"Say what happens in 1 to {MOST_SHOTS} shots, a line for each."
    elif max(map(len, shots)) > LONGEST["shot"]:
        errors["shots"] = f"A shot takes up to {LONGEST['shot']} characters."
    return title, shots, errors
