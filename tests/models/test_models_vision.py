"""Vision Transformers against transformers' and against what they must be whatever the weights."""

import itertools
import json
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attncli.attention import MECHANISMS, record
from attncli.errors import CheckpointError, RecipeError
from attncli.models.flops import image_flops
from attncli.models.vision.huggingface import read_vit
from attncli.models.vision.huggingface_folder import save_vit
from attncli.models.vision.swin import Merging, SwinModel, spread_windows
from attncli.models.vision.swin_config import SwinConfig, resolve_swin, swin_config
from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import Tokens, resolve_vit, vit_config, with_image
from attncli.recipe.image import ImageAttention, ImageModel

POSITIONS = (
    "none", "learned", "sinusoidal_2d", "learned_2d", "rotary_2d", "relative_2d",
    "sinusoidal", "shaw", "t5", "rotary", "alibi",
)  # fmt: skip
SMALL = {"layers": 2, "width": 16, "intermediate": 24}


def vit(image=(8, 8), channels=3, labels=5, attention=None, **settings):
    attention = {"heads": 2} | (attention or {})
    section = ImageModel(attention=ImageAttention(**attention), **SMALL | {"patch": 2} | settings)
    torch.manual_seed(1)
    return VitModel(resolve_vit(section, image=image, channels=channels, labels=labels)).eval()


def stirred(model):
    """Weights large enough for every part to matter."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize("pooling", ["class", "mean", "attention"])
@pytest.mark.parametrize(("tokenizer", "registers"), [("patch", 0), ("patch", 2), ("convolution", 1)])
def test_every_tokeniser_position_and_pooling(tokenizer, registers, pooling):
    settings = {"tokenizer": tokenizer, "registers": registers, "pooling": pooling}
    if tokenizer == "convolution":
        settings |= {"patch": 4, "convolutions": 1, "convolution_width": 8}
    else:
        settings |= {"patch": 4}
    settings.pop("patch") if tokenizer == "convolution" else None
    for position in POSITIONS:
        section = ImageModel(
            attention=ImageAttention(heads=2, position=position), drop_path=0.2, **SMALL | settings
        )
        config = resolve_vit(section, image=(8, 12), channels=1, labels=3)
        assert vit_config(json.loads(json.dumps(config.plain()))) == config
        model = VitModel(config).train()
        logits = model(torch.randn(2, 1, 8, 12))
        assert logits.shape == (2, 3)
        logits.square().sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_sees_pictures(mechanism):
    model = vit(attention={"mechanism": mechanism}).train()
    logits = model(torch.randn(2, 3, 8, 8))
    logits.sum().backward()
    assert logits.isfinite().all()


LAYOUTS = [{"kv_heads": 1}, {"kv_latent": 6}, {"kv_heads": 1, "kv_latent": 6}]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("build", ["vit", "swin"])
def test_keys_and_values_may_be_shared_or_come_from_a_latent(build, layout):
    """No family passes these lines by."""
    build = {"vit": vit, "swin": swin}[build]
    sizes = [sum(p.numel() for p in build(attention=more).parameters()) for more in ({}, layout)]
    assert sizes[0] != sizes[1]
    model = build(attention=layout)
    assert model(torch.randn(2, 3, *model.config.image)).isfinite().all()


def test_what_a_latent_asks_of_heads_is_said():
    assert vit(attention={"position": "rotary_2d", "kv_latent": 6})(torch.randn(2, 3, 8, 8)).isfinite().all()
    with pytest.raises(RecipeError, match="from 8 on beside a latent"):
        vit(attention={"position": "rotary_2d", "kv_latent": 6, "heads": 4})
    three = ImageModel(family="swin", attention=ImageAttention(position="none", kv_heads=2), size="tiny")
    with pytest.raises(RecipeError, match="kv_heads=2 does not divide"):
        resolve_swin(three, image=(32, 32), channels=3, labels=5)


@pytest.mark.parametrize("pooling", ["mean", "attention", "class"])
@pytest.mark.parametrize("position", ["none", "learned", "rotary_2d"])
def test_without_positions_patches_may_stand_anywhere(pooling, position):
    model = stirred(vit(pooling=pooling, attention={"position": position}))
    x = torch.randn(2, 3, 8, 8)
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(2, 3)  # [B, K, 16, p, p]
    moved = patches[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    moved = moved.unflatten(2, (4, 4)).transpose(3, 4).reshape(2, 3, 8, 8)
    same = torch.allclose(model(x), model(moved), atol=1e-5)
    assert same == (position == "none")


def test_registers_are_not_read_by_the_mean():
    model = stirred(vit(pooling="mean", registers=3, attention={"position": "none"}))
    x = torch.randn(2, 3, 8, 8)
    hidden = model.encoder(x)
    assert hidden.shape == (2, 3 + 16, 16)
    assert torch.allclose(model.picture(x), hidden[:, 3:].mean(1), atol=1e-6)


def test_a_class_token_alone_goes_through_the_last_layer():
    model, x = stirred(vit()), torch.randn(2, 3, 8, 8)
    assert torch.allclose(model.picture(x), model.encoder(x)[:, 0], atol=1e-5)
    with record(model) as recorded:
        model(x)
    assert [weights.shape[2:] for _, weights in recorded.weights] == [(17, 17)] * 2


SETTINGS = [
    {},
    {"tokenizer": "convolution", "convolutions": 2, "convolution_width": 4, "pooling": "attention"},
    {"tokenizer": "convolution", "convolution_norm": "group", "convolution_blocks": 2, "pooling": "mean"},
    {"pooling": "mean", "registers": 2, "activation": "swiglu", "attention": {"kv_heads": 1}},
    {"pooling": "mean", "attention": {"kv_latent": 6, "position": "rotary_2d"}},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_operations_are_counted(settings):
    settings = dict(settings) | ({"patch": 4} if settings.get("tokenizer") == "convolution" else {})
    attention = {"backend": "reference"} | settings.pop("attention", {})
    model = vit(image=(16, 16), attention=attention, **settings)
    with FlopCounterMode(display=False) as counter:
        hidden = model.encoder(torch.randn(1, 3, 16, 16))
        model.head(hidden[:, 0])
    assert counter.get_total_flops() == image_flops(model.config).forward


@pytest.mark.parametrize("layout", [{}, *LAYOUTS])
def test_operations_of_windows_are_counted(layout):
    model = swin(image=(12, 12), window=3, attention={"backend": "reference", **layout})
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 12, 12))
    assert counter.get_total_flops() == image_flops(model.config).forward


def test_what_does_not_fit_is_said_at_once():
    with pytest.raises(RecipeError) as caught:
        vit(image=(8, 9), width=18, attention={"heads": 4, "kv_heads": 3}, patch=4)
    told = [problem.what for problem in caught.value.problems]
    assert any("model.patch=4 does not divide the images' 8x9 pixels" in what for what in told)
    assert any("model.width=18 is not divisible by model.attention.heads=4" in what for what in told)
    assert any("kv_heads=3" in what for what in told)
    with pytest.raises(RecipeError, match="heads of an even width from 4 on, not 2"):
        vit(attention={"heads": 8, "position": "rotary_2d"})
    with pytest.raises(CheckpointError, match="no model of images"):
        vit_config({"encoder": {}})


# Hugging Face folders

HF = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
      "image_size": 8, "patch_size": 2, "num_labels": 3}  # fmt: skip


def folder_of(path, kind="ViT", head=True, **settings):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(**HF | settings)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForImageClassification" if head else f"{kind}Model")(config).eval()
    stirred(model).save_pretrained(path)
    return model


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"qkv_bias": False, "hidden_act": "gelu_new", "num_channels": 1},
        {"image_size": (4, 8), "patch_size": 4},
    ],
)
def test_a_folder_gives_the_logits_of_transformers(tmp_path, kind, settings):
    theirs = folder_of(tmp_path / "theirs", kind, **settings)
    base = read_vit(tmp_path / "theirs")
    ours = base.model().eval()
    x = torch.randn(3, base.config.channels, *base.config.image)
    with torch.no_grad():
        expected = theirs(x).logits
        assert torch.allclose(ours(x), expected, atol=1e-5)
        labels = ["a", "b", "c"]
        save_vit(ours, ours.state_dict(), tmp_path / "ours", labels=labels, mean=base.mean, std=base.std)
        again = type(theirs).from_pretrained(tmp_path / "ours").eval()
        assert torch.allclose(again(x).logits, expected, atol=1e-5)
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert read_vit(tmp_path / "ours").labels == ("a", "b", "c")


def test_a_folder_without_a_head_is_a_base(tmp_path):
    theirs = folder_of(tmp_path, head=False)
    base = read_vit(tmp_path)
    assert base.labels == ()
    model = VitModel(base.config)
    model.load_state_dict(model.state_dict() | base.state)
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(model.eval().encoder(x), theirs(x).last_hidden_state, atol=1e-5)
    with pytest.raises(CheckpointError, match="without a head"):
        base.model()


def test_another_architecture_is_refused_with_its_names(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read_vit(tmp_path)
    told = " ".join(problem.what for problem in caught.value.problems)
    assert "BertForSequenceClassification (model_type 'bert') is no model of images" in told
    assert "bert.embeddings" in told
    assert "x16" in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("vit.layernorm.bias"), "vit.layernorm.bias"),
        (lambda t: t.update({"classifier.weight": torch.zeros(3, 9)}), "classifier.weight is 3x9"),
        (lambda t: t.update({"vit.more": torch.zeros(2)}), "vit.more is not part of the model"),
        (lambda t: t.update({"vit.embeddings.position_embeddings": torch.zeros(1, 5, 16)}), "is 5x16"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, said):
    from safetensors.torch import load_file, save_file

    folder_of(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=said):
        read_vit(tmp_path)


def test_pictures_of_another_size_move_learnt_positions():
    from attncli.tasks.image_models import ImageBase, fitted

    model = vit(registers=1)
    names = ("a", "b", "c", "d", "e")
    base = ImageBase(model.config, model.state_dict(), names, (0.5,) * 3, (0.5,) * 3)
    larger = VitModel(with_image(model.config, (16, 8)))
    name = "encoder.embeddings.position.weight"
    table, moved = model.state_dict()[name], fitted(base, larger)[name]
    assert moved.shape == larger.state_dict()[name].shape == (2 + 32, 16)
    assert torch.equal(moved[:2], table[:2])
    columns = table[2:].view(4, 4, 16).mean(0)
    assert torch.allclose(moved[2:].view(8, 4, 16).mean(0), columns, atol=0.02)
    fixed = vit(attention={"position": "relative_2d"})
    base = ImageBase(fixed.config, fixed.state_dict(), names, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(RecipeError, match="cannot be resized"):
        fitted(base, VitModel(with_image(fixed.config, (16, 8))))


# Swin


def swin(image=(12, 12), labels=5, attention=None, **settings):
    given = {"heads": 2, "position": "relative_2d"} | (attention or {})
    shape = {"depths": [2, 2], "width": 16, "patch": 1, "window": 3}
    section = ImageModel(family="swin", attention=ImageAttention(**given), **shape | settings)
    torch.manual_seed(1)
    return SwinModel(resolve_swin(section, image=image, channels=3, labels=labels)).eval()


def test_swin_gives_the_logits_of_transformers():
    transformers = pytest.importorskip("transformers")
    shape = {"image_size": 24, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
    theirs = transformers.SwinForImageClassification(
        transformers.SwinConfig(**shape, window_size=3, num_labels=5, drop_path_rate=0.0)
    ).eval()
    stirred(theirs)
    ours = SwinModel(
        SwinConfig(
            image=(24, 24), tokens=Tokens(patch=(2, 2)), depths=(2, 2), width=16, heads=2, window=3, labels=5
        )
    ).eval()
    ours.load_state_dict(_from_transformers(theirs.state_dict()))
    x = torch.randn(3, 3, 24, 24)
    assert torch.allclose(ours(x), theirs(x).logits, atol=1e-5)


def _from_transformers(s):
    """Their weights under our names."""
    found = {}

    def both(ours, theirs):
        for kind in ("weight", "bias"):
            found[f"{ours}.{kind}"] = s[f"{theirs}.{kind}"]

    patches, root = "swin.embeddings.patch_embeddings.projection", "swin.encoder.layers"
    both("embeddings.tokens.project", patches)
    found["embeddings.tokens.project.weight"] = s[f"{patches}.weight"].flatten(1)
    both("embeddings.norm", "swin.embeddings.norm")
    both("norm", "swin.layernorm")
    both("head", "classifier")
    both("mergings.0.norm", f"{root}.0.downsample.norm")
    found["mergings.0.reduce.weight"] = s[f"{root}.0.downsample.reduction.weight"]
    for i, j in itertools.product(range(2), repeat=2):
        ours, theirs = f"stages.{i}.blocks.{j}", f"{root}.{i}.blocks.{j}"
        core = f"{ours}.attention.attention"
        for kind in ("weight", "bias"):
            parts = [s[f"{theirs}.attention.{name}_proj.{kind}"] for name in "qkv"]
            found[f"{core}.qkv.{kind}"] = torch.cat(parts)
        table = f"{theirs}.attention.relative_position_bias.relative_position_bias_table"
        found[f"{core}.position.weight"] = s[table]
        both(f"{core}.out", f"{theirs}.attention.o_proj")
        both(f"{ours}.attention_norm", f"{theirs}.layernorm_before")
        both(f"{ours}.feed_forward_norm", f"{theirs}.layernorm_after")
        both(f"{ours}.feed_forward.expand", f"{theirs}.mlp.fc1")
        both(f"{ours}.feed_forward.contract", f"{theirs}.mlp.fc2")
    return found


@pytest.mark.parametrize("position", ["relative_2d", "none", "learned", "sinusoidal_2d", "learned_2d"])
@pytest.mark.parametrize("image", [(12, 12), (7, 10), (2, 5)])
def test_swin_of_any_size(position, image):
    model = swin(image, attention={"position": position}, drop_path=0.1, pooling="attention")
    assert swin_config(json.loads(json.dumps(model.config.plain()))) == model.config
    logits = model.train()(torch.randn(2, 3, *image))
    logits.sum().backward()
    assert logits.shape == (2, 5)
    assert all(p.grad is not None for p in model.parameters())


def test_merging_takes_four_neighbours():
    merging = Merging(2, "layer")
    with torch.no_grad():
        merging.reduce.weight.copy_(torch.eye(4, 8))
    x = torch.arange(2 * 4 * 3 * 2, dtype=torch.float32).view(2, 4, 3, 2)
    merging.norm = torch.nn.Identity()
    y = merging(x)
    assert y.shape == (2, 2, 2, 4)
    assert torch.equal(y[0, 1, 0], torch.cat([x[0, 2, 0], x[0, 3, 0]]))
    assert torch.equal(y[0, 0, 1, :2], x[0, 0, 2])


def test_what_windows_look_at_is_laid_on_the_grid():
    model = swin(image=(9, 7))
    with record(model) as recorded:
        model(torch.randn(1, 3, 9, 7))
    weights = dict(recorded.weights)
    for name, layer, grid in model.windows():
        spread = spread_windows(weights[name], layer, grid)
        assert spread.shape == (weights[name].shape[1], *grid)
        windows = math.prod(-(-side // layer.window) for side in grid)
        real = math.prod(grid) / (windows * layer.window**2)  # queries that are no padding give 1 each
        assert float(spread.sum()) == pytest.approx(weights[name].shape[1] * windows * real, rel=1e-4)
