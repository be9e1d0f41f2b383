"""What one does with a finished language model: fill masks, continue a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from attncli.decoding import Sampling, generate
from attncli.tasks.pretrain import PretrainTask
from attncli.tasks.pruning import Predict, Prediction


@dataclass(frozen=True)
class Filling:
    """A candidate for one mask."""

    token: str
    probability: float


def fill_masks(task: PretrainTask, text: str, count: int) -> list[list[Filling]]:
    """The ``count`` likeliest tokens of each mask in ``text``, in the order of the text.

    Raises ValueError when the text has no mask, or more tokens than the model can take.
    """
    tokenizer = task.tokenizer
    ids = tokenizer.encode(text, special=True)
    at = [place + 1 for place, token in enumerate(ids) if token == tokenizer.mask_id]
    if not at:
        raise ValueError(f"there is no {mask_of(task)} in it")
    _check_length(task, len(ids))
    device = next(task.model.parameters()).device
    tokens = torch.tensor([[tokenizer.cls_id, *ids, tokenizer.sep_id]], device=device)  # [1, T]
    with torch.inference_mode():
        logits = task.model.eval()(tokens, labels_at=torch.tensor(at, device=device)).logits.float()  # [N, V]
        logits[:, tokenizer.special_ids] = -torch.inf
        likely = logits.softmax(-1).topk(min(count, logits.shape[-1]))
    return [
        [Filling(_shown(task, token), p) for token, p in zip(tokens, probabilities, strict=True)]
        for tokens, probabilities in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    ]


def mask_of(task: PretrainTask) -> str:
    """How this model's mask is written."""
    return task.tokenizer.tokens[task.tokenizer.mask_id]


def continue_text(
    task: PretrainTask, prompt: str, *, limit: int, sampling: Sampling, seed: int | None
) -> Iterator[str]:
    """Pieces of text that follow ``prompt``, as soon as each is whole.

    A document's end ends it. An empty prompt begins a document. Raises ValueError for a prompt of
    characters that the tokeniser does not know at all.
    """
    tokenizer, model = task.tokenizer, task.model.eval()
    ids = tokenizer.encode(prompt) if prompt else [tokenizer.eos_id]
    if not ids or all(token == tokenizer.unk_id for token in ids):
        raise ValueError("the tokenizer of this run knows none of its characters")
    device = next(model.parameters()).device
    length = task.recipe.model.length
    made: list[int] = []
    told = ""
    steps = generate(
        lambda tokens, cache: model(tokens, cache=cache, last=True),
        torch.tensor([ids], device=device),
        length=length,
        limit=limit,
        sampling=sampling,
        stop=[tokenizer.eos_id],
        seed=seed,
        new_cache=lambda: model.new_cache(1, length),
    )
    # Tokens are decoded behind the prompt's last ones: a blank before a word is known only then.
    context = ids[-8:]
    before = tokenizer.decode(context)
    for token in steps:
        if int(token) == tokenizer.eos_id:
            break
        made.append(int(token))
        text = tokenizer.decode(context + made)[len(before) :]
        if not text.endswith("\ufffd"):  # the rest of a character is still to come
            yield text[len(told) :]
            told = text
        if len(made) >= 64:  # decoding must not grow with the text
            context, made = (context + made)[-8:], []
            before, told = tokenizer.decode(context), ""


def tokens_of(task: PretrainTask, text: str) -> tuple[torch.Tensor, list[str]]:
    """A text as the model reads it: tokens [1, T], and each written out.

    Raises ValueError when it is empty or longer than the model can take.
    """
    tokenizer = task.tokenizer
    ids = tokenizer.encode(text, special=True)
    if not ids:
        raise ValueError("it has no token")
    if not task.causal:
        _check_length(task, len(ids))
        ids = [tokenizer.cls_id, *ids, tokenizer.sep_id]
    elif len(ids) > task.recipe.model.length:
        raise ValueError(f"it has {len(ids)} tokens; the model takes {task.recipe.model.length}")
    device = next(task.model.parameters()).device
    return torch.tensor([ids], device=device), [_shown(task, token) for token in ids]


def predictor(task: PretrainTask, tokens: torch.Tensor) -> Predict:
    """Runs the model on tokens [1, T] as it was trained: the next token of each, or tokens behind masks.

    Every seventh token is masked at a time, in as many rows as mask each of them once; of long texts in
    fewer.
    """
    model = task.model.eval()
    if task.causal:
        labels = tokens[0, 1:]
        return lambda: Prediction.of(model(tokens)[0, : max(len(labels), 1)], labels if len(labels) else None)
    inner = torch.arange(1, tokens.shape[1] - 1, device=tokens.device)  # without the frame
    count = min(_MASK_EVERY, len(inner), max(1, _MASKED_TOKENS // tokens.shape[1]))
    places = [inner[row::_MASK_EVERY] for row in range(count)]
    rows = tokens.repeat(count, 1)  # [R, T]
    at = torch.cat([row * tokens.shape[1] + found for row, found in enumerate(places)])
    labels = rows.flatten()[at]
    rows.view(-1)[at] = task.tokenizer.mask_id
    return lambda: Prediction.of(model(rows, labels_at=at).logits, labels)


_MASK_EVERY = 7  # about as many as training masks
_MASKED_TOKENS = 1024  # of all rows together, at most


def _shown(task: PretrainTask, token: int) -> str:
    """A token for people: ``##ing`` and the like stay, bytes become text where they are some."""
    written = task.tokenizer.tokens[token]
    if task.tokenizer.kind == "wordpiece" or token in task.tokenizer.special_ids:
        return written
    text = task.tokenizer.decode([token])
    return text if text.strip() and "\ufffd" not in text else (repr(text)[1:-1] or written)


def _check_length(task: PretrainTask, count: int) -> None:
    room = task.recipe.model.length - 2
    if count > room:
        raise ValueError(f"it has {count} tokens; the model takes {room}")
