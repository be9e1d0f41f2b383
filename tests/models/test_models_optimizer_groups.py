"""Which weights Muon may take: the matrices of the blocks, never embeddings or output layers."""

import pytest

from attncli.models.build import language_model
from attncli.recipe.pretrain import LanguageModel
from attncli.training.task import hidden_matrices


@pytest.mark.parametrize("family", ["bert", "albert", "gpt", "modernbert"])
@pytest.mark.parametrize("tied", [True, False])
def test_heads_and_embeddings_are_left_to_adamw(family, tied):
    section = LanguageModel(family=family, size="tiny", embedding_width=32, tie_embeddings=tied)
    model = language_model(section, vocabulary=50, pad_id=0, pair=family == "bert")
    taken = {id(p) for p in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in taken}
    assert any("qkv" in name for name in names)
    assert any("feed_forward" in name for name in names)
    assert not [
        name for name in names if name.split(".")[0] in ("decoder", "pair", "narrow") or "embedding" in name
    ]
