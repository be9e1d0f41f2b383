"""``attn finetune``: fine-tune an encoder to classify, to tag or to answer, or apply a finished run."""

from __future__ import annotations

from typing import Any

from attncli.commands.labelled import train_or_apply


def main(first: str | None, args: list[str], **options: Any) -> None:
    """Train the recipe ``first`` with settings ``args``, or apply the run ``first`` to inputs ``args``."""
    train_or_apply("finetune", first, args, **options)
