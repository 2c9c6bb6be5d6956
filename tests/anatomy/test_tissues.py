from collections import Counter

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.anatomy.tissues import tissues, tissues_with


def test_each_label_is_in_exactly_one_tissue():
    shares = Counter(label_id for label_ids in tissues().values() for label_id in label_ids)
    assert dict(shares) == {item.label_id: 1 for item in structures()}
    assert 24 <= len(tissues()) <= 32


def test_bone_and_gas_are_not_mixed_with_soft_tissue():
    material = {item.label_id: item.material for item in structures()}
    for name, label_ids in tissues().items():
        assert len({material[label_id] for label_id in label_ids}) == 1, name


def test_a_case_has_the_tissues_of_its_labels():
    assert tissues_with([5, 51, 10]) == [(name, tissues()[name]) for name in ("lung_left", "heart", "liver")]
    assert tissues_with([]) == []
