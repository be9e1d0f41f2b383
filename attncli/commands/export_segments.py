"""Segmenters as folders: ONNX, with the classes beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli.commands.shared import write_json

if TYPE_CHECKING:
    from attncli.training import RunFolder


def check(task: Any, run: RunFolder, format: str) -> None:
    """Nothing to refuse: there is one format."""


def write_onnx(task: Any, folder: Path) -> None:
    """``model.onnx`` and ``classes.json``, which names the outputs and their colours."""
    from attncli.models.vision.segmenters import export_segmenter

    folder.mkdir(parents=True, exist_ok=True)
    export_segmenter(task.model, task.pixels.size, folder / "model.onnx")
    palette = task.classes.palette()
    listing = [{"name": name, "colour": palette[at]} for at, name in enumerate(task.names)]
    write_json(folder / "classes.json", {"classes": listing})


def use_onnx(task: Any, folder: str) -> str:
    """Python that applies a folder of :func:`write_onnx`."""
    height, width = task.pixels.size
    mode, channel = ("L", "[None]") if task.pixels.channels == 1 else ("RGB", ".transpose(2, 0, 1)")
    return (
        "import numpy as np, onnxruntime as o; from PIL import Image as I; "
        f"x = I.open('IMAGE.png').convert('{mode}').resize(({width}, {height})); "
        f"x = np.asarray(x, 'float32'){channel}; "
        f"s = o.InferenceSession({folder + '/model.onnx'!r}); "
        "print(s.run(None, {'images': x[None]})[0].argmax(1))"
    )


WRITERS = {"onnx": (write_onnx, use_onnx)}
"""Format to what writes it, and to Python that applies what was written."""
