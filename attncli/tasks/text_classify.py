"""Classification of texts, whatever model reads them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from attncli.data.labelled import LabelledSets, TextSet, read_set, unlabelled
from attncli.tasks.classify import ClassifyTask, probabilities


class TextClassifyTask(ClassifyTask):
    """Labels of whole texts, or pairs of texts."""

    sets: LabelledSets | None

    def named(self, examples: TextSet, number: int) -> dict[str, Any]:
        """The text, and its second text where they are pairs."""
        pair = {} if examples.pairs is None else {"pair": examples.pairs[number]}
        return {"text": examples.texts[number], **pair}

    def apply(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Probabilities [N, L] of texts, or the numbers [N, 1]; in their order."""
        logits, _ = self._logits(unlabelled(texts, pairs, self.labels))
        return probabilities(logits, self.labels.kind)

    def other_set(self, name: str, *, part: bool) -> TextSet:
        """Texts to be measured on."""
        return read_set(self.recipe.data, self.labels, name, part=part)

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        if self.labels.pairs:
            return [f"attn classify {run} pairs.jsonl", f"attn evaluate {run}"]
        text = next((text for text in self.sets.validation.texts if text.strip()), "A text.")
        short = shlex.quote(" ".join(text.split()[:12]))
        return [f"attn classify {run} {short}", f"attn inspect {run} {short}", f"attn evaluate {run}"]
