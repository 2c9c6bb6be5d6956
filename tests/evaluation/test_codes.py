"""Which structures the report's map of codes shows."""

from fluorosam_cli.evaluation import codes
from fluorosam_cli.prediction.predictor import Predictor


def test_the_map_has_the_structures_asked_for_most(monkeypatch):
    monkeypatch.setattr(codes, "STRUCTURES_MAX", 2)
    words = {"brain": ["brain"], "heart": ["heart", "cor"], "liver": ["liver"], "spleen": []}
    found = codes.code_map(Predictor.from_checkpoint("builtin"), words, ["liver", "brain", "heart", "heart", "liver"])
    assert found is not None
    assert found.structures == ["heart", "liver"]
    assert found.phrases == 3
    assert found.shares.shape[0] == 2
    assert (found.shares.sum(axis=1) == 1).all()
