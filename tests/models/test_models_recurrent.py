"""The recurrent translation model: one definition, whole or step by step, whatever it is made of."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from attncli.attention import record
from attncli.errors import RecipeError
from attncli.models.flops import count_parameters, translation_flops
from attncli.models.recurrent import Recurrent
from attncli.models.recurrent_config import RecurrentConfig, resolve_recurrent
from attncli.recipe.translate import RecurrentModel

V = 23
STYLES = [("bahdanau", False), ("luong", False), ("luong", True)]
MECHANISMS = {"additive": {}, "dot": {}, "scaled_dot": {}, "bilinear": {}, "cosine": {}, "topk": {"topk": 2}}
SMALL = {"source_vocabulary": V, "target_vocabulary": V, "pad_id": 0, "embedding": 6, "width": 8}


def build(seed=0, **values):
    """A float64 model with weights large enough that every part of it matters."""
    torch.manual_seed(seed)
    model = Recurrent(RecurrentConfig(**SMALL | {"dropout": 0.0, "window": 2} | values)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def sentences(seed=0, batch=4, source=7, target=6):
    torch.manual_seed(seed)
    lengths = torch.tensor([source, 4, 1, 5][:batch])
    keep = torch.arange(source) < lengths.unsqueeze(1)
    return torch.randint(1, V, (batch, source)) * keep, keep, torch.randint(1, V, (batch, target))


def combinations(*names):
    every = {
        "style": STYLES,
        "cell": ["gru", "lstm"],
        "mechanism": list(MECHANISMS),
        "scope": ["global", "local"],
        "layers": [1, 2],
    }
    for values in itertools.product(*(every[name] for name in names)):
        given = dict(zip(names, values, strict=True))
        out = {}
        if "style" in given:
            out["style"], out["input_feeding"] = given.pop("style")
        if "layers" in given:
            out["encoder_layers"] = out["decoder_layers"] = given.pop("layers")
        yield out | given | MECHANISMS[given.get("mechanism", "additive")]


def label(values):
    return "-".join(f"{key}={value}" for key, value in values.items())


ALL = list(combinations("style", "cell", "mechanism", "scope", "layers"))


@pytest.mark.parametrize("values", ALL, ids=label)
def test_steps_are_the_forward_pass(values):
    """Hypotheses that are reordered, and sentences that leave, have the logits of their own history."""
    model, beams = build(**values), 3
    first = 1 if values["encoder_layers"] == 1 else 3  # a search may begin with one hypothesis
    source, keep, _ = sentences()
    torch.manual_seed(1)
    with torch.inference_mode():
        steps = model.decoding(source, keep, beams=beams, limit=9)
        held = torch.arange(4)  # sentences still searched
        history = torch.zeros(4, first, 0, dtype=torch.long)
        for turn in range(5):
            tokens = torch.randint(1, V, (len(held), history.shape[1]))
            logits = steps.step(tokens)
            history = torch.cat([history, tokens.unsqueeze(-1)], -1)
            rows = held.repeat_interleave(tokens.shape[1])
            want = model(source[rows], history.flatten(0, 1), keep[rows])[:, -1]
            assert logits.shape == (*tokens.shape, V)
            assert (logits.flatten(0, 1) - want).abs().max() < 1e-10
            order = torch.randint(0, tokens.shape[1], (len(held), beams))
            steps.reorder(order)
            history = history.gather(1, order.unsqueeze(-1).expand(-1, -1, turn + 1))
            if turn in (1, 3):
                stay = torch.randperm(len(held))[:-1]
                steps.select(stay)
                held, history = held[stay], history[stay]
            assert (steps.batch, steps.beams) == (len(held), beams)


@pytest.mark.parametrize("values", list(combinations("style", "cell", "scope", "layers")), ids=label)
def test_padding_changes_nothing(values):
    model = build(**values)
    source, keep, tokens = sentences()
    logits = model(source, tokens, keep)
    assert torch.equal(logits, model(source + ~keep * 5, tokens, keep))  # whatever stands there
    for row, length in enumerate(keep.sum(1).tolist()):
        alone = model(source[row : row + 1, :length], tokens[row : row + 1, :3])
        assert (logits[row, :3] - alone[0]).abs().max() < 1e-11


@pytest.mark.parametrize("values", list(combinations("style", "cell")), ids=label)
def test_a_word_is_predicted_from_those_before_it(values):
    model = build(**values, decoder_layers=2)
    source, keep, tokens = sentences()
    changed = tokens.clone()
    changed[:, 3] = tokens[:, 3] % (V - 1) + 1
    before, after = model(source, tokens, keep), model(source, changed, keep)
    assert torch.equal(before[:, :3], after[:, :3])
    assert ((before - after)[:, 3:].abs().amax(-1) > 1e-6).all()
    other = source.clone()
    other[0, 6] = source[0, 6] % (V - 1) + 1
    changes = (before - model(other, tokens, keep)).abs().amax((1, 2)) > 1e-9
    assert changes.tolist() == [True, False, False, False]


def cells(model, x, state):
    """One decoder layer's own step on the whole input, through PyTorch's cell."""
    net = model.decoder[0].net
    weights = net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0, net.bias_hh_l0
    if model.config.cell == "gru":
        return (torch.gru_cell(x[None], state[0][None], *weights)[0],)
    h, c = torch.lstm_cell(x[None], (state[0][None], state[1][None]), *weights)
    return h[0], c[0]


def by_the_papers(model, source, tokens):
    """Logits [T, V] of one sentence, a step at a time, as sums over the source."""
    width, style = model.config.width, model.config.style
    embedding, encoder = model.output_weight, model.encoder[0]
    scale = model.config.embedding**0.5
    x = embedding[source] * scale
    forth = encoder.forth.net(x[None])[0][0]
    back = encoder.back.net(x.flip(0)[None])[0][0].flip(0)
    annotations = [model.annotate(torch.cat(pair)) for pair in zip(forth, back, strict=True)]
    first = torch.tanh(model.bridge(torch.cat([forth[-1], back[0]])))
    state = tuple(first.split(width))

    def context(query):
        mechanism = model.cross_attention.mechanism
        if model.config.mechanism == "additive":
            left = query @ mechanism.query[0] + mechanism.bias[0]
            scores = [mechanism.score[0] @ torch.tanh(left + a @ mechanism.key[0]) for a in annotations]
        elif model.config.mechanism == "bilinear":
            scores = [query @ mechanism.weight[0] @ a for a in annotations]
        else:
            scores = [query @ a for a in annotations]
        powers = [torch.exp(score) for score in scores]
        return sum(p / sum(powers) * a for p, a in zip(powers, annotations, strict=True))

    fed, logits = torch.zeros(model.config.embedding, dtype=torch.double), []
    for word in embedding[tokens] * scale:
        if style == "bahdanau":
            c = context(state[0])
            state = cells(model, torch.cat([word, c]), state)
            pre = model.readout.weight @ torch.cat([c, state[0], word]) + model.readout.bias
            h = torch.stack([torch.maximum(pre[2 * i], pre[2 * i + 1]) for i in range(len(pre) // 2)])
        else:
            state = cells(model, torch.cat([word, fed]) if model.config.input_feeding else word, state)
            c = context(state[0])
            h = fed = torch.tanh(model.readout.weight @ torch.cat([c, state[0]]) + model.readout.bias)
        logits.append(embedding @ h)
    return torch.stack(logits)


@pytest.mark.parametrize("mechanism", ["additive", "dot", "bilinear"])
@pytest.mark.parametrize("values", list(combinations("style", "cell")), ids=label)
def test_the_model_is_that_of_the_papers(values, mechanism):
    model = build(**values | {"mechanism": mechanism})
    source, keep, tokens = sentences()
    logits = model(source, tokens, keep)
    for row in range(2):
        want = by_the_papers(model, source[row][keep[row]], tokens[row])
        assert (logits[row] - want).abs().max() < 1e-10


@pytest.mark.parametrize("values", list(combinations("style", "cell", "scope")), ids=label)
def test_every_weight_learns(values):
    model = build(**values, decoder_layers=2, encoder_layers=2, heads=2, tie_embeddings="none")
    source, keep, tokens = sentences()
    model.train()
    F.cross_entropy(model(source, tokens, keep).flatten(0, 1), tokens.flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("values", list(combinations("style")), ids=label)
def test_logits_only_where_a_label_is(values):
    model = build(**values)
    source, keep, tokens = sentences()
    at = torch.tensor([0, 7, 3, 23])
    got, whole = model(source, tokens, keep, at), model(source, tokens, keep).flatten(0, 1)
    assert (got - whole[at]).abs().max() < 1e-12


@pytest.mark.parametrize("values", list(combinations("style", "scope")), ids=label)
def test_steps_can_score_some_words_only(values):
    model = build(**values).float()
    source, keep, tokens = sentences()
    words = torch.tensor([5, 2, 11])
    with torch.inference_mode():
        one, other = (model.decoding(source, keep, beams=2, limit=9) for _ in range(2))
        for t in range(3):
            some = one.step(tokens[:, t : t + 1].expand(4, 2), words)
            everything = other.step(tokens[:, t : t + 1].expand(4, 2))
            assert some.dtype == torch.float32
            assert (some - everything[..., words]).abs().max() < 1e-5


@pytest.mark.parametrize("values", list(combinations("style", "mechanism")), ids=label)
def test_recorded_attention(values):
    model = build(**values, heads=2)
    source, keep, tokens = sentences()
    with record(model) as seen:
        model(source, tokens, keep)
    ((name, weights),) = seen.weights
    assert name == "cross_attention"
    assert weights.shape == (4, 2, 6, 7)
    assert (weights.sum(-1) - 1).abs().max() < 1e-12
    assert not weights[~keep[:, None, None].expand_as(weights)].any()
    with torch.inference_mode(), record(model) as stepwise:
        steps = model.decoding(source, keep, beams=3, limit=9)
        for t in range(6):
            steps.step(tokens[:, t : t + 1].expand(4, 3))
    assert [name for name, _ in stepwise.weights] == ["cross_attention"] * 6
    for t, (_, found) in enumerate(stepwise.weights):  # [B, H, K, S]
        assert (found - weights[:, :, t : t + 1]).abs().max() < 1e-12


@pytest.mark.parametrize("values", list(combinations("style", "cell", "mechanism")), ids=label)
def test_half_width_products_stay_close(values):
    """Under autocast the recurrences stay in float32 and only the output layers are narrow."""
    model = build(**values).float()
    source, keep, tokens = sentences()
    exact = model(source, tokens, keep)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model(source, tokens, keep)
        F.cross_entropy(narrow.float().flatten(0, 1), tokens.flatten()).backward()
        with torch.inference_mode():
            step = model.decoding(source, keep, beams=1, limit=9).step(tokens[:, :1])
    assert step.dtype == torch.float32
    assert (narrow - exact).abs().max() < 0.05 * exact.abs().max()
    assert (step[:, 0] - exact[:, 0]).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("values", list(combinations("style", "cell")), ids=label)
def test_dropout_is_for_training(values):
    model = build(**values, decoder_layers=2, encoder_layers=2, dropout=0.3, attention_dropout=0.2)
    source, keep, tokens = sentences()
    assert torch.equal(model(source, tokens, keep), model(source, tokens, keep))
    model.train()
    torch.manual_seed(4)
    first, second = model(source, tokens, keep), model(source, tokens, keep)
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(first, model(source, tokens, keep))


@pytest.mark.parametrize(("tie", "matrices"), [("all", 1), ("decoder", 2), ("none", 3)])
def test_embeddings_are_tied_three_ways(tie, matrices):
    model = Recurrent(RecurrentConfig(**SMALL, tie_embeddings=tie))
    of_words = [p for p in model.parameters() if p.shape == (V, 6)]
    assert len(of_words) == matrices
    assert not model.target_embeddings.word.weight[0].any()  # padding


def test_the_two_sides_may_have_vocabularies_of_their_own():
    model = build(tie_embeddings="decoder", source_vocabulary=40)
    source = torch.full((1, 3), 39)
    assert model(source, torch.tensor([[1, 2]])).shape == (1, 2, V)


def test_resolving_a_recipe():
    section = RecurrentModel.model_validate(
        {"style": "bahdanau", "cell": "lstm", "width": 12, "attention": {"mechanism": "topk", "topk": 3}}
    )
    config = resolve_recurrent(section, source_vocabulary=30, target_vocabulary=30, pad_id=0)
    assert (config.style, config.cell, config.width, config.mechanism, config.topk) == (
        "bahdanau", "lstm", 12, "topk", 3,
    )  # fmt: skip
    assert not config.parallel
    assert Recurrent(config)(torch.ones(1, 2).long(), torch.ones(1, 3).long()).shape == (1, 3, 30)


def test_what_does_not_go_together_is_said_at_once():
    section = RecurrentModel.model_validate({"width": 10, "attention": {"heads": 3}})
    with pytest.raises(RecipeError) as caught:
        resolve_recurrent(section, source_vocabulary=30, target_vocabulary=31, pad_id=0)
    text = str(caught.value)
    assert len(caught.value.problems) == 2
    assert "model.width=10" in text
    assert "30 and 31" in text


@pytest.mark.parametrize(
    "values",
    list(combinations("style", "cell", "scope", "layers")) + list(combinations("mechanism")),
    ids=label,
)
def test_flops_are_those_of_the_matrix_products(values):
    """Counted by hand, and by PyTorch's counter on what runs."""
    config = RecurrentConfig(**SMALL | {"heads": 2} | values)
    batch, source, target = 2, 5, 4
    model = Recurrent(config).eval().double()  # the counter does not see inside float32's fused LSTM
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(batch, source).long(), torch.ones(batch, target).long())
    want = counter.get_total_flops() / batch
    if config.mechanism == "additive":  # its scores are a sum of products, which the counter does not see
        want += 2 * source * target * config.width
    assert translation_flops(config, source=source, target=target).forward == want
    assert count_parameters(config).total == sum(p.numel() for p in model.parameters())
    assert count_parameters(config).embeddings == V * 6


def test_what_it_is_in_words():
    config = RecurrentConfig(**SMALL, input_feeding=True, scope="local", window=7, cell="lstm")
    assert config.describe() == (
        "recurrent (luong with input feeding), 1 + 1 layers of lstm 8; "
        "additive attention over 7 tokens around a place"
    )


def reversed_sentences(count, generator):
    """Sentences of 3 to 9 words, ended by 2, and their words in reverse order, begun by 1."""
    lengths = torch.randint(3, 10, (count,), generator=generator)
    source, tokens, labels = (torch.zeros(count, 10, dtype=torch.long) for _ in range(3))
    for row, length in enumerate(lengths.tolist()):
        words = torch.randint(3, V, (length,), generator=generator)
        source[row, : length + 1] = torch.cat([words, torch.tensor([2])])
        tokens[row, : length + 1] = torch.cat([torch.tensor([1]), words.flip(0)])
        labels[row, : length + 1] = torch.cat([words.flip(0), torch.tensor([2])])
    return source, tokens, labels, lengths


@pytest.mark.parametrize(
    "values",
    [
        {"style": "luong", "mechanism": "bilinear", "cell": "lstm"},
        {"style": "bahdanau", "mechanism": "additive"},
        {"style": "luong", "mechanism": "additive", "scope": "local", "window": 3},
    ],
    ids=label,
)
def test_it_learns_to_reverse_and_where_to_look(values):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Recurrent(RecurrentConfig(**SMALL | {"embedding": 32, "width": 32, "dropout": 0.0} | values))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=200)
    for _ in range(200):
        source, tokens, labels, _ = reversed_sentences(64, generator)
        at = labels.flatten().nonzero().squeeze(1)
        loss = F.cross_entropy(model(source, tokens, source > 0, at), labels.flatten()[at])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    source, tokens, labels, lengths = reversed_sentences(100, generator)
    model.eval()
    with torch.no_grad(), record(model) as seen:
        logits = model(source, tokens, source > 0)
    real = labels > 0
    assert (logits.argmax(-1) == labels)[real].float().mean() > 0.95
    looked = seen.weights[0][1][:, 0].argmax(-1)  # [B, T]
    mirror = lengths.unsqueeze(1) - 1 - torch.arange(10)
    assert ((looked - mirror).abs()[mirror >= 0] <= 1).float().mean() > 0.9
