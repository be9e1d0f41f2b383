"""Names of what models on labelled data are measured by. No torch, so that ``--require`` comes first."""

from __future__ import annotations

from attncli.recipe.finetune import AnswerRecipe, TagRecipe
from attncli.recipe.sections import Recipe
from attncli.recipe.video import VideoRecipe

SINGLE = (
    "accuracy",
    "top5_accuracy",
    "f1_macro",
    "f1_micro",
    "matthews",
    "calibration_error",
)
MULTI = ("f1_micro", "f1_macro", "subset_accuracy", "average_precision", "calibration_error")
REGRESSION = ("spearman", "pearson", "mse", "mae")
_KINDS = {"single": SINGLE, "multi": MULTI, "regression": REGRESSION}
TAGS = ("f1", "precision", "recall", "accuracy")
CLIPS = {
    "single": ("clip_loss", "clip_accuracy"),
    "multi": ("clip_loss", "clip_f1_macro"),
    "regression": ("clip_loss", "clip_spearman"),
}
"""Of single clips, beside those of whole videos."""
ANSWERS = ("exact_match", "f1", "has_answer_exact_match", "has_answer_f1", "no_answer_accuracy")


def reported(kind: str, labels: int) -> tuple[str, ...]:
    """What a set is measured by, of labels of a kind: the loss aside."""
    if kind == "single" and labels <= 5:
        return tuple(name for name in SINGLE if name != "top5_accuracy")
    return _KINDS[kind]


def metric_names(recipe: Recipe) -> list[str]:
    """Metrics that an evaluation of ``recipe`` reports: of the validation part, then of the test sets.

    Top-5 accuracy is there with more than five labels. A test set's are ``<test set>.<metric>``:
    ``*.<metric>`` stands for any. What a classifier is measured by depends on its labels, which the data may
    decide.
    """
    if isinstance(recipe, TagRecipe):
        names = TAGS
    elif isinstance(recipe, AnswerRecipe):
        names = ANSWERS
    else:
        chosen = _KINDS.get(recipe.data.kind)  # type: ignore[attr-defined]
        names = chosen or tuple(dict.fromkeys(SINGLE + MULTI + REGRESSION))
        if isinstance(recipe, VideoRecipe):
            of_clips = [CLIPS[recipe.data.kind]] if chosen else CLIPS.values()
            names += tuple(dict.fromkeys(name for found in of_clips for name in found))
    return ["loss", *names, *(f"*.{name}" for name in names)]
