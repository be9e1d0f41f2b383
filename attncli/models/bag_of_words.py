"""The linear baseline: a weight of each label for each feature of a text, without attention or order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """A bag of words."""

    features: int
    labels: int
    """Outputs."""
    kind: str = "tfidf"
    """What a feature weighs: tfidf, binary, counts, or nb, whose ratios are in the model."""

    def describe(self) -> str:
        """Kind and size in words."""
        return f"linear on a bag of {self.features:,} words and runs of words, weighted by {self.kind}"


class BagOfWords(nn.Module):
    """Logits are sums of the features' weights, which start at 0: logistic regression.

    For kind nb each feature is scaled by its log-count ratio of each label (Wang and Manning 2012,
    https://aclanthology.org/P12-2018), stored with the weights: ``ratios`` [F, L], or None where they are
    loaded later.
    """

    def __init__(self, config: BagConfig, ratios: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        shape = config.features, config.labels
        self.weight = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(config.labels))
        if config.kind == "nb":
            self.register_buffer("ratios", torch.ones(shape) if ratios is None else ratios.clone())

    @property
    def scores(self) -> Tensor:
        """What one unit of each feature adds to each logit, [F, L]."""
        return self.weight * self.ratios if self.config.kind == "nb" else self.weight

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Features int64 [B, F'] and their weights [B, F'], 0 in the padding, to logits [B, L]."""
        with torch.autocast(features.device.type, enabled=False):
            scores = self.scores
            sums = F.embedding_bag(
                features, scores, mode="sum", per_sample_weights=weights.to(scores.dtype)
            )  # [B, L]
            return sums + self.bias
