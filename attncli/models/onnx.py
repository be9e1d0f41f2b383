"""Models of text as ONNX files, which onnxruntime runs."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from attncli.attention import Attention
from attncli.errors import RecipeError
from attncli.layers.lora import merge_low_rank
from attncli.models.text import TextModel

OPSET = 18
_NEEDED = ("onnx", "onnxscript")
_TORCH = (2, 10)
"""Before it, `torch.export` took sizes that may vary for fixed ones."""


class _Exported(nn.Module):
    """A model with the inputs and outputs of the field's ONNX files; tokens are all given their logits."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``input_ids``, ``attention_mask`` and ``token_type_ids`` int64 [B, T]."""
        return self.model(input_ids, segments=token_type_ids, keep=attention_mask != 0)


def export_onnx(model: TextModel, path: Path) -> list[str]:
    """Write ``model`` to ``path`` in float32, for any number and length of texts; the names of its inputs.

    Inputs are ``input_ids``, ``attention_mask`` and, where the encoder has segments, ``token_type_ids``, all
    int64 [B, T]. Outputs are ``logits`` [B, L] of texts or [B, T, L] of tokens, or ``start_logits`` and
    ``end_logits`` [B, T]. Low-rank updates are merged into the weights. The model itself is unchanged.

    Raises:
        RecipeError: a package is not installed or too old, or the model has a CRF.
    """
    _want_packages()
    if model.config.crf:
        raise RecipeError(
            "model.crf=True has no place in an ONNX file: decoding is no part of its operations"
        )
    encoder = model.config.encoder
    if encoder.mechanism == "topk":
        raise RecipeError("attention mechanism topk has no ONNX form: its operation fails on shorter texts")
    model = _plain(model)
    exported = _Exported(model)
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if encoder.segments > 1 else [])
    length = min(7, encoder.length)
    inputs = tuple(torch.ones(2, length, dtype=torch.int64) for _ in names)  # one tensor would be one input
    outputs = ["start_logits", "end_logits"] if model.config.task == "span" else ["logits"]
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=encoder.length)}
    with _quiet():  # dynamo: the exporter that follows any control flow
        program = torch.onnx.export(
            exported,
            inputs,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=tuple(sizes for _ in names),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if any(isinstance(size, int) for size in program.model.graph.inputs[0].shape):
        raise RecipeError(
            f"attention mechanism {encoder.mechanism} with position {encoder.position} has no ONNX form for "
            "texts of any length"
        )
    program.save(str(path), external_data=False)
    return names


def export_image_onnx(model: nn.Module, path: Path, frames: int = 0) -> None:
    """Write a model of images to ``path`` in float32, for any number of pictures of its size.

    The input is ``pixel_values`` float32 [B, K, R, S], of video [B, frames, K, R, S], brought to mean 0 and
    deviation 1; the output ``logits`` [B, L]. Low-rank updates are merged into the weights. The model itself
    is unchanged.

    Raises:
        RecipeError: a package is not installed or too old, or the attention has no form in ONNX.
    """
    config = model.config
    time = (frames,) if frames else ()
    images = torch.zeros(2, *time, config.channels, *config.image)  # one picture would be one for ever
    export_logits(model, images, "pixel_values", path)


def export_logits(model: nn.Module, images: Tensor, name: str, path: Path) -> None:
    """Write a model of pictures, which gives a tensor ``logits``, for any number of pictures like ``images``.

    ``name``: of the input. Raises RecipeError as :func:`export_image_onnx`.
    """
    _want_packages()
    names = {module.mechanism.name for module in model.modules() if isinstance(module, Attention)}
    mechanism = f"attention mechanism {' or '.join(sorted(names))}" if names else "this model"
    model = _plain(model)
    with torch.no_grad():
        model(images)  # what is computed once for a size, such as masks, is no part of the graph
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (images,),
                input_names=[name],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise RecipeError(f"{mechanism} has no ONNX form") from error
    if isinstance(program.model.graph.inputs[0].shape[0], int):
        raise RecipeError(f"{mechanism} has no ONNX form for any number of pictures")
    program.save(str(path), external_data=False)


def _want_packages() -> None:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _TORCH:
        raise RecipeError(
            f"ONNX export needs PyTorch {_TORCH[0]}.{_TORCH[1]} or newer; here it is {torch.__version__}",
            then="pip install -U 'attncli[onnx]'",
        )
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise RecipeError(
            f"ONNX export needs {' and '.join(missing)}, not installed here",
            then="pip install 'attncli[onnx]'",
        )


def _plain(model: nn.Module) -> nn.Module:
    """A copy that is exported: float32, low-rank updates merged, attention by its formula."""
    model = copy.deepcopy(model).float().cpu().eval()
    merge_low_rank(model)
    for module in model.modules():
        if isinstance(module, Attention):
            module.backend = "reference"  # the formula as it stands, in any runtime's operations
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns about its own parts; nothing of it concerns a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
