"""Small label volumes as NIfTI files for tests, with a table of names in the header or without."""

import nibabel
import numpy as np

from fluorosam_cli.ct.label_names import LabelsMap
from fluorosam_cli.ct.labels import LabelSource, read_labels
from fluorosam_cli.ct.volume import Volume

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (4, 5, 6)


def save(path, array, affine=AFFINE, table=None):
    image = nibabel.Nifti1Image(array, affine)
    if table:
        entries = "".join(f'<Label Key="{key}" Red="1"><![CDATA[{name}]]></Label>\n' for key, name in table.items())
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>'
            f"{entries}</LabelTable></VolumeInformation></CaretExtension>\n              "
        )
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def imported(path, ct: Volume, labels_map: LabelsMap | None = None) -> np.ndarray:
    """The ids of a label volume, (x, y, z) in the order it was saved in."""
    labels, notes = read_labels(LabelSource((path,), "label volume"), ct, labels_map)
    assert notes == []
    return labels.array.T[::-1, ::-1]
