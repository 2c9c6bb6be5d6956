import numpy as np

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.anatomy.wording import normalised
from fluorosam_cli.text.phrases import resolve
from fluorosam_cli.text.strangers import FRAMES, Strangers, nonsense


def words(texts):
    return {word for text in texts for word in normalised(text).split()}


def test_nonsense_names_nothing_and_has_each_phrase_once():
    texts = [text for found in nonsense().values() for text in found]
    assert len(set(texts)) == len(texts) > 120
    assert [text for text in texts if resolve(text)] == []
    assert all(text.startswith(("left ", "right ")) for text in nonsense()["with a side"])


def test_no_word_that_measures_or_that_is_known_is_taught():
    known = [phrase.text for phrases in lexicon().values() for phrase in phrases]
    drawn = words(Strangers(known).draw(3000, np.random.default_rng(0)))
    frames = words(frame.replace("{", " ").replace("}", " ") for frame in FRAMES) | {"left", "right", "first", "third"}
    taken = words(known) | words(text for texts in nonsense().values() for text in texts)
    long = {word for word in drawn if len(word) > 3}
    assert long & taken <= frames | {"seventh", "5th"}
    assert len(drawn) > 2000


def test_the_same_seed_draws_the_same():
    one, two = (Strangers(["left femur"]).draw(20, np.random.default_rng(7)) for _ in range(2))
    assert one == two
