"""Recipes to models: published sizes, overrides, refusals, parameters and operations."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attncli.errors import RecipeError
from attncli.models.build import build_model, language_model
from attncli.models.config import DecoderConfig, EncoderConfig
from attncli.models.families import resolve
from attncli.models.flops import count_parameters, model_flops
from attncli.models.sizes import SIZES
from attncli.recipe.pretrain import LanguageModel


def _section(family="bert", size="tiny", *, attention=None, **model):
    return LanguageModel(family=family, size=size, attention=attention or {}, **model)


@pytest.mark.parametrize(
    ("family", "size", "vocabulary", "length", "pair", "millions"),
    [
        # Counts of the published checkpoints' architectures with their heads, from transformers.
        ("bert", "tiny", 30522, 512, False, 4.416698),
        ("bert", "mini", 30522, 512, False, 11.201594),
        ("bert", "small", 30522, 512, False, 28.795194),
        ("bert", "medium", 30522, 512, False, 41.404730),
        ("bert", "base", 30522, 512, True, 110.106428),
        ("bert", "large", 30522, 512, True, 336.226108),
        ("albert", "base", 30000, 512, True, 11.813810),
        ("gpt", "small", 50257, 1024, False, 124.439808),
        ("gpt", "base", 50257, 1024, False, 124.439808),
        ("gpt", "medium", 50257, 1024, False, 354.823168),
        ("gpt", "large", 50257, 1024, False, 774.030080),
    ],
)
def test_published_parameter_counts(family, size, vocabulary, length, pair, millions):
    config = resolve(_section(family, size, length=length), vocabulary=vocabulary, pad_id=0, pair=pair)
    assert count_parameters(config).total == round(millions * 1e6)


def test_modernbert_base_has_the_published_parameters():
    section = _section("modernbert", "base", length=8192, local_window=64, attention={"position": "rotary"})
    assert count_parameters(resolve(section, vocabulary=50368)).total == 149_655_232


def test_parameters_tell_embeddings_from_the_rest():
    counts = count_parameters(resolve(_section(), vocabulary=100, pair=True))
    assert counts.embeddings == (100 + 128 + 2) * 128
    assert counts.body == counts.total - counts.embeddings


def test_every_family_has_every_size():
    names = {"tiny", "mini", "small", "medium", "base", "large"}
    for family, sizes in SIZES.items():
        assert set(sizes) == names
        for name in names:
            config = resolve(_section(family, name), vocabulary=100)
            assert (config.layers, config.width, config.heads, config.intermediate) == sizes[name]


def test_a_setting_comes_before_size_and_family():
    section = _section(
        "bert",
        "mini",
        layers=3,
        width=128,
        norm="pre",
        norm_kind="rms",
        activation="swiglu",
        bias=False,
        tie_embeddings=False,
        embedding_width=32,
        share_layers=True,
        attention={"heads": 8, "kv_heads": 2, "position": "rotary", "qk_norm": True},
    )
    config = resolve(section, vocabulary=50, pad_id=3)
    assert (config.layers, config.width, config.heads, config.kv_heads) == (3, 128, 8, 2)
    assert config.intermediate == 512, "the size's ratio to the width stays"
    assert (config.norm, config.norm_kind, config.activation) == ("pre", "rms", "swiglu")
    model = build_model(config)
    assert not any(name.endswith("qkv.bias") for name, _ in model.named_parameters())
    assert len(model.encoder.stack.blocks) == 1
    assert model.decoder.weight.shape == (50, 32)
    assert resolve(_section("albert", width=64), vocabulary=50).embedding_width == 64


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("family", ["bert", "gpt"])
@pytest.mark.parametrize("narrow", [None, 8])
def test_tied_embeddings_are_one_matrix(family, tie, narrow):
    section = _section(family, width=16, tie_embeddings=tie, embedding_width=narrow, attention={"heads": 2})
    model = language_model(section, vocabulary=40)
    names = [name for name, value in model.state_dict().items() if value.shape[0] == 40 and value.ndim == 2]
    assert len(names) == (1 if tie else 2)


def test_everything_wrong_is_said_at_once():
    section = _section(
        embedding_width=999,
        width=90,
        attention={"heads": 4, "kv_heads": 3, "mechanism": "window", "topk": 4},
    )
    with pytest.raises(RecipeError) as caught:
        resolve(section, vocabulary=50, pad_id=50)
    text = str(caught.value)
    for part in (
        "model.width=90 is not divisible by model.attention.heads=4",
        "kv_heads=3 does not divide",
        "topk=4 has no effect",
        "embedding_width=999 is larger",
        "padding id 50",
    ):
        assert part in text
    assert len(caught.value.problems) == 5


def test_rules_for_single_settings():
    with pytest.raises(RecipeError, match="even head width, not 12/4 = 3"):
        resolve(_section(width=12, attention={"heads": 4, "position": "rotary"}), vocabulary=50)
    with pytest.raises(RecipeError, match="shaw does not go with"):
        resolve(_section(attention={"mechanism": "additive", "position": "shaw"}), vocabulary=50)
    with pytest.raises(RecipeError, match="no sentence objective"):
        resolve(_section("gpt"), vocabulary=50, pair=True)


_SMALL = {"vocabulary": 53, "length": 24, "layers": 3, "width": 32, "intermediate": 40, "heads": 4}


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(**_SMALL),
        EncoderConfig(**_SMALL, kv_heads=2, activation="swiglu", norm="pre", bias=False),
        EncoderConfig(**_SMALL, embedding_width=16, share_layers=True, pair=True),
        EncoderConfig(**_SMALL, tie_embeddings=False, activation="geglu"),
        DecoderConfig(**_SMALL, position="none"),
        DecoderConfig(**_SMALL, kv_heads=1, embedding_width=16),
        DecoderConfig(**_SMALL, embedding_width=16, tie_embeddings=False),
    ],
)
@pytest.mark.parametrize("tokens", [24, 10])
def test_flops_are_those_that_torch_counts(config, tokens):
    import dataclasses

    config = dataclasses.replace(config, backend="reference")
    model = build_model(config).eval()
    batch = torch.randint(0, 53, (3, tokens))
    extra = {"labels_at": torch.tensor([1, 5, 9, 12, 17, 20])} if isinstance(config, EncoderConfig) else {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch, **extra)
    expected = model_flops(config, tokens=tokens, predicted=2 if extra else None)
    assert counter.get_total_flops() == 3 * expected.forward
    assert expected.step == 3 * expected.forward


def test_windows_save_attention_flops():
    everywhere = model_flops(EncoderConfig(**_SMALL)).attention
    local = model_flops(EncoderConfig(**_SMALL, local_window=2, global_every=3)).attention
    assert local == everywhere // 3 + everywhere * 2 // 3 * 5 // 24
    window = DecoderConfig(**_SMALL, mechanism="window", mechanism_options={"window": 2})
    assert model_flops(window).attention == everywhere * 3 // 24


def test_sizes_and_flops_need_no_torch():
    code = (
        "import sys; from attncli.models import resolve, model_flops; "
        "from attncli.recipe.pretrain import LanguageModel; "
        "model_flops(resolve(LanguageModel(), vocabulary=100)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
