"""docs/deploy.md shows what runs."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.S | re.M)
    assert len(blocks) == 2
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    space = runpy.run_path(str(tmp_path / "page.py"))
    assert space["chunk"].shape == (space["policy"].horizon, 2)
    assert np.abs(space["chunk"]).max() <= 1
    assert space["action"].shape == (2,)
    files = set(re.findall(r"^\| `([\w.]+)` \|", PAGE.read_text(), flags=re.M))
    assert files == {p.name for p in space["folder"].iterdir()}
