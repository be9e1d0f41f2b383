"""``attn explain``: what an attention mechanism or a position computes, what it costs, when to use it."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from attncli import console
from attncli.attention import MECHANISMS, POSITIONS
from attncli.attention.table import options_of
from attncli.errors import Problem, RecipeError, nearest

_SUPPORT = {
    "causal": "causal",
    "padding": "padding",
    "pairs": "any mask",
    "cross": "cross",
    "cache": "cache",
    "gqa": "grouped heads",
    "bias": "positions t5, alibi, relative_2d",
    "relative": "position shaw",
    "weights": "weights to look at",
}

_FACTS = ("time", "memory", "options", "supports", "does not support", "backends", "use", "change")


def main(names: list[str]) -> None:
    """Explain ``names``, or list every mechanism."""
    if not names:
        _list()
        return
    unknown = [name for name in names if name not in MECHANISMS and name not in POSITIONS]
    if unknown:
        every = [*MECHANISMS, *POSITIONS]
        near = [nearest(name, every) for name in unknown]
        raise RecipeError(
            *(
                Problem(
                    f"no mechanism or position is called {name!r}",
                    hint=f"did you mean {hint}?" if hint else None,
                )
                for name, hint in zip(unknown, near, strict=True)
            ),
            then="attn explain",
        )
    found = [_mechanism(name) if name in MECHANISMS else _position(name) for name in names]
    console.document({"explained": found})
    if console.json_mode():
        return
    for number, about in enumerate(found):
        console.result(("\n" if number else "") + f"{about['name']}\n")
        console.result(about["text"] + "\n")
        for label in (
            "time",
            "memory",
            "options",
            "supports",
            "does not support",
            "backends",
            "use",
            "change",
        ):
            if about.get(label):
                console.result(f"{label + ':':18}{about[label]}")


def _list() -> None:
    rows = [(name, _summary(kind), kind.time, _marks(kind)) for name, kind in MECHANISMS.items()]
    columns = ["mechanism", "what it does", "time", "does not support"]
    console.document({"mechanisms": [dict(zip(columns, row, strict=True)) for row in rows]})
    if not console.json_mode():
        console.table(columns, rows)
        console.result(f"positions: {', '.join(name for name in POSITIONS)}")
        console.result("next: attn explain MECHANISM")


def _marks(kind: Any) -> str:
    return ", ".join(text for key, text in _SUPPORT.items() if not getattr(kind.support, key))


def _mechanism(name: str) -> dict[str, str]:
    kind = MECHANISMS[name]
    taken = inspect.signature(kind.__init__).parameters
    options = {key: taken[key].default for key in options_of(name)}
    return {
        "name": f"mechanism {name}",
        "text": _docs(kind),
        "time": f"{kind.time} for each head, T tokens, width D",
        "memory": f"{kind.memory} beside inputs and outputs",
        "options": ", ".join(f"model.attention.{key}={value}" for key, value in options.items()),
        "supports": ", ".join(text for key, text in _SUPPORT.items() if getattr(kind.support, key)),
        "does not support": _marks(kind),
        "backends": ", ".join(kind.support.backends) or "none: it computes itself",
        "use": kind.use,
        "change": f"attn pretrain {_trained(kind)} model.attention.mechanism={name}",
    }


def _trained(kind: Any) -> str:
    """A recipe that can train it."""
    return "gpt" if kind.support.causal else "bert"


def _position(name: str) -> dict[str, str]:
    kind = POSITIONS[name][0]
    return {
        "name": f"position {name}",
        "text": _docs(kind),
        "change": f"attn {_seen_by(kind)} model.attention.position={name}",
    }


def _seen_by(kind: Any) -> str:
    """A recipe whose tokens such positions are of."""
    return {2: "classify vit", 3: "classify video"}.get(getattr(kind, "axes", 1), "pretrain bert")


def _docs(kind: type) -> str:
    """What the module says of the idea and the class of its parts."""
    module = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
    return f"{module}\n\n{inspect.getdoc(kind) or ''}".replace("``", "").strip()


def _summary(kind: type) -> str:
    """The module's first sentence after its name."""
    first = _docs(kind).split("\n\n")[0].replace("\n", " ").rstrip(".")
    head, _, tail = first.partition(": ")
    return tail or head
