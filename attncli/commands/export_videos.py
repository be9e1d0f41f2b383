"""Models of video as folders: ONNX, with what frames are made of beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli.commands.shared import write_json

if TYPE_CHECKING:
    from attncli.training import RunFolder


def check(task: Any, run: RunFolder, format: str) -> None:
    """Nothing is refused before the model is written."""


def write_onnx(task: Any, folder: Path) -> None:
    """``model.onnx``, ``clips.json`` on what a clip is made of, and ``labels.json`` that names outputs."""
    from attncli.models.onnx import export_image_onnx

    folder.mkdir(parents=True, exist_ok=True)
    export_image_onnx(task.model, folder / "model.onnx", frames(task))
    form, clip = task.form, task.recipe.clip
    told = {
        "frames": clip.frames,
        "strides": clip.stride,
        "rate": clip.rate,
        "height": form.height,
        "width": form.width,
        "channels": form.channels,
        "mean": list(form.mean),
        "std": list(form.std),
    }
    write_json(folder / "clips.json", told)
    task.labels.save(folder)


def frames(task: Any) -> int:
    """Frames of a clip, all its scales one after the other."""
    return task.model.config.frames * task.model.config.scales


def use_onnx(task: Any, folder: str) -> str:
    """Python that applies a folder of :func:`write_onnx` to an empty clip."""
    form = task.form
    shape = (1, frames(task), form.channels, form.height, form.width)
    return (
        "import numpy as np, onnxruntime as o; "
        f"x = np.zeros({shape}, 'float32'); "
        f"s = o.InferenceSession({folder + '/model.onnx'!r}); print(s.run(None, {{'pixel_values': x}}))"
    )


def note(task: Any) -> str:
    """What the caller has to do."""
    return "frames are chosen, resized and normalised as clips.json says, before the model sees them"


WRITERS = {"onnx": (write_onnx, use_onnx)}
"""Format to what writes it, and to Python that applies what was written."""
