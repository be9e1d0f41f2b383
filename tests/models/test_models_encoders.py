"""Encoders out of folders with any head: transformers' hidden states, and clear words for what is none."""

import json
import os
from pathlib import Path

import pytest
import torch
from models_peers import LENGTH, SETTINGS, ask, inputs, save_peer, transformers
from safetensors.torch import load_file, save_file

from attncli.attention import record
from attncli.errors import CheckpointError
from attncli.models import build_model
from attncli.models.config import EncoderConfig
from attncli.models.encoder import Encoder
from attncli.models.huggingface_encoders import base_of_masked_lm, load_encoder, read_base

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.mark.parametrize("family", list(SETTINGS))
def test_hidden_states_are_those_of_transformers(family, tmp_path):
    peer = save_peer(family, "Model", tmp_path)
    encoder, config, model_type = load_encoder(tmp_path)
    encoder.eval()
    tokens, segments, keep = inputs(config.segments == 2)
    theirs = ask(peer, tokens, segments, keep).last_hidden_state
    assert model_type == family.removesuffix("-square")
    with torch.no_grad():
        mine = encoder(tokens, segments, keep)
        torch.testing.assert_close(mine[keep], theirs[keep], **CLOSE)
        first = encoder(tokens, segments, keep, first=True)
        embedded = encoder(tokens * 0, segments, keep, embedded=encoder.embed(tokens))
    assert first.shape == (3, 1, config.width)
    torch.testing.assert_close(first, mine[:, :1], **CLOSE)
    assert torch.equal(embedded, mine)


@pytest.mark.parametrize(
    ("family", "head", "pooler", "dropped"),
    [
        ("bert", "ForPreTraining", True, "cls.predictions.bias"),
        ("bert", "ForQuestionAnswering", False, "qa_outputs.weight"),
        ("roberta", "ForMaskedLM", False, "lm_head.dense.weight"),
        ("distilbert", "ForMaskedLM", False, "vocab_transform.weight"),
        ("albert", "ForSequenceClassification", True, "classifier.weight"),
        ("electra", "ForPreTraining", False, "discriminator_predictions.dense.weight"),
        ("modernbert", "ForMaskedLM", True, "decoder.bias"),
    ],
)
def test_heads_are_dropped_and_listed(family, head, pooler, dropped, tmp_path):
    peer = save_peer(family, head, tmp_path)
    base = read_base(tmp_path)
    assert bool(base.pooler) == pooler
    assert dropped in base.dropped
    assert not any(".embeddings." in name for name in base.dropped)
    encoder = Encoder(base.config).eval()
    encoder.load_state_dict(base.encoder)
    tokens, segments, keep = inputs(base.config.segments == 2)
    theirs = ask(peer.base_model, tokens, segments, keep).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(encoder(tokens, segments, keep)[keep], theirs[keep], **CLOSE)


def test_settings_of_the_first_years_are_filled_in(tmp_path):
    save_peer("bert", "ForMaskedLM", tmp_path)
    expected = read_base(tmp_path).config
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    for name in ("model_type", "layer_norm_eps", "hidden_act", "type_vocab_size", "hidden_dropout_prob"):
        del raw[name]
    path.write_text(json.dumps(raw))
    assert read_base(tmp_path).config == expected


def test_one_place_of_the_last_layer_is_exact_wherever_it_is_taken():
    base = {"vocabulary": 40, "width": 16, "heads": 2, "layers": 2, "intermediate": 24, "length": 30}
    tokens, _, keep = inputs(False)
    tokens = tokens % 40
    for more in (
        {},
        {"norm": "pre"},
        {"mechanism": "window", "mechanism_options": {"window": 2}},
        {"mechanism": "cosine"},
        {"position": "alibi"},
        {"position": "rotary", "local_window": 2, "global_every": 2},
        {"share_layers": True, "embedding_width": 8, "kv_heads": 1},
    ):
        torch.manual_seed(0)
        encoder = Encoder(EncoderConfig(**base, **more)).eval()
        whole, one = encoder(tokens, None, keep), encoder(tokens, None, keep, first=True)
        torch.testing.assert_close(one, whole[:, :1], **CLOSE)
        with record() as recorded:
            encoder(tokens, None, keep, first=True)
        assert all(w.shape[2:] == (LENGTH, LENGTH) for _, w in recorded.weights)


def test_gradients_reach_the_input_embeddings():
    encoder = Encoder(EncoderConfig(vocabulary=40, width=16, heads=2, layers=2, intermediate=24)).eval()
    tokens = torch.arange(4, 10)[None]
    embedded = encoder.embed(tokens).detach().requires_grad_()
    encoder(None, embedded=embedded).square().sum().backward()
    assert embedded.grad.shape == (1, 6, 16)
    assert embedded.grad.abs().sum(-1).min() > 0


@pytest.mark.parametrize("pair", [False, True])
def test_the_encoder_of_a_masked_language_model(pair):
    config = EncoderConfig(vocabulary=40, width=16, heads=2, layers=2, intermediate=24, pair=pair)
    model = build_model(config)
    base = base_of_masked_lm(config, "bert", model.state_dict())
    assert not base.config.pair
    assert bool(base.pooler) == pair
    assert "transform.weight" in base.dropped
    encoder = Encoder(base.config)
    encoder.load_state_dict(base.encoder)
    assert torch.equal(encoder.embeddings.word.weight, model.encoder.embeddings.word.weight)
    state = model.state_dict()
    del state["encoder.stack.blocks.1.attention.out.bias"]
    with pytest.raises(CheckpointError, match=r"blocks\.1\.attention\.out\.bias is missing"):
        base_of_masked_lm(config, "bert", state)


def test_another_architecture_is_told_by_its_keys_and_shapes(tmp_path):
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"model_type 'gpt2' is no encoder") as caught:
        read_base(tmp_path)
    assert "h.0.attn.c_attn.weight 8x24" in str(caught.value)
    assert "distilbert, electra" in str(caught.value)


def test_another_model_under_the_configuration_is_told_by_what_is_missing(tmp_path):
    save_peer("electra", "Model", tmp_path / "electra")
    save_peer("bert", "Model", tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    tensors = load_file(tmp_path / "electra" / "model.safetensors")
    save_file({f"electra.{k}": v for k, v in tensors.items()}, tmp_path / "bert" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"37 weights are missing: bert\.embeddings") as caught:
        read_base(tmp_path / "bert")
    assert "and 29 more" in str(caught.value)
    assert "there is bert.electra." in str(caught.value)


def test_misfits_are_named_at_once(tmp_path):
    save_peer("bert", "Model", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(50, 32)
    tensors["encoder.layer.1.attention.self.key.bias"] = torch.zeros(7)
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        read_base(tmp_path)
    assert "intermediate.dense.weight is 50x32, the configuration says 48x32" in str(caught.value)
    assert "key.bias" in str(caught.value)
    assert len(caught.value.problems) == 2


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path):
    save_peer("bert", "Model", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle") as caught:
        read_base(tmp_path)
    assert "AutoModel" in caught.value.then


MODELS = os.environ.get("ATTN_MODELS", "")


@pytest.mark.skipif(
    not (Path(MODELS) / "minilm-l6").is_dir() or not MODELS, reason="ATTN_MODELS has no minilm-l6"
)
def test_a_real_encoder_gives_the_hidden_states_of_transformers():
    folder = Path(MODELS) / "minilm-l6"
    peer = transformers.AutoModel.from_pretrained(folder).eval()
    encoder, config, _ = load_encoder(folder)
    encoder.eval()
    keep = torch.arange(40)[None] < torch.tensor([[40], [11], [3]])
    tokens = torch.randint(999, config.vocabulary, keep.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine = encoder(tokens, None, keep)
        torch.testing.assert_close(mine[keep], ask(peer, tokens, None, keep).last_hidden_state[keep], **CLOSE)
        torch.testing.assert_close(encoder(tokens, None, keep, first=True), mine[:, :1], **CLOSE)
