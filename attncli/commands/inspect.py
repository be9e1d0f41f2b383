"""``attn inspect``: where a model looks, as a picture of every head and a table of what each one does."""

from __future__ import annotations

from pathlib import Path

from attncli.commands.trained import INSPECT, module_of, open_run, want_inputs


def main(first: str, inputs: list[str], *, out: Path | None = None) -> None:
    """Draw the attention maps of a run for each input."""
    run, loaded = open_run("inspect", first)
    want_inputs(inputs, f"attn inspect {first} 'A sentence.'")
    module_of(INSPECT, run.info["command"], loaded.recipe).inspect(run, loaded, inputs, out)
