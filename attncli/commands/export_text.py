"""Models of labelled text as folders: Hugging Face's layout, or ONNX with the tokeniser beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli.errors import RecipeError

if TYPE_CHECKING:
    from attncli.training import RunFolder


def check(task: Any, run: RunFolder, format: str) -> None:
    """Refuse what ``format`` has not, before anything is written."""
    from attncli.models.text import TextModel

    if not isinstance(task.model, TextModel):
        raise RecipeError(
            f"{run.path} has a model of attn's own ({task.recipe.model.family}): no other library loads it",
            then=f"attn classify {run.path} FILE",
        )
    if format == "hf":
        from attncli.models.huggingface_text import text_model_type

        try:
            text_model_type(task.model.config)
        except RecipeError as error:
            raise RecipeError(*error.problems, then=f"attn export {run.path} --format onnx") from None


def write_hf(task: Any, folder: Path) -> None:
    """A folder that ``transformers`` loads."""
    from attncli.models.huggingface_text import save_text

    tokenizer = task.tokenizer.tokenizer
    special = {
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.cls_id,
        "eos_token_id": tokenizer.sep_id,
        "cls_token_id": tokenizer.cls_id,
        "sep_token_id": tokenizer.sep_id,
    }
    labels = getattr(task, "labels", None)
    save_text(
        task.model,
        folder,
        labels=[] if labels is None else labels.names,
        kind=getattr(labels, "kind", "single"),
        special=special,
    )
    _write_tokenizer(task, folder)


def write_onnx(task: Any, folder: Path) -> None:
    """``model.onnx``, the tokeniser, and ``labels.json`` that names the outputs."""
    from attncli.models.onnx import export_onnx

    folder.mkdir(parents=True, exist_ok=True)
    export_onnx(task.model, folder / "model.onnx")
    _write_tokenizer(task, folder)
    if hasattr(task, "labels"):
        task.labels.save(folder)


def _write_tokenizer(task: Any, folder: Path) -> None:
    task.tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    encoder = task.model.config.encoder
    inputs = ["input_ids", *(["token_type_ids"] if encoder.segments else []), "attention_mask"]
    settings |= {
        "model_max_length": encoder.length,
        "model_input_names": inputs,
        "clean_up_tokenization_spaces": False,
    }
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def use_hf(task: Any, folder: str) -> str:
    """Python that applies a folder of :func:`write_hf`."""
    kinds = {"sequence": "text-classification", "token": "token-classification"}
    kind = kinds.get(task.model.config.task, "question-answering")
    if kind == "question-answering":
        asked = "question='Who wrote it?', context='Anna wrote it.'"
        return f"from transformers import pipeline; print(pipeline('{kind}', {folder!r})({asked}))"
    return f"from transformers import pipeline; print(pipeline('{kind}', {folder!r})('A text.'))"


def use_onnx(task: Any, folder: str) -> str:
    """Python that applies a folder of :func:`write_onnx`."""
    segments = "'token_type_ids': [e.type_ids], " if task.model.config.encoder.segments else ""
    return (
        "import numpy as np, onnxruntime as o; from tokenizers import Tokenizer as T; "
        f"e = T.from_file({folder + '/tokenizer.json'!r}).encode('A text.'); "
        f"s = o.InferenceSession({folder + '/model.onnx'!r}); "
        f"x = {{'input_ids': [e.ids], {segments}'attention_mask': [e.attention_mask]}}; "
        "print(s.run(None, {i.name: np.array(x[i.name]) for i in s.get_inputs()}))"
    )


WRITERS = {"hf": (write_hf, use_hf), "onnx": (write_onnx, use_onnx)}
"""Format to what writes it, and to Python that applies what was written."""
