"""Token embeddings: words, absolute positions and segments."""

from __future__ import annotations

from torch import Tensor, nn

from attncli.ops.dropout import Dropout


class TokenEmbeddings(nn.Module):
    """The sum of word, position and segment embeddings, then norm, dropout and projection.

    As in BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805); with ``projection`` the embeddings are
    narrower than the model, as in ALBERT (Lan et al. 2020, https://arxiv.org/abs/1909.11942).

    Args:
        vocabulary: number of words.
        width: width of the embeddings.
        pad_id: word whose embedding starts as zero and gets no gradient from the input side; None for none.
        position: an absolute position scheme (``embed(x, positions)``), or None.
        segments: number of segment embeddings; 0 for none.
        norm: applied to the sum, or None.
        dropout: rate after the norm.
        project_to: width of the model where it differs from the embeddings', else None.
        scale: factor on the word embeddings; the square root of the width in Vaswani et al. 2017
            (https://arxiv.org/abs/1706.03762).
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        pad_id: int | None = None,
        position: nn.Module | None = None,
        segments: int = 0,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        project_to: int | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width, padding_idx=pad_id)
        self.scale = scale
        self.position = position
        self.segment = nn.Embedding(segments, width) if segments else None
        self.norm = norm
        self.dropout = Dropout(dropout)
        self.projection = None if project_to is None else nn.Linear(width, project_to)
        if self.projection is not None:
            self.projection.muon = False  # part of the embeddings, which AdamW trains

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        start: int = 0,
        embedded: Tensor | None = None,
    ) -> Tensor:
        """Tokens [B, T] to [B, T, C].

        ``segments`` [B, T], all 0 where absent, unused by a model without segment embeddings;
        ``positions`` [B, T] or [T], counted from ``start`` where absent. ``embedded`` [B, T, E] stands in
        for the word embeddings of ``tokens``, which then do not matter.
        """
        x = self.word(tokens) if embedded is None else embedded  # [B, T, E]
        if self.scale != 1.0:
            x = x * self.scale
        if self.segment is not None:
            x = x + (self.segment.weight[0] if segments is None else self.segment(segments))
        if self.position is not None:
            x = self.position.embed(x, positions, start)
        if self.norm is not None:
            x = self.norm(x)
        x = self.dropout(x)
        return x if self.projection is None else self.projection(x)
