"""Marian folders: transformers computes what we compute, and we read what it writes."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from attncli.errors import CheckpointError, RecipeError
from attncli.models import build_translation, resolve_translation
from attncli.models.marian import load_marian, marian_config, save_marian
from attncli.recipe.translate import TransformerModel

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
transformers = pytest.importorskip("transformers")

V, W = 41, 33
SMALL = {"width": 32, "intermediate": 48, "encoder_layers": 2, "decoder_layers": 3, "length": 24}


def _model(**values):
    section = TransformerModel(**SMALL | values)
    target = V if section.tie_embeddings == "all" else W
    torch.manual_seed(0)
    model = build_translation(
        resolve_translation(section, source_vocabulary=V, target_vocabulary=target)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def _batch():
    g = torch.Generator().manual_seed(4)
    keep = torch.arange(9) < torch.tensor([[9], [6], [2]])
    labels = torch.randint(3, W, (3, 7), generator=g)
    labels[1, 4:] = 0
    return (
        torch.randint(3, V, (3, 9), generator=g) * keep,
        keep,
        F.pad(labels[:, :-1], (1, 0), value=1),
        labels,
    )


def _peer(folder):
    return transformers.MarianMTModel.from_pretrained(folder).eval()


@pytest.mark.parametrize("tie", ["all", "decoder", "none"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformers_gives_the_same_logits_and_loss(tmp_path, tie, activation):
    model = _model(tie_embeddings=tie, activation=activation)
    save_marian(model, tmp_path / "ours")
    peer = _peer(tmp_path / "ours")
    source, keep, tokens, labels = _batch()
    ignored = labels.masked_fill(labels == 0, -100)
    with torch.no_grad():
        ours = model(source, tokens, keep)
        theirs = peer(input_ids=source, attention_mask=keep.long(), labels=ignored)
        shown = peer(input_ids=source, attention_mask=keep.long(), decoder_input_ids=tokens)
    torch.testing.assert_close(ours, shown.logits, atol=1e-5, rtol=0)
    at = (labels != 0).flatten().nonzero().flatten()
    with torch.no_grad():
        loss = F.cross_entropy(model(source, tokens, keep, at), labels.flatten()[at])
    assert loss.item() == pytest.approx(theirs.loss.item(), abs=1e-5)

    peer.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = load_marian(tmp_path / folder).eval()
        assert again.config == model.config
        with torch.no_grad():
            assert torch.equal(again(source, tokens, keep), ours)


def test_transformers_generates_what_steps_give(tmp_path):
    model = _model()
    with torch.no_grad():
        model.target_embeddings.word.weight[2].mul_(1.5)  # some sentences end
    save_marian(model, tmp_path, limit=10)
    source, keep, *_ = _batch()
    theirs = _peer(tmp_path).generate(
        input_ids=source, attention_mask=keep.long(), num_beams=1, do_sample=False
    )
    steps = model.decoding(source, keep, 1, 10)
    words, ended, written = torch.ones(3, 1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.bool), []
    for _ in range(10):
        words = steps.step(words).argmax(-1).masked_fill(ended, 0)
        ended = ended | (words == 2)
        written.append(words)
    ours = torch.cat(written, 1)
    assert theirs[:, 0].tolist() == [1, 1, 1]
    length = theirs.shape[1] - 1
    assert torch.equal(theirs[:, 1:], ours[:, :length])
    assert not ours[:, length:].any()


def test_what_marian_has_not_is_said_at_once():
    model = _model(
        norm="pre",
        activation="swiglu",
        attention={"position": "rotary", "mechanism": "topk", "topk": 3, "kv_heads": 2},
    )
    with pytest.raises(RecipeError) as caught:
        marian_config(model.config)
    text = str(caught.value)
    for part in ("norm=pre", "position=rotary", "mechanism=topk", "kv_heads=2", "activation=swiglu"):
        assert part in text
    assert len(caught.value.problems) == 5
    same = _model(attention={"position": "sinusoidal", "kv_heads": 4})
    assert marian_config(same.config)["decoder_attention_heads"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bart"}, "'bart', not 'marian'"),
        ({"scale_embedding": False}, "scale_embedding=False"),
        ({"decoder_ffn_dim": 40}, "decoder_ffn_dim=40"),
        ({"activation_function": "swish"}, "swish"),
        ({"d_model": "32"}, "wrong type"),
        ({"vocab_size": 40}, "the configuration says"),
        ({"encoder_layers": 3}, "model.encoder.layers.2.fc1.weight is missing"),
        ({"decoder_layers": 2}, "model.decoder.layers.2.fc1.weight is not part of the model"),
        ({"d_model": None}, "missing"),
    ],
)
def test_a_folder_that_does_not_fit(tmp_path, change, message):
    save_marian(_model(), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    with pytest.raises(CheckpointError) as caught:
        load_marian(tmp_path)
    assert message in str(caught.value)


def test_an_output_bias_and_missing_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_marian(tmp_path)
    save_marian(_model(), tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file(load_file(weights) | {"final_logits_bias": torch.ones(1, V)}, weights)
    with pytest.raises(CheckpointError, match="output bias"):
        load_marian(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_marian(tmp_path)
