"""CTranslate2 folders: the same probabilities as ours, for every model that can be exported."""

import pytest
import torch

from attncli.errors import RecipeError
from attncli.models import build_translation, resolve_translation
from attncli.models.ctranslate2_folder import ctranslate2_problems, save_ctranslate2
from attncli.recipe.translate import TransformerModel

ctranslate2 = pytest.importorskip("ctranslate2")

V, W = 41, 33
SMALL = {"width": 32, "intermediate": 48, "encoder_layers": 2, "decoder_layers": 3, "length": 24}
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
CASES = {
    "as_published": {},
    "pre_norm": {"norm": "pre"},
    "untied": {"tie_embeddings": "none"},
    "gelu": {"activation": "gelu", "tie_embeddings": "decoder"},
    "gelu_tanh": {"activation": "gelu_tanh"},
    "swiglu": {"activation": "swiglu", "norm": "pre"},
    "geglu": {"activation": "geglu"},
    "learned": {"attention": {"position": "learned"}},
    "no_positions": {"attention": {"position": "none"}},
    "rotary": {"attention": {"position": "rotary"}},
    "grouped": {"attention": {"heads": 4, "kv_heads": 2, "position": "sinusoidal"}},
    "one_key_head": {"attention": {"heads": 4, "kv_heads": 1, "position": "rotary"}},
}


def _model(**values):
    section = TransformerModel(**SMALL | values)
    target = V if section.tie_embeddings == "all" else W
    torch.manual_seed(0)
    config = resolve_translation(section, source_vocabulary=V, target_vocabulary=target)
    model = build_translation(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def _pieces(count):
    return [*SPECIAL, *(f"w{number}" for number in range(4, count))]


@pytest.mark.parametrize("name", list(CASES))
def test_the_same_probability_of_every_token(tmp_path, name):
    model = _model(**CASES[name])
    source, target = _pieces(V), _pieces(model.config.target_vocabulary)
    save_ctranslate2(model, tmp_path, source=source, target=target)
    peer = ctranslate2.Translator(str(tmp_path), compute_type="float32", intra_threads=1)
    g = torch.Generator().manual_seed(4)
    sources = [[*torch.randint(4, V, (n,), generator=g).tolist(), 2] for n in (8, 5, 1)]
    targets = [torch.randint(4, W, (n,), generator=g).tolist() for n in (4, 7, 12)]
    scored = peer.score_batch(
        [[source[i] for i in ids] for ids in sources], [[target[i] for i in ids] for ids in targets]
    )
    for ids, words, found in zip(sources, targets, scored, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), torch.tensor([[1, *words]]))[0]
        ours = logits.log_softmax(-1).gather(1, torch.tensor([[*words, 2]]).T)[:, 0]
        assert found.tokens == [*(target[i] for i in words), "</s>"]
        torch.testing.assert_close(torch.tensor(found.log_probs), ours, atol=3e-5, rtol=0)


def test_sinusoidal_models_write_past_their_training_length(tmp_path):
    model = _model()
    save_ctranslate2(model, tmp_path, source=_pieces(V), target=_pieces(V))
    peer = ctranslate2.Translator(str(tmp_path), compute_type="float32", intra_threads=1)
    bounds = {"min_decoding_length": 300, "max_decoding_length": 300}
    found = peer.translate_batch([["w5", "</s>"]], beam_size=1, **bounds)
    assert len(found[0].hypotheses[0]) == 300


def test_what_ctranslate2_has_not_is_said_at_once(tmp_path):
    model = _model(attention={"mechanism": "cosine", "position": "t5", "qk_norm": True})
    with pytest.raises(RecipeError) as caught:
        save_ctranslate2(model, tmp_path / "folder", source=_pieces(V), target=_pieces(V))
    for part in ("mechanism=cosine", "position=t5", "qk_norm=True"):
        assert part in str(caught.value)
    assert len(caught.value.problems) == 3
    assert not (tmp_path / "folder").exists()
    assert ctranslate2_problems(_model().config) == []
