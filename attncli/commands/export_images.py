"""Models of images as folders: Hugging Face's ViT, or ONNX with what pictures are made of beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli.commands.shared import write_json
from attncli.errors import RecipeError

if TYPE_CHECKING:
    from attncli.training import RunFolder


def check(task: Any, run: RunFolder, format: str) -> None:
    """Refuse what ``format`` has not, before anything is written."""
    if format != "hf":
        return
    from attncli.models.vision.huggingface_folder import vit_problems
    from attncli.models.vision.vit_config import VitConfig

    if not isinstance(task.model.config, VitConfig):
        what = f"model.family={task.model.config.family} is written as ONNX only"
        raise RecipeError(what, then=f"attn export {run.path} --format onnx")
    if problems := vit_problems(task.model.config):
        raise RecipeError(*problems, then=f"attn export {run.path} --format onnx")


def write_hf(task: Any, folder: Path) -> None:
    """A folder that ``transformers`` loads."""
    from attncli.layers.lora import merged_state
    from attncli.models.vision.huggingface_folder import save_vit

    save_vit(
        task.model,
        merged_state(task.model),
        folder,
        labels=task.labels.names,
        kind=task.labels.kind,
        mean=task.form.mean,
        std=task.form.std,
    )


def write_onnx(task: Any, folder: Path) -> None:
    """``model.onnx``, ``preprocessor_config.json`` and ``labels.json`` that names the outputs."""
    from attncli.models.onnx import export_image_onnx
    from attncli.models.vision.huggingface_folder import preprocessor

    folder.mkdir(parents=True, exist_ok=True)
    export_image_onnx(task.model, folder / "model.onnx")
    write_json(
        folder / "preprocessor_config.json", preprocessor(task.form.size, task.form.mean, task.form.std)
    )
    task.labels.save(folder)


def use_hf(task: Any, folder: str) -> str:
    """Python that applies a folder of :func:`write_hf`."""
    return (
        f"from transformers import pipeline; print(pipeline('image-classification', {folder!r})('IMAGE.png'))"
    )


def use_onnx(task: Any, folder: str) -> str:
    """Python that applies a folder of :func:`write_onnx`."""
    form = task.form
    mode = "L" if form.channels == 1 else "RGB"
    channel = "[None]" if form.channels == 1 else ".transpose(2, 0, 1)"
    mean, std = (_column(values) for values in (form.mean, form.std))
    size = form.width, form.height
    return (
        "import numpy as np, onnxruntime as o; from PIL import Image as I; "
        f"x = np.asarray(I.open('IMAGE.png').convert('{mode}').resize({size})){channel}; "
        f"x = ((x / 255 - {mean}) / {std}).astype('float32')[None]; "
        f"s = o.InferenceSession({folder + '/model.onnx'!r}); print(s.run(None, {{'pixel_values': x}}))"
    )


def _column(values: tuple[float, ...]) -> str:
    """Numbers of each channel as code."""
    if len(values) == 1:
        return f"{values[0]:g}"
    return f"np.array([{', '.join(f'{value:g}' for value in values)}])[:, None, None]"


def note(task: Any) -> str:
    """What is left behind."""
    if task.form.fit == "stretch":
        return ""
    return (
        f"pictures of another shape: attn does image.fit={task.form.fit}, the folder's settings stretch them"
    )


WRITERS = {"hf": (write_hf, use_hf), "onnx": (write_onnx, use_onnx)}
"""Format to what writes it, and to Python that applies what was written."""
