"""Toy encoders that transformers made, of each family and head."""

import os

import pytest
import torch

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTH, PAD, LABELS = 61, 24, 1, 3
_SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": PAD,
    "max_position_embeddings": LENGTH,
}
_OFFSET = _SIZE | {"max_position_embeddings": LENGTH + PAD + 1, "type_vocab_size": 1}
_DISTIL = {
    "vocab_size": VOCABULARY,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "pad_token_id": PAD,
    "max_position_embeddings": LENGTH,
}
_MODERN = _SIZE | {
    "num_hidden_layers": 4,
    "local_attention": 6,
    **{f"{name}_token_id": 2 for name in ("bos", "eos", "cls", "sep")},
}
SETTINGS = {
    "bert": ("Bert", _SIZE),
    "roberta": ("Roberta", _OFFSET),
    "camembert": ("Camembert", _OFFSET),
    "xlm-roberta": ("XLMRoberta", _OFFSET),
    "albert": ("Albert", _SIZE | {"embedding_size": 16}),
    "distilbert": ("DistilBert", _DISTIL),
    "electra": ("Electra", _SIZE | {"embedding_size": 16}),
    "electra-square": ("Electra", _SIZE | {"embedding_size": 32, "hidden_act": "relu"}),
    "modernbert": ("ModernBert", _MODERN),
}
HEADS = {
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}


def save_peer(family, head, folder, **more):
    """A model of ``family`` with weights far from their initial zeros, saved; ``head`` as in a class name."""
    prefix, settings = SETTINGS[family]
    config = getattr(transformers, f"{prefix}Config")(**settings, num_labels=LABELS, **more)
    torch.manual_seed(3)
    if "Question" in head:
        config.num_labels = 2
    peer = getattr(transformers, prefix + head)(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    peer.save_pretrained(folder)
    return peer


def inputs(segments):
    """Tokens, segments or None, and keep, [3, T], with padding."""
    keep = torch.arange(LENGTH)[None] < torch.tensor([[LENGTH], [15], [7]])
    tokens = torch.randint(4, VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    second = (torch.arange(LENGTH)[None] > torch.tensor([[9], [5], [3]])).long() * keep
    return tokens.where(keep, PAD), second if segments else None, keep


def ask(peer, tokens, segments, keep):
    """The peer's output."""
    given = {"input_ids": tokens, "attention_mask": keep.long()}
    if segments is not None:
        given["token_type_ids"] = segments
    with torch.no_grad():
        return peer(**given)
