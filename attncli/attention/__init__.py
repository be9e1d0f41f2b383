"""The attention core. Knows no recipe, no task and no modality.

A map of the room::

    module.py        Attention: projections around the core (self, cross, MHA to MQA, cache, positions)
    functional.py    attend: the core as a function of heads; explain_choice: which backend, and why
    table.py         the one table of mechanisms
    mechanisms/      how queries meet keys, a file each; base.py says what one is and can support
    backends/        how an exact mechanism is computed: reference (the definition), fused, chunked, flex
      choice.py      auto: what measures fastest on this machine; store.py keeps what was measured
    masks.py         masks as rules, composed with &: Causal, Padding, Documents, Window, Dense
    positions/       position schemes, a file each; __init__.py lists them, base.py says what one is
    cache.py         KeyValueCache: keys and values of the tokens so far
    images/          attention of pictures, a file each: gates of channels and places, axial, shifted windows
    recording.py     record: the weights of every attention in a forward pass
    heads.py         without_heads: a forward pass with some heads switched off

To add a mechanism: a file in mechanisms/, a line in table.py. If its weights are a softmax of products, it
only prepares queries and keys, and every backend computes it. The tests go over the table by themselves.
"""

from attncli.attention.backends.choice import choices, restore_choices, use_choices
from attncli.attention.cache import KeyValueCache
from attncli.attention.functional import attend, explain_choice
from attncli.attention.heads import Head, without_heads
from attncli.attention.masks import Causal, Dense, Documents, Mask, Padding, Window
from attncli.attention.module import Attention, new_caches
from attncli.attention.positions import POSITIONS, Bias, Position, build_position
from attncli.attention.recording import Recorded, record
from attncli.attention.table import MECHANISMS, build_mechanism

__all__ = [
    "MECHANISMS",
    "POSITIONS",
    "Attention",
    "Bias",
    "Causal",
    "Dense",
    "Documents",
    "Head",
    "KeyValueCache",
    "Mask",
    "Padding",
    "Position",
    "Recorded",
    "Window",
    "attend",
    "build_mechanism",
    "build_position",
    "choices",
    "explain_choice",
    "new_caches",
    "record",
    "restore_choices",
    "use_choices",
    "without_heads",
]
