"""A storyboard and its shots."""

from datetime import UTC, datetime

from flask_sqlalchemy import SQLAlchemy

from tasks_bridge import JobState

db = SQLAlchemy()


class Board(db.Model):
    """A storyboard of one visitor."""

    id = db.Column(db.Integer, primary_key=True)
    visitor = db.Column(db.String(32), nullable=False, index=True)
    title = db.Column(db.String(80), nullable=False)
    is_started = db.Column(db.Boolean, nullable=False, default=False)
    made_at = db.Column(db.DateTime, nullable=False, default=lambda: datetime.now(UTC))
    sheet = db.Column(db.String(80))
    """The contact sheet's file, once all pictures are there."""
    shots = db.relationship("Shot", order_by="Shot.number", back_populates="board")


class Shot(db.Model):
    """One picture of a storyboard, and its job."""

    id = db.Column(db.Integer, primary_key=True)
    board_id = db.Column(db.ForeignKey("board.id"), nullable=False, index=True)
    number = db.Column(db.Integer, nullable=False)
    words = db.Column(db.String(200), nullable=False)
    take = db.Column(db.Integer, nullable=False, default=1)
    job_id = db.Column(db.String(64), nullable=False, unique=True)
    job_state = db.Column(db.String(16), nullable=False, default=JobState.QUEUED.value)
    file = db.Column(db.String(80))
    """Its picture, once that is saved."""
    board = db.relationship("Board", back_populates="shots")

    @property
    def is_lost(self):
        """Whether its job has ended without a picture."""
        state = JobState(self.job_state)
        return state.is_terminal and state is not JobState.COMPLETED
