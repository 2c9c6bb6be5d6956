import torch

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.model.fluorosam import preset
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.text.encoder import load_text_encoder
from fluorosam_cli.training.words import train_words


def test_phrases_fall_on_their_structure_and_left_is_not_right():
    encoder = load_text_encoder()
    names = [n for n in lexicon() if n.startswith(("femur_", "humerus_", "kidney_", "rib_left_", "vertebrae_L"))]
    phrases = [(i, p) for i, name in enumerate(names) for p in lexicon()[name]]
    features = torch.from_numpy(encoder.encode([p.text for _, p in phrases]))
    structure = torch.tensor([i for i, _ in phrases])
    held_out = torch.tensor([p.split == "test" for _, p in phrases])
    torch.manual_seed(0)
    head = TextHead(preset("tiny", encoder.dim))
    scores = train_words(head, features, structure, held_out, steps=200)
    assert scores.train > 0.99
    assert scores.held_out is not None
    assert scores.held_out > 0.8
    ask = torch.from_numpy(encoder.encode(["left femur", "right femur", "LEFT FEMUR"]))
    codes = head.codes(head.mlp(ask)) % len(names)
    assert codes[0] != codes[1]
    assert codes[0] == codes[2] == names.index("femur_left")
