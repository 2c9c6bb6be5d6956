"""Users' own images with masks, as `fluoro pack` reads them: real X-rays to fine-tune on."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fluorosam_cli.dataset.image_files import stem_of
from fluorosam_cli.dataset.pictures import Annotation, Picture, Source, to_16_bits
from fluorosam_cli.dataset.user_images import UserImage, UserImages, find_user_images, read_masks
from fluorosam_cli.errors import FluoroError

ReadImage = Callable[[Path], tuple[np.ndarray, float]]  # (H, W) numbers with bone bright; pixel spacing in mm or NaN


@dataclass
class Patients:
    """Which images are of one person: a table by the images' names, with their ending or without."""

    of_image: dict[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def case_of(self, image: UserImage) -> str:
        """The patient's name, or the image's own where the table does not list it."""
        suffix = image.path.name[len(stem_of(image.path)) :]
        name = next((name for name in (image.name, image.name + suffix) if name in self.of_image), None)
        if name is None:
            return image.name
        self.met.add(name)
        return self.of_image[name]

    @property
    def unmet(self) -> list[str]:
        return sorted(self.of_image.keys() - self.met)


def find_annotated(path: Path, read_image: ReadImage, patients: Patients) -> Source:
    """A folder `images/`, `masks/<id>/<structure>.png`, or a COCO file. An image is a case of its own, or a patient's;
    so are its copies, whatever they are called.

    A structure with an empty mask is absent. One without a mask is unknown: nobody may have looked for it.
    """
    found = find_user_images(path)
    unknown = [f"{path}: {name} names no structure ({count} masks)" for name, count in found.skipped.items()]
    cases = [patients.case_of(image) for image in found.images]
    digests: dict[str, list[str]] = defaultdict(list)
    for case, image in zip(cases, found.images, strict=True):
        digests[case].append(image.sha256)
    return Source(
        path=path,
        cases=cases,
        names=frozenset(found.structures),
        read=partial(_read, found, read_image),
        headers=[path] if path.is_file() else [],
        content_sha256=lambda: found.sha256,
        case_sha256=digests,
        problems=[*unknown, *(f"{path}: {problem}" for problem in found.problems)],
    )


def read_patients(path: Path | None) -> Patients:
    """From a CSV file with the columns image and patient; empty without a file."""
    if path is None:
        return Patients()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [(r["image"].strip(), r["patient"].strip()) for r in csv.DictReader(file) if r["patient"].strip()]
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, TypeError, csv.Error) as error:
        raise FluoroError(
            f"{path}: no table of images and patients", "give a CSV file, first line image,patient"
        ) from error
    found = dict(rows)
    for image, patient in rows:
        if found[image] != patient:
            raise FluoroError(f"{path}: {image} is of {patient} and of {found[image]}", "list an image once")
    return Patients(found)


def _read(found: UserImages, read_image: ReadImage, number: int) -> Picture:
    image = found.images[number]
    pixels, spacing = read_image(image.path)
    masks = _masks(image, (pixels.shape[0], pixels.shape[1]))
    return Picture(
        image=to_16_bits(pixels),
        view=image.name,
        masks=_annotations(masks),
        absent=[name for name, mask in masks.items() if not mask.any()],
        pixel_spacing_mm=spacing,
    )


def _masks(image: UserImage, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    masks, problems = read_masks(image, shape)
    if problems:
        raise FluoroError(f"{image.path}: {problems[0]}", "mend the mask, or remove it")
    return masks


def _annotations(masks: Mapping[str, np.ndarray]) -> Iterable[Annotation]:
    return (Annotation(name, mask) for name, mask in masks.items())
