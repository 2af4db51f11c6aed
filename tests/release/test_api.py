"""Nothing that others rely on changes by accident."""

from tools.api import WRITTEN, lines


def test_the_public_interface_is_as_written_down() -> None:
    written, found = WRITTEN.read_text().splitlines(), list(lines())
    gone = [f"- {line}" for line in written if line not in found]
    new = [f"+ {line}" for line in found if line not in written]

    assert not gone + new, (
        "the public interface has changed; if that is meant, add a fragment to changelog.d and run `make api`:\n"
        + "\n".join(gone + new)
    )
