"""Same weights, same logits and losses as transformers, and clear words for what cannot be loaded."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from attncli.errors import CheckpointError
from attncli.models.huggingface import load_huggingface, read_config
from attncli.models.huggingface_names import to_huggingface, weight_names

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTH, PAD = 61, 24, 1
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": PAD,
}
MODERN = SIZE | {
    "num_hidden_layers": 4,
    "local_attention": 6,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
}


def _gpt2(**more):
    return transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        **more,
    )


def _cases():
    t = transformers
    positions = {"max_position_embeddings": LENGTH}
    offset = {"max_position_embeddings": LENGTH + PAD + 1}
    return {
        "bert-pretraining": (t.BertForPreTraining, t.BertConfig(**SIZE, **positions)),
        "bert-relu": (t.BertForMaskedLM, t.BertConfig(**SIZE, **positions, hidden_act="relu")),
        "bert-untied": (t.BertForMaskedLM, t.BertConfig(**SIZE, **positions, tie_word_embeddings=False)),
        "roberta": (t.RobertaForMaskedLM, t.RobertaConfig(**SIZE, **offset, type_vocab_size=1)),
        "albert-pretraining": (
            t.AlbertForPreTraining,
            t.AlbertConfig(**SIZE, **positions, embedding_size=16),
        ),
        "albert-square": (t.AlbertForMaskedLM, t.AlbertConfig(**SIZE, **positions, embedding_size=32)),
        "modernbert": (t.ModernBertForMaskedLM, t.ModernBertConfig(**MODERN, **positions)),
        "gpt2": (t.GPT2LMHeadModel, _gpt2()),
        "gpt2-inner": (t.GPT2LMHeadModel, _gpt2(n_inner=40, activation_function="gelu")),
    }


CASES = _cases()


def _peer(name, folder, **save):
    """A transformers model with weights far from their initial zeros, saved."""
    kind, config = CASES[name]
    torch.manual_seed(3)
    peer = kind(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    peer.save_pretrained(folder, **save)
    return peer


@pytest.fixture
def tokens():
    return torch.randint(4, VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [name for name in CASES if "gpt2" not in name])
def test_encoder_agrees_with_transformers(name, tmp_path, tokens):
    peer, ours = _peer(name, tmp_path), load_huggingface(tmp_path).eval()
    keep = torch.arange(LENGTH)[None] < torch.tensor([[LENGTH], [15], [7]])  # [B, T]
    tokens = tokens.where(keep, PAD)
    inputs = {"input_ids": tokens, "attention_mask": keep.long()}
    segments = None
    if ours.config.segments == 2:
        segments = (torch.arange(LENGTH)[None] > torch.tensor([[9], [5], [3]])).long() * keep
        inputs["token_type_ids"] = segments
    chosen = keep & (torch.rand(keep.shape, generator=torch.Generator().manual_seed(2)) < 0.4)
    labels = tokens.where(chosen, -100)
    pair = torch.tensor([0, 1, 1])
    if ours.config.pair:
        inputs[
            "next_sentence_label" if "bert-" in name and "albert" not in name else "sentence_order_label"
        ] = pair
    with torch.no_grad():
        theirs = peer(**inputs, labels=labels)
        everywhere = ours(tokens, segments, keep)
        at = chosen.flatten().nonzero()[:, 0]
        mine = ours(tokens, segments, keep, labels_at=at)
    logits = theirs.prediction_logits if ours.config.pair else theirs.logits
    torch.testing.assert_close(everywhere.logits[keep], logits[keep], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine.logits, logits.flatten(0, 1)[at], atol=1e-5, rtol=1e-5)
    loss = F.cross_entropy(mine.logits, tokens.flatten()[at])
    if ours.config.pair:
        other = theirs.seq_relationship_logits if "albert" not in name else theirs.sop_logits
        torch.testing.assert_close(mine.pair, other, atol=1e-5, rtol=1e-5)
        loss = loss + F.cross_entropy(mine.pair, pair)
    torch.testing.assert_close(loss, theirs.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "gpt2-inner"])
def test_decoder_agrees_with_transformers(name, tmp_path, tokens):
    peer, ours = _peer(name, tmp_path), load_huggingface(tmp_path).eval()
    keep = torch.arange(LENGTH)[None] < torch.tensor([[LENGTH], [15], [7]])  # [B, T]
    labels = tokens.where(keep, -100)
    with torch.no_grad():
        theirs = peer(input_ids=tokens, attention_mask=keep.long(), labels=labels)
        mine = ours(tokens, keep)
    torch.testing.assert_close(mine[keep], theirs.logits[keep], atol=1e-5, rtol=1e-5)
    loss = F.cross_entropy(mine[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(loss, theirs.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_agree_with_transformers(name, tmp_path, tokens):
    peer, ours = _peer(name, tmp_path), load_huggingface(tmp_path).eval()
    theirs = peer(input_ids=tokens)
    logits = theirs.prediction_logits if "prediction_logits" in theirs else theirs.logits
    mine = ours(tokens)
    mine = mine if "gpt2" in name else mine.logits
    F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    F.cross_entropy(mine.flatten(0, 1), tokens.flatten()).backward()
    grads = {n: p.grad for n, p in peer.named_parameters() if p.grad is not None}
    checked = 0
    for entry in weight_names(*read_config(tmp_path)):
        grad = ours.get_parameter(entry.ours).grad
        if grad is None or not all(n in grads for n in entry.theirs):
            continue
        torch.testing.assert_close(grad, entry.take(grads), atol=2e-6, rtol=1e-4)
        checked += 1
    assert checked >= 12


@pytest.mark.parametrize("name", list(CASES))
def test_export_is_the_inverse_of_loading(name, tmp_path):
    _peer(name, tmp_path)
    model_type, config = read_config(tmp_path)
    back = to_huggingface(model_type, config, load_huggingface(tmp_path).state_dict())
    original = load_file(tmp_path / "model.safetensors")
    for key, value in back.items():
        if "position_embeddings" in key and model_type == "roberta":
            value, original[key] = value[PAD + 1 :], original[key][PAD + 1 :]
        assert torch.equal(value, original[key]), key
    assert set(original) - set(back) == ({"cls.predictions.bias"} if name == "bert-untied" else set())


def test_shards_and_older_names_load_the_same(tmp_path, tokens):
    _peer("bert-pretraining", tmp_path / "whole")
    _peer("bert-pretraining", tmp_path / "shards", max_shard_size="20KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in load_file(tmp_path / "whole" / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    (tmp_path / "old").mkdir()
    save_file(old, tmp_path / "old" / "model.safetensors")
    (tmp_path / "old" / "config.json").write_text((tmp_path / "whole" / "config.json").read_text())
    expected = load_huggingface(tmp_path / "whole").state_dict()
    for folder in ("shards", "old"):
        state = load_huggingface(tmp_path / folder).state_dict()
        assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_every_misfit_is_named_at_once(tmp_path):
    _peer("bert-relu", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["cls.predictions.bias"]
    tensors["bert.pooler.dense.bias"] = torch.zeros(32)
    tensors["bert.encoder.layer.1.intermediate.dense.weight"] = torch.zeros(50, 32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_huggingface(tmp_path)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "cls.predictions.bias is missing" in text
    assert "bert.pooler.dense.bias is not part of the model" in text
    assert "intermediate.dense.weight is 50x32, the configuration says 48x32" in text


def test_a_pickle_is_never_opened(tmp_path):
    _peer("bert-relu", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match="pickle") as caught:
        load_huggingface(tmp_path)
    assert "save_pretrained" in caught.value.then


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["T5ForConditionalGeneration"]}, "supported are BertForPreTraining"),
        ({"hidden_act": "mish"}, "mish"),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 33}, "33"),
        ({"hidden_size": "wide"}, "make no model"),
        ({"num_attention_heads": 0}, "make no model"),
    ],
)
def test_a_foreign_configuration_is_refused(tmp_path, change, message):
    _peer("bert-relu", tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text()) | change
    raw = {key: value for key, value in raw.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=message):
        load_huggingface(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "not_json", "absent", "empty_folder", "outside"])
def test_a_damaged_folder_is_refused(tmp_path, damage):
    _peer("gpt2", tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "not_json":
        config.write_text("{")
    elif damage == "absent":
        weights.unlink()
    elif damage == "empty_folder":
        config.unlink()
    else:
        weights.rename(tmp_path.parent / "elsewhere.safetensors")
        index = {"weight_map": {"transformer.wte.weight": "../elsewhere.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError):
        load_huggingface(tmp_path)
