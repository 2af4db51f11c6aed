"""Applications are checked against our types by pyright too; mypy sees the same file with all the others."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PYRIGHT = Path(sys.executable).parent / "basedpyright"


def check(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PYRIGHT), "--project", str(project), "--pythonpath", sys.executable]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pyright_has_nothing_to_say_of_what_an_application_writes() -> None:
    checked = check(HERE)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 errors, 0 warnings, 0 notes" in checked.stdout


def test_pyright_would_have_something_to_say_of_a_mistake(tmp_path: Path) -> None:
    sample = (HERE / "typing_sample.py").read_text()
    (tmp_path / "typing_sample.py").write_text(sample.replace("job.cancel(", "job.cancle("))
    (tmp_path / "pyrightconfig.json").write_text((HERE / "pyrightconfig.json").read_text())

    checked = check(tmp_path)

    assert checked.returncode == 1
    assert '"cancle"' in checked.stdout
