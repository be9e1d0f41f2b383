"""Models of text: the same logits as transformers in both directions, and what a recipe can say of them."""

from dataclasses import replace

import pytest
import torch
from models_peers import HEADS, LABELS, SETTINGS, ask, inputs, save_peer, transformers
from safetensors.torch import load_file, save_file

from attncli.errors import CheckpointError, RecipeError
from attncli.models import read_base
from attncli.models.config import EncoderConfig
from attncli.models.huggingface_text import load_text, save_text
from attncli.models.text import TokenModel, build_text
from attncli.models.text_config import TextConfig, resolve_text, text_config
from attncli.recipe.text import EncoderModel, SequenceModel
from attncli.recipe.text import TokenModel as TokenSection

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
TOY = {"vocabulary": 40, "width": 16, "heads": 2, "layers": 3, "intermediate": 24, "length": 30, "pad_id": 0}


def toy(**more):
    encoder = {key: more.pop(key) for key in list(more) if key in EncoderConfig.__dataclass_fields__}
    torch.manual_seed(5)
    return build_text(TextConfig(encoder=EncoderConfig(**TOY | encoder), **more)).eval()


def logits(model, tokens, segments, keep):
    with torch.no_grad():
        found = model(tokens, segments=segments, keep=keep)
    return found if isinstance(found, tuple) else (found,)


def theirs(peer, *given):
    found = ask(peer, *given)
    return (found.logits,) if "logits" in found else (found.start_logits, found.end_logits)


def assert_same(mine, others, keep):
    for one, other in zip(mine, others, strict=True):
        real = keep if one.shape[:2] == keep.shape else slice(None)
        torch.testing.assert_close(one[real], other[real], **CLOSE)


@pytest.mark.parametrize("family", list(SETTINGS))
@pytest.mark.parametrize("task", list(HEADS))
def test_logits_are_those_of_transformers_in_both_directions(family, task, tmp_path):
    peer = save_peer(family, HEADS[task], tmp_path / "theirs")
    model, names = load_text(tmp_path / "theirs")
    model.eval()
    given = inputs(model.config.encoder.segments == 2)
    assert_same(logits(model, *given), theirs(peer, *given), given[-1])
    assert names == [f"LABEL_{i}" for i in range(len(names))]

    labels = ["no", "maybe", "ja"]
    special = {"pad_token_id": 1}
    saved = save_text(model, tmp_path / "ours", labels=labels, kind="multi", special=special)
    again, names = load_text(tmp_path / "ours")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    for one, other in zip(logits(again.eval(), *given), logits(model, *given), strict=True):
        assert torch.equal(one, other)
    auto = {"sequence": "Sequence", "token": "Token", "span": "QuestionAnswering"}[task]
    kind = f"AutoModelFor{auto}" + ("" if task == "span" else "Classification")
    back, report = getattr(transformers, kind).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(back).__name__ == saved
    assert not any(report.values()), report
    assert_same(logits(model, *given), theirs(back.eval(), *given), given[-1])
    if task != "span":
        assert names == labels
        assert back.config.id2label == dict(enumerate(labels))
    if task == "sequence":
        assert back.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_a_pooler_of_the_base_is_where_the_head_begins(family, tmp_path):
    save_peer(family, "ForMaskedLM" if family == "modernbert" else "Model", tmp_path)
    base = read_base(tmp_path)
    config = resolve_text(
        SequenceModel(base="x"), "sequence", 3, vocabulary=61, base=base.config, family=base.family
    )
    model = build_text(config, base)
    assert torch.equal(model.head.dense.weight, base.pooler["dense.weight"])
    mean = build_text(replace(config, pooling="mean"), base)
    assert not torch.equal(mean.head.dense.weight, base.pooler["dense.weight"])
    assert torch.equal(mean.encoder.embeddings.word.weight, base.encoder["embeddings.word.weight"])


def test_a_base_of_another_shape_changes_nothing(tmp_path):
    save_peer("bert", "Model", tmp_path)
    model = toy()
    before = model.state_dict()["encoder.embeddings.word.weight"].clone()
    with pytest.raises(CheckpointError, match=r"stack.blocks.2.* is missing") as caught:
        model.load_base(read_base(tmp_path))
    assert "embeddings.word.weight is 61x32, the model has 40x16" in str(caught.value)
    assert torch.equal(model.encoder.embeddings.word.weight, before)


@pytest.mark.parametrize("pooling", ["first", "mean", "max", "attention"])
def test_padding_changes_nothing(pooling):
    model = toy(pooling=pooling, labels=4)
    tokens = torch.randint(1, 40, (3, 9))
    lengths = torch.tensor([9, 4, 1])
    keep = torch.arange(9)[None] < lengths[:, None]
    found = model(tokens, keep=keep)
    for row, length in enumerate(lengths.tolist()):
        alone = model(tokens[row : row + 1, :length])
        torch.testing.assert_close(found[row : row + 1], alone, **CLOSE)
    torch.testing.assert_close(found[:1], model(tokens[:1], embedded=model.embed(tokens[:1])), **CLOSE)


def test_words_are_read_at_their_first_piece():
    model = toy(task="token", head_activation="none", labels=5)
    tokens = torch.randint(1, 40, (2, 8))
    words = torch.tensor([[1, 4, 5], [1, 2, 0]])
    everywhere, found = model(tokens), model(tokens, words)
    assert found.shape == (2, 3, 5)
    for row in range(2):
        torch.testing.assert_close(found[row], everywhere[row, words[row]], **CLOSE)


def test_a_crf_learns_which_tags_stand_side_by_side():
    config = TextConfig(
        encoder=EncoderConfig(**TOY), task="token", head_activation="none", labels=3, crf=True
    )
    torch.manual_seed(0)
    model = TokenModel(config)
    tokens = torch.randint(1, 40, (8, 6))
    words, keep = torch.arange(6).expand(8, 6), torch.ones(8, 6, dtype=torch.bool)
    labels = (torch.arange(6) % 3).expand(8, 6)  # the words say nothing, the order all
    optimizer = torch.optim.Adam(model.crf.parameters(), 0.3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = -model.crf.log_likelihood(model(tokens, words), labels, keep).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert torch.equal(model.crf.decode(model(tokens, words), keep)[0], labels)


def test_a_configuration_is_plain_values_and_back():
    config = toy(task="span", labels=2, head_activation="none", position="alibi").config
    assert text_config(config.plain()) == config
    with pytest.raises(CheckpointError, match="colour"):
        text_config(config.plain() | {"colour": 1})


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "modernbert"])
def test_a_fresh_encoder_follows_the_recipe(family):
    section = SequenceModel(family=family, layers=1, width=24, attention={"heads": 2}, dropout=0.3)
    config = resolve_text(section, "sequence", 4, vocabulary=50, pad_id=0)
    assert (config.encoder.width, config.encoder.dropout, config.encoder.mechanism) == (24, 0.3, "scaled_dot")
    assert config.family == family
    assert resolve_text(EncoderModel(), "span", 2, vocabulary=50).encoder.dropout == 0.1
    assert resolve_text(TokenSection(crf=True), "token", 9, vocabulary=50).crf
    assert build_text(config)(torch.ones(2, 5, dtype=torch.int64)).shape == (2, 4)


def test_attention_of_a_base_is_swapped_where_it_has_no_weights():
    base = EncoderConfig(**TOY, attention_dropout=0.1)

    def resolved(**attention):
        section = SequenceModel(base="x", attention=attention)
        return resolve_text(section, "sequence", 2, vocabulary=40, base=base, family="bert").encoder

    assert resolved() == base
    window = resolved(mechanism="window", window=3, dropout=0.0, backend="reference")
    assert (window.mechanism, window.mechanism_options) == ("window", {"window": 3})
    assert window.backend == "reference"
    assert window.attention_dropout == 0.0
    with pytest.raises(RecipeError, match="cosine has weights of its own that the base has not learnt"):
        resolved(mechanism="cosine")
    base = EncoderConfig(**TOY, mechanism="bilinear")
    assert resolved().mechanism == "bilinear"
    with pytest.raises(RecipeError, match="would be lost"):
        resolved(mechanism="dot")


def test_what_does_not_fit_a_base_is_refused():
    base = EncoderConfig(**TOY)
    with pytest.raises(CheckpointError, match="41 words, the encoder 40"):
        resolve_text(SequenceModel(base="x"), "sequence", 2, vocabulary=41, base=base)
    with pytest.raises(RecipeError, match="max_length=64 is more than the 30") as caught:
        resolve_text(SequenceModel(base="x"), "sequence", 2, vocabulary=40, base=base, length=64)
    assert caught.value.then == "set data.max_length=30"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pooling": "mean"}, "pooling=mean"),
        ({"task": "token", "head_activation": "none", "crf": True}, "crf"),
        ({"mechanism": "window"}, "mechanism=window"),
        ({"position": "alibi", "norm": "pre"}, "norm=pre"),
    ],
)
def test_what_transformers_has_not_is_not_exported(more, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        save_text(toy(**more), tmp_path, special={})


def test_a_folder_without_a_head_for_labels_is_refused(tmp_path):
    save_peer("bert", "ForMaskedLM", tmp_path)
    with pytest.raises(CheckpointError, match="BertForMaskedLM has no head for labels"):
        load_text(tmp_path)
    save_peer("bert", "ForSequenceClassification", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.bias"] = torch.zeros(LABELS + 1)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"classifier\.bias is 4, the configuration says 3"):
        load_text(tmp_path)
