"""What the tests share. `bytespike` is the library's: see docs/testing.md."""

import pytest
from studio import create_app
from studio.models import Board, db


@pytest.fixture
def app(bytespike, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    app = create_app({"TESTING": True})
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def shoot(client):
    """Shoot a storyboard as a visitor does; returns its row."""

    def place(*shots, title="Foxes", visitor=client):
        visitor.post("/", data={"title": title, "shots": "\n".join(shots)})
        db.session.expire_all()
        return db.session.scalars(db.select(Board).order_by(Board.id.desc())).first()

    return place
