"""``attn classify``: train a classifier from scratch, or label with a finished run."""

from __future__ import annotations

from typing import Any

from attncli.commands.labelled import train_or_apply


def main(first: str | None, args: list[str], **options: Any) -> None:
    """Train the recipe ``first`` with settings ``args``, or apply the run ``first`` to inputs ``args``."""
    train_or_apply("classify", first, args, **options)
