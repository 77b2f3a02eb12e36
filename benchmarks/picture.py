"""The README's picture, from run folders: ``python -m benchmarks.picture RUN [RUN ...]``.

Above, success over all given runs; below, what the first run's flow map does to noise.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from flowpolicy.report.figures import flow_map, learning_curve
from flowpolicy.report.progress import phase_curves, refiners
from flowpolicy.report.runfiles import read_evaluations
from flowpolicy.report.show import show
from flowpolicy.report.style import png
from flowpolicy.train.folder import RunFolder

OUT = Path(__file__).parent.parent / "docs" / "images" / "demo.png"


def main(folders: list[str]) -> None:
    """Draws and writes the picture."""
    rows = [
        row for folder in folders for row in read_evaluations(Path(folder) / "evaluations.csv")[0]
    ]
    curves = phase_curves(rows, refiners(rows)[0], np.random.default_rng(0))
    picture = show(RunFolder(folders[0])).flow
    figures = [learning_curve({"FMQ": curves}), *([] if picture is None else [flow_map(picture)])]
    images = [Image.open(io.BytesIO(png(figure, dpi=110))).convert("RGB") for figure in figures]
    width = min(image.width for image in images)
    images = [i.resize((width, round(i.height * width / i.width))) for i in images]
    page = Image.new("RGB", (width, sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        page.paste(image, (0, top))
        top += image.height
    OUT.parent.mkdir(parents=True, exist_ok=True)
    page.save(OUT, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
