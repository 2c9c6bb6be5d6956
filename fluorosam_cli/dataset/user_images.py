"""A user's own images with masks: a folder `images/` + `masks/<id>/<structure>.png`, or a COCO JSON file.

Names are understood by the lexicon, so `lung_left` in a folder of radiographs means the left lung as radiologists
outline it. Images are only found here; whoever reads them passes their size on to `read_masks`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.dataset import coco
from fluorosam_cli.dataset.image_files import images_in, stem_of
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.text.phrases import is_name, resolve

IMAGES, MASKS = "images", "masks"
WITH_ALPHA = ("RGBA", "LA", "PA")


@dataclass(frozen=True)
class UserImage:
    """One image and where its masks are."""

    name: str
    path: Path
    masks: Mapping[str, Path | list[Any]]  # structure -> mask file, or segmentations as COCO writes them
    hw: tuple[int, int] | None = None  # its size, where the COCO file says so

    @cached_property
    def sha256(self) -> str:
        return sha256_of(self.path)


@dataclass(frozen=True)
class UserImages:
    images: list[UserImage]
    structures: list[str]  # those of which any image has a mask, sorted
    skipped: dict[str, int] = field(default_factory=dict)  # names that mean no structure -> how many masks have them
    problems: list[str] = field(default_factory=list)  # images without masks, masks without image

    @cached_property
    def sha256(self) -> str:
        """Over the contents of all images and masks and what they are called."""
        digest = hashlib.sha256()
        for item in self.images:
            digest.update(f"{item.name}\0{item.sha256}\n".encode())
            for structure, mask in item.masks.items():
                content = sha256_of(mask) if isinstance(mask, Path) else json.dumps(mask, sort_keys=True)
                digest.update(f"{structure}\0{content}\n".encode())
        return digest.hexdigest()


def is_user_data(path: Path) -> bool:
    """Whether this looks like a folder of images and masks or a COCO file."""
    return (path / IMAGES).is_dir() or (path.is_file() and path.suffix.lower() == ".json")


def find_user_images(path: Path) -> UserImages:
    """What is in a folder or in a COCO file, images sorted by name. Raises FluoroError when there is no image in it."""
    found = _from_coco(path) if path.is_file() else _from_folder(path)
    if not found.images:
        why = f"; unknown names: {', '.join(sorted(found.skipped))}" if found.skipped else ""
        why += f"; {found.problems[0]}" if found.problems else ""
        raise FluoroError(
            f"{path}: holds no image with a mask of a known structure{why}",
            f"put {IMAGES}/ID.png beside {MASKS}/ID/left_lung.png; fluoro describe --resolve tells what a name means",
        )
    return found


def structure_of(name: str) -> str | None:
    """What a mask's name means: what the lexicon makes of the words, else the structure of that very name."""
    words = name.replace("_", " ").strip()
    return resolve(words) or (name if is_name(name) else None)


def read_masks(image: UserImage, shape: tuple[int, int]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The masks (H, W) bool of an image of this shape, and for each that cannot be used what is wrong with it."""
    masks, problems = {}, []
    if image.hw not in (None, shape):
        return {}, [f"{image.path.name}: is {shape[1]}x{shape[0]}, the COCO file says {image.hw[1]}x{image.hw[0]}"]
    for structure, source in image.masks.items():
        try:
            mask = _read_png(source) if isinstance(source, Path) else _decoded(source, shape)
            if mask.shape != shape:
                found, wanted = (f"{width}x{height}" for height, width in (mask.shape, shape))
                raise ValueError(f"is {found}, its image {wanted}")
            if mask.all():
                raise ValueError("covers the whole image, as no structure does")
            masks[structure] = mask
        except (OSError, ValueError, TypeError, KeyError, IndexError, SyntaxError) as error:
            where = f"{source.parent.name}/{source.name}" if isinstance(source, Path) else f"{image.name}: {structure}"
            problems.append(f"{where}: {_told(error)}")
    return masks, problems


# --- a folder ---------------------------------------------------------------------------------------------------------


def _from_folder(root: Path) -> UserImages:
    files: dict[str, Path] = {}
    for path in images_in(root / IMAGES):
        name = stem_of(path)
        if name in files:
            raise FluoroError(
                f"{root / IMAGES}: {files[name].name} and {path.name} are both {name}, whose masks are they?",
                "rename one of them, or take it away",
            )
        files[name] = path
    folders = {p.name: p for p in sorted((root / MASKS).glob("*")) if p.is_dir()}
    skipped: Counter[str] = Counter()
    problems = [f"{MASKS}/{name}: no image of that name in {IMAGES}/" for name in folders.keys() - files.keys()]
    images = []
    for name, path in files.items():
        masks: dict[str, Path | list[Any]] = {}
        given = [p for p in sorted(folders[name].iterdir()) if p.name[0] != "."] if name in folders else []
        for file in given:
            structure = structure_of(file.stem)
            if file.suffix.lower() != ".png":
                problems.append(f"{MASKS}/{name}/{file.name}: is no PNG, as masks have to be")
            elif structure is None:
                skipped[file.stem] += 1
            elif structure in masks:
                problems.append(f"{name}/{file.name}: names {structure}, as another mask of this image does")
            else:
                masks[structure] = file
        if not given:
            problems.append(f"{IMAGES}/{path.name}: no masks in {MASKS}/{name}/")
        elif masks:
            images.append(UserImage(name, path, masks))
    return _gathered(images, skipped, sorted(problems))


def _read_png(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode in WITH_ALPHA:
                array = _without_alpha(picture.convert("RGBA"))
            else:
                array = _grey_palette(picture) if picture.mode == "P" else np.asarray(picture)
    except UnidentifiedImageError:
        raise ValueError("not a readable image") from None
    if array.ndim == 3:
        array = array[..., :3]
        if (array != array[..., :1]).any():
            raise ValueError("not binary: it is coloured")
        array = array[..., 0]
    values = np.unique(array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise ValueError(f"not binary: it holds {len(values)} values from {values[0]} to {values[-1]}")
    return array != 0


def _grey_palette(picture: Any) -> np.ndarray:
    """What a palette of greys means (H, W, 3); of a coloured one its numbers (H, W), of which 0 is the ground."""
    colours = np.asarray(picture.convert("RGB"))
    return colours if (colours == colours[..., :1]).all() else np.asarray(picture)


def _without_alpha(picture: Any) -> np.ndarray:
    """RGBA -> (H, W, 3): what is not transparent; of one colour throughout, the transparency itself is the mask."""
    colour, alpha = np.split(np.asarray(picture), [3], axis=2)
    return np.repeat(alpha, 3, axis=2) if (colour == colour[:1, :1]).all() else np.where(alpha > 0, colour, 0)


# --- COCO -------------------------------------------------------------------------------------------------------------


def _from_coco(path: Path) -> UserImages:
    try:
        data = json.loads(path.read_bytes())
        names = {number: str(entry["name"]) for number, entry in _by_id(data["categories"])}
        meanings = {number: structure_of(name) for number, name in names.items()}
        entries = {number: _relative(entry["file_name"]) for number, entry in _by_id(data["images"])}
        sizes = {
            number: (int(entry["height"]), int(entry["width"]))
            for number, entry in _by_id(data["images"])
            if entry.get("height") and entry.get("width")
        }
        annotations = [(int(a["image_id"]), int(a["category_id"]), a.get("segmentation")) for a in data["annotations"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FluoroError(
            f"{path}: not a COCO file ({_told(error)})", "images, categories, annotations are needed"
        ) from error
    skipped: Counter[str] = Counter()
    problems = []
    masks: dict[int, dict[str, Path | list[Any]]] = {number: {} for number in entries}
    for image, category, segmentation in annotations:
        name, structure = names.get(category), meanings.get(category)
        if image not in entries or name is None:
            problems.append(f"an annotation refers to image {image}, category {category}: not both are listed")
        elif structure is None:
            skipped[name] += 1
        elif not segmentation:
            problems.append(f"{entries[image]}: {name}: has no segmentation")
        else:
            parts = masks[image].setdefault(structure, [])
            assert isinstance(parts, list)
            parts.append(segmentation)
    annotated = {image for image, _, _ in annotations}
    images, taken = [], set()
    for number, file in sorted(entries.items(), key=lambda item: (item[1], item[0])):
        found = _image_of(path.parent, file)
        if found is None:
            problems.append(f"{file}: no such image beside the COCO file")
        elif found in taken:
            problems.append(f"{file}: is listed twice; the masks of image {number} are left out")
        elif masks[number]:
            taken.add(found)
            images.append(UserImage(str(file.parent / stem_of(file)), found, masks[number], sizes.get(number)))
        elif number not in annotated:
            problems.append(f"{file}: has no annotations")
    return _gathered(images, skipped, problems)


def _by_id(entries: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    numbers = [int(entry["id"]) for entry in entries]
    if twice := [number for number, count in Counter(numbers).items() if count > 1]:
        raise ValueError(f"id {twice[0]} is given twice")
    return list(zip(numbers, entries, strict=True))


def _relative(name: str) -> PurePosixPath:
    """A file's name with either slash; of one that leads elsewhere, on the machine of its export, the last part."""
    path = PureWindowsPath(str(name))
    return PurePosixPath(path.name) if path.anchor or ".." in path.parts else PurePosixPath(*path.parts)


def _image_of(folder: Path, relative: PurePosixPath) -> Path | None:
    """The file beside the JSON, in `images/` beside it or beside its folder; never one elsewhere."""
    places = (folder, folder / IMAGES, folder.parent, folder.parent / IMAGES)
    return next((place / relative for place in places if (place / relative).is_file()), None)


def _decoded(segmentations: list[Any], shape: tuple[int, int]) -> np.ndarray:
    """The union of polygons and run lengths, which an object in pieces has several of."""
    found = np.zeros(shape, np.uint8)
    for one in segmentations:
        found |= coco.decode(one, shape)
    return found > 0


def _gathered(images: list[UserImage], skipped: Counter[str], problems: list[str]) -> UserImages:
    return UserImages(
        images, sorted({s for image in images for s in image.masks}), dict(sorted(skipped.items())), problems
    )


def _told(error: Exception) -> str:
    return (
        f"{error} is missing"
        if isinstance(error, KeyError)
        else str(error).strip().splitlines()[0]
        if str(error)
        else type(error).__name__
    )
