"""ONNX files: onnxruntime gives the same logits, for any number and length of texts."""

import pytest
import torch
from test_models_text import logits, toy

from attncli.errors import RecipeError
from attncli.layers.lora import LowRankLinear, add_low_rank
from attncli.models import onnx as onnx_export
from attncli.models.onnx import export_onnx

WINDOW = {"position": "alibi", "mechanism": "window", "mechanism_options": {"window": 2}}
MODERN = {
    "family": "modernbert",
    "head_activation": "gelu",
    "position": "rotary",
    "norm": "pre",
    "activation": "geglu",
    "bias": False,
    "first_norm": False,
    "local_window": 2,
    "segments": 0,
}


@pytest.mark.parametrize(
    "more",
    [
        {"task": "sequence", "labels": 4, "layers": 1},
        {"task": "token", "head_activation": "none", "layers": 1, **WINDOW},
        {"task": "span", "layers": 2, **MODERN},
    ],
    ids=["sequence", "token", "span"],
)
def test_onnxruntime_gives_the_same_logits(more, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = toy(**more)
    if more["task"] == "sequence":
        add_low_rank(model.encoder.stack.blocks, 2)
        for module in model.modules():
            if isinstance(module, LowRankLinear):
                torch.nn.init.normal_(module.up, std=0.1)
    names = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [given.name for given in session.get_inputs()] == names
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    outputs = [out.name for out in session.get_outputs()]
    assert outputs == (["start_logits", "end_logits"] if more["task"] == "span" else ["logits"])
    for batch, length in ((1, 3), (4, 30), (2, 7)):
        tokens = torch.randint(1, 40, (batch, length))
        keep = torch.arange(length)[None] < torch.randint(1, length + 1, (batch, 1))
        segments = torch.randint(0, 2, (batch, length)) if len(names) == 3 else None
        given = {"input_ids": tokens, "attention_mask": keep.long(), "token_type_ids": segments}
        found = session.run(None, {name: given[name].numpy() for name in names})
        for one, mine in zip(found, logits(model, tokens, segments, keep), strict=True):
            real = keep if mine.shape[:2] == keep.shape else slice(None)
            torch.testing.assert_close(torch.from_numpy(one)[real], mine[real], atol=1e-5, rtol=1e-5)


def test_what_has_no_onnx_form_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: True)
    with pytest.raises(RecipeError, match="crf"):
        export_onnx(toy(task="token", head_activation="none", crf=True), tmp_path / "model.onnx")
    with pytest.raises(RecipeError, match="topk"):
        export_onnx(toy(mechanism="topk"), tmp_path / "model.onnx")


def test_a_missing_package_is_named_with_its_installation(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="needs onnx and onnxscript") as caught:
        export_onnx(toy(), tmp_path / "model.onnx")
    assert caught.value.then == "pip install 'attncli[onnx]'"


def test_a_pytorch_that_is_too_old_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(RecipeError, match=r"PyTorch 2\.10 or newer; here it is 2\.9\.1"):
        export_onnx(toy(), tmp_path / "model.onnx")
