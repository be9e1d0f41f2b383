"""Why a run says what it says of a text: attention, rollout and gradients, word by word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.attention import Head, record
from attncli.layers.ragged import Ragged
from attncli.tasks.bag_of_words import BagTask
from attncli.tasks.classify import predicted
from attncli.tasks.encoder_classify import EncoderClassifyTask
from attncli.tasks.han import HanTask
from attncli.tasks.pruning import Predict, Prediction, heads_of
from attncli.tasks.tag import TagTask

Maps = list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Tokens:
    """A text as its model reads it."""

    lines: list[list[str]]
    """Tokens, of documents sentence by sentence."""
    blanks: list[list[bool]]
    """Whether a blank stands before each."""
    special: list[list[bool]]


@dataclass(frozen=True)
class Explained:
    """What was predicted, of which output the weights are, and what the model can be asked."""

    predicted: list[tuple[str, str]]
    output: str
    tokens: Tokens
    maps: Maps
    """Attention of each layer [H, T, T]; empty where the model has no self-attention to show."""
    score: Callable[[], Tensor] | None
    """Runs the model and gives the output that is explained; None where ``words`` says all."""
    predict: Predict | None
    """Runs the model and gives all that it predicts; None where no layer has heads."""
    heads: list[Head]
    """Behind ``maps``, in their order."""
    embedding: torch.nn.Module | None
    place: np.ndarray | None
    """Of each embedding asked for, its number among the tokens line by line."""
    words: list[list[float]] | None = None
    sentences: list[float] | None = None
    words_name: str = "attention"
    shares: dict[str, float] = field(default_factory=dict)
    """What was predicted as numbers: percents of labels."""
    whole: bool = True
    """Whether ``predict`` speaks of the text as a whole, not of each word."""

    @property
    def figures(self) -> dict[str, float]:
        """Numbers that runs can be compared by: how many tokens, and shares in percent or the number."""
        found: dict[str, float] = {"tokens": sum(map(len, self.tokens.lines))}
        return found | self.shares


def explain(task: Any, text: str, pair: str | None = None) -> Explained:
    """Everything that ``inspect`` shows of a text; ValueError for one without a token."""
    if isinstance(task, HanTask):
        return _document(task, text)
    if isinstance(task, BagTask):
        return _bag(task, text)
    if isinstance(task, TagTask):
        return _tagged(task, text)
    return _encoded(task, text, pair)


def _encoded(task: EncoderClassifyTask, text: str, pair: str | None) -> Explained:
    ids, segments, parts = task.tokenizer.parts(text, pair, max_length=task.recipe.data.max_length)
    inputs = _one_row(task, ids, segments)
    with torch.no_grad(), record(task.model) as recorded:
        logits = task.model(**inputs).float()
    rows, output, name, shares = predicted(task, logits)
    return Explained(
        rows,
        name,
        Tokens(*([[part[at] for part in parts]] for at in range(3))),
        maps_of(recorded.weights),
        lambda: task.model(**inputs).float()[0, output],
        lambda: _labelled(task.model(**inputs).float(), task.labels.kind),
        heads_of(recorded.weights),
        task.model.encoder.embeddings.word,
        np.arange(len(ids)),
        shares=shares,
    )


def _labelled(logits: Tensor, kind: str) -> Prediction:
    """What logits [1, L] of a text say."""
    if kind == "regression":
        return Prediction(None, numbers=logits[0])
    if kind == "single":
        return Prediction.of(logits)
    both = torch.stack([logits[0], torch.zeros_like(logits[0])], -1)  # [L, 2]: each label, or not
    return Prediction.of(both)


def _one_row(task: Any, ids: np.ndarray, segments: np.ndarray) -> dict[str, Tensor]:
    device = next(task.model.parameters()).device
    inputs = {"tokens": torch.from_numpy(ids.astype(np.int64))[None].to(device)}
    if segments.any():
        inputs["segments"] = torch.from_numpy(segments.astype(np.int64))[None].to(device)
    return inputs


def _tagged(task: TagTask, text: str) -> Explained:
    words = task.words(text)
    if not words:
        raise ValueError("it has no word")
    ((ids, numbers),) = task.tokenizer.encode_words([words])
    row, segments, begins = task.tokenizer.around(ids)
    if len(row) > task.recipe.data.max_length:
        raise ValueError(f"it has {len(row)} tokens; windows have {task.recipe.data.max_length}")
    inputs = _one_row(task, row, segments)
    places = begins + np.searchsorted(numbers, np.arange(len(words)))
    inputs["words"] = torch.from_numpy(places.astype(np.int64))[None].to(inputs["tokens"].device)
    with torch.no_grad(), record(task.model) as recorded:
        logits = task.model(**inputs).float()  # [1, W, L]
    tags = task.apply([words])[0]
    shares = logits.softmax(-1)[0]
    entity = [at for at, tag in enumerate(tags) if tag != "O"] or list(range(len(words)))
    best = logits[0].argmax(-1)
    chosen = max(entity, key=lambda at: float(shares[at, best[at]]))
    label = int(best[chosen])
    rows = [(word, tag) for word, tag in zip(words, tags, strict=True) if tag != "O"] or [("no entity", "")]
    return Explained(
        rows,
        f"{task.labels.names[label]} of {words[chosen]}",
        _word_tokens(task, words, numbers, begins, row),
        maps_of(recorded.weights),
        lambda: task.model(**inputs).float()[0, chosen, label],
        lambda: Prediction.of(task.model(**inputs)[0]),
        heads_of(recorded.weights),
        task.model.encoder.embeddings.word,
        np.arange(len(row)),
        whole=False,
    )


def _word_tokens(
    task: TagTask, words: list[str], numbers: np.ndarray, begins: int, row: np.ndarray
) -> Tokens:
    """A word of one piece as it stands, of several as its pieces; names of special tokens."""
    tokenizer = task.tokenizer.tokenizer
    counts = np.bincount(numbers, minlength=len(words))
    shown, blanks, special = [], [], []
    for at, token in enumerate(row.tolist()):
        place = at - begins
        inside = 0 <= place < len(numbers)
        word = int(numbers[place]) if inside else -1
        whole = inside and counts[word] == 1
        text = words[word] if whole else tokenizer.tokens[token]
        if inside and not whole and token != tokenizer.unk_id:
            text = tokenizer.decode([token]).strip().removeprefix("##") or text
        shown.append(text)
        blanks.append(not inside or place == 0 or numbers[place - 1] != word)
        special.append(not inside)
    return Tokens([shown], [blanks], [special])


def maps_of(weights: list[tuple[str, Tensor]]) -> Maps:
    """Self-attention among what was recorded, of the first row."""
    return [(name, w[0].float().cpu().numpy()) for name, w in weights if w.shape[-1] == w.shape[-2]]


def _document(task: HanTask, text: str) -> Explained:
    from attncli.data.documents import kept_sentences, pieces

    data, tokenizer = task.recipe.data, task.tokenizer
    words = [
        part for one in tokenizer.words(tokenizer.sentences(text)) for part in pieces(one, data.max_length)
    ]
    words = [words[at] for at in kept_sentences(len(words), data.max_sentences)]
    if not words:
        raise ValueError("it has no word")
    from attncli.data.labelled import unlabelled

    batch = task.evaluation_batches(unlabelled([text], None, task.labels))[0]
    device = next(task.model.parameters()).device
    inputs = {name: value.to(device) for name, value in task.inputs(batch).items()}
    with torch.no_grad(), record(task.model) as recorded:
        logits = task.model(**inputs).float()
    rows, output, name, shares = predicted(task, logits)
    found = dict(recorded.weights)
    sentences = found.get("sentences")
    per_word = found.get("words")
    ragged = Ragged(inputs["keep"].flatten(0, 1))
    width = inputs["keep"].shape[2]
    ends = np.cumsum([0, *map(len, words)])
    flat = ragged.flat.cpu().numpy()
    place = ends[flat // width] + flat % width
    return Explained(
        rows,
        name,
        Tokens(words, [[True] * len(line) for line in words], [[False] * len(line) for line in words]),
        [],
        lambda: task.model(**inputs).float()[0, output],
        None,
        [],
        task.model.embedding,
        place,
        words=None
        if per_word is None
        else [per_word[0, 0, at, : len(line)].tolist() for at, line in enumerate(words)],
        sentences=None if sentences is None else sentences[0, 0, 0, : len(words)].tolist(),
        words_name="attention of words and sentences",
        shares=shares,
    )


def _bag(task: BagTask, text: str) -> Explained:
    from attncli.data.labelled import unlabelled

    batch = task.evaluation_batches(unlabelled([text], None, task.labels))[0]
    device = next(task.model.parameters()).device
    inputs = {name: value.to(device) for name, value in task.inputs(batch).items()}
    with torch.no_grad():
        logits = task.model(**inputs).float()
        scores = task.model.scores.detach()
        scores = scores[:, 0] if scores.shape[1] == 1 else scores
    rows, output, name, shares = predicted(task, logits)
    gains = {}
    for feature, weight in zip(inputs["features"][0].tolist(), inputs["weights"][0].tolist(), strict=True):
        column = scores[feature] if scores.ndim == 1 else scores[feature, output] - scores[feature].mean()
        gains[feature] = gains.get(feature, 0.0) + weight * float(column)
    found = task.features.places(text)
    counts: dict[int, int] = {}
    for feature, *_ in found:
        counts[feature] = counts.get(feature, 0) + 1
    characters = np.zeros(len(text))
    for feature, first, end in found:
        characters[first:end] += gains.get(feature, 0.0) / counts[feature] / max(end - first, 1)
    words = text.split()
    if not words:
        raise ValueError("it has no word")
    weights, at = [], 0
    for word in words:
        at = text.index(word, at)
        weights.append(float(characters[at : at + len(word)].sum()))
        at += len(word)
    tokens = Tokens([words], [[True] * len(words)], [[False] * len(words)])
    return Explained(
        rows,
        name,
        tokens,
        [],
        None,
        None,
        [],
        None,
        None,
        words=[weights],
        words_name="what its words add to the output",
        shares=shares,
    )
