"""The files between the stages keep their meaning: schemas against golden files, round trips, versions.

`python tests/test_contracts.py --write` writes the golden files again. Do that only for a change that old readers
survive; otherwise raise the number in the model's `format` as well.
"""

import json
import sys
from pathlib import Path

import pytest

from fluorosam_cli.artefacts import read_header, write_json
from fluorosam_cli.commands.info import FORMATS
from fluorosam_cli.contracts import ARTEFACTS, Description, Model, ModelConfig, View
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.poses import Poses

GOLDEN = Path(__file__).parent / "golden"
MODELS: dict[str, type[Model]] = {
    **{name.removesuffix(".json"): model for name, model in ARTEFACTS.items()},
    "views-line": View,
    "descriptions-line": Description,
    "poses": Poses,
}

SHA = "0" * 64
IDENTITY3 = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
IDENTITY4 = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
RLE = {"size": [4, 4], "counts": "04L0"}
ESTIMATE = {"mean": 0.5, "ci95_low": 0.4, "ci95_high": 0.6, "count": 3}
MASK_SCORES = {"masks": 3, "iou": ESTIMATE, "dice": ESTIMATE, "nsd": None, "hd95": None}
EVALUATED_MODEL = {"kind": "fluoro", "name": "small, step 9", "sha256": SHA, "takes": ["text", "points"]}
EVALUATED_DATA = {"kind": "shards", "sha256": SHA, "split": "test", "images": 1, "cases": 1, "images_held": 2}
MODEL_NUMBERS = {name: 8 for name, field in ModelConfig.model_fields.items() if field.annotation is int}

MINIMAL: dict[str, dict] = {
    "case": {
        "name": "a",
        "shape_zyx": [2, 3, 4],
        "spacing_zyx_mm": [1, 1, 2.5],
        "world_from_voxel": IDENTITY4,
        "source_sha256": SHA,
        "ct_sha256": SHA,
        "labels_sha256": SHA,
        "segmenter": {"name": "imported", "version": "0.1.0", "task": "label volume"},
        "structures": [
            {"label_id": 1, "name": "spleen", "snomed_ct": "78961009", "volume_ml": 1.5, "cut_by": ["superior"]}
        ],
    },
    "poses": {"poses": [{"intrinsic": IDENTITY3, "camera_from_world": IDENTITY4, "width": 4, "height": 4}]},
    "views": {
        "count": 1,
        "seed": 0,
        "polarity": "bone_bright",
        "projector": {
            "name": "siddon",
            "version": "1",
            "interpolation": "siddon",
            "min_path_mm": 1,
            "materials": ["water"],
        },
        "cases": [{"name": "a", "case_sha256": SHA, "views": 1}],
    },
    "views-line": {
        "case": "a",
        "index": 0,
        "image": "a/0000.png",
        "width": 4,
        "height": 4,
        "view": "pa",
        "seed": [0, 0, 0],
        "positioner_primary_angle_deg": 0,
        "positioner_secondary_angle_deg": 0,
        "source_to_detector_mm": 1800,
        "source_to_isocenter_mm": 1600,
        "pixel_spacing_mm": 0.8,
        "intrinsic": IDENTITY3,
        "camera_from_world": IDENTITY4,
        "kvp": 120,
        "mas": 2,
        "filtration_mm_al": 2.5,
        "structures": [
            {
                "name": "spleen",
                "kind": "structure",
                "rle": RLE,
                "box_xyxy": [0, 0, 4, 4],
                "area_px": 16,
                "truncated": ["scan"],
            }
        ],
    },
    "descriptions": {"count": 1, "names": 1, "seed": 0},
    "descriptions-line": {
        "name": "spleen",
        "text": "the spleen",
        "kind": "phrase",
        "split": "train",
        "source": "lexicon",
    },
    "shards": {
        "size_px": 64,
        "polarity": "bone_bright",
        "structures": ["spleen"],
        "cases": {"a": "train"},
        "phrases": [{"structure": "spleen", "text": "the spleen", "split": "train"}],
        "shards": [{"file": "train-00000.h5", "split": "train", "images": 1, "masks": 1, "sha256": SHA}],
    },
    "checkpoint": {
        "model": {"preset": "tiny", "backbone": "vit", "text_map": True, **MODEL_NUMBERS},
        "text_encoder": {"name": "minilm", "revision": "0.1.0", "dim": 384},
        "weights_sha256": SHA,
        "step": 1,
        "seed": 0,
        "structures": ["spleen"],
        "shards_sha256": SHA,
        "metrics": {"iou": 0.5},
    },
    "words": {
        "text_encoder": {"name": "minilm", "revision": "0.1.0", "dim": 384},
        "weights_sha256": SHA,
        "names": ["spleen"],
        "scores": {"words_train_accuracy": 1.0},
    },
    "metrics": {
        "model": EVALUATED_MODEL,
        "data": EVALUATED_DATA,
        "phrases": "test",
        "bootstrap_over": "cases",
        "surface_unit": "mm",
        "nsd_tolerance": 2,
        "prompts": [{"prompt": "text", "over_structures": MASK_SCORES, "over_samples": MASK_SCORES, "oracle_iou": 0.6}],
        "structures": [{"structure": "spleen", "prompt": "text", "mean_area_px": 10, "scores": MASK_SCORES}],
        "parts": [{"of": "region", "name": "abdomen", "prompt": "text", "scores": MASK_SCORES}],
        "clicks_needed": [{"start": "points", "goal_iou": 0.9, "cap": 20, "clicks": ESTIMATE, "failed": 0.5}],
        "presence": None,
        "paraphrases": None,
        "largest_ten_text_iou": 0.5,
    },
    "comparison": {
        "a": EVALUATED_MODEL,
        "b": EVALUATED_MODEL,
        "data": EVALUATED_DATA,
        "bootstrap_over": "cases",
        "prompts": [{"prompt": "text", "metric": "iou", "masks": 3, "a": 0.4, "b": 0.5, "difference": ESTIMATE}],
        "structures": {},
        "only_a": 0,
        "only_b": 0,
    },
    "prediction": {
        "image": "a.png",
        "image_sha256": SHA,
        "width": 4,
        "height": 4,
        "checkpoint_sha256": SHA,
        "prompts": [{"text": "spleen", "points_xy": [[1, 2]], "point_labels": [1], "box_xyxy": None}],
        "masks": [
            {
                "prompt": 0,
                "structure": "spleen",
                "mask": "0.png",
                "score": 0.9,
                "presence": 0.8,
                "rle": RLE,
                "box_xyxy": None,
                "area_px": 0,
            }
        ],
    },
    "prompts": {"prompts": [{"text": "left femur"}, {"points_xy": [[1, 2]], "point_labels": [0]}]},
    "onnx": {
        "checkpoint_sha256": SHA,
        "image_size_px": 192,
        "mask_input_px": 96,
        "logits_px": 96,
        "text_encoder": {"name": "minilm", "revision": "1", "dim": 8},
        "tokens": "tokens.f32",
        "token_dim": 128,
        "phrases": [{"text": "left femur", "structure": "femur_left", "row": 0}],
        **{
            name: {
                "file": f"{name}.onnx",
                "sha256": SHA,
                "inputs": [{"name": "image", "type": "float32", "shape": ["n", 192]}],
                "outputs": [],
            }
            for name in ("encoder", "decoder")
        },
    },
    "run": {
        "stage": "render",
        "status": "done",
        "argv": ["render", "ct"],
        "versions": {"python": "3.11"},
        "commit": None,
        "device": "cpu",
        "seed": 0,
        "config": {"views": 2},
        "inputs_sha256": {"a/case.json": SHA},
        "done": 1,
        "skipped": 0,
        "failed": [],
        "seconds": 1.5,
    },
}


def schema_text(model: type[Model]) -> str:
    return json.dumps(without_prose(model.model_json_schema(mode="serialization")), indent=1) + "\n"


def without_prose(schema):
    """The schema without docstrings and titles, which may change freely."""
    if isinstance(schema, list):
        return [without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    prose = {key for key in ("description", "title") if isinstance(schema.get(key), str)}
    return {key: without_prose(value) for key, value in schema.items() if key not in prose}


def minimal(name: str) -> Model:
    return MODELS[name].model_validate_json(json.dumps(MINIMAL[name]))


def test_every_model_has_a_golden_file_and_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_is_the_golden_one(name):
    golden = (GOLDEN / f"{name}.json").read_text()
    assert json.loads(schema_text(MODELS[name])) == json.loads(golden), (
        "the contract changed: raise the number in `format`, then python tests/test_contracts.py --write"
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_record_survives_writing_and_reading(name):
    record = minimal(name)
    assert MODELS[name].model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("name", MODELS)
def test_a_field_it_does_not_know_is_refused(name):
    with pytest.raises(ValueError, match="colour"):
        MODELS[name].model_validate_json(json.dumps({**MINIMAL[name], "colour": "red"}))


@pytest.mark.parametrize("name", MODELS)
def test_a_field_that_is_missing_is_refused(name):
    field = next(iter(MINIMAL[name]))
    rest = {key: value for key, value in MINIMAL[name].items() if key != field}
    with pytest.raises(ValueError, match=field):
        MODELS[name].model_validate_json(json.dumps(rest))


@pytest.mark.parametrize("file", ARTEFACTS)
def test_the_format_comes_first_and_a_header_is_read_back(tmp_path, file):
    record = minimal(file.removesuffix(".json"))
    write_json(tmp_path / file, record)
    assert next(iter(json.loads((tmp_path / file).read_text()))) == "format"
    assert read_header(tmp_path / file, ARTEFACTS[file]) == record


@pytest.mark.parametrize("file", ARTEFACTS)
def test_a_newer_format_is_named_before_its_fields_are_looked_at(tmp_path, file):
    known = str(ARTEFACTS[file].model_fields["format"].default)
    (tmp_path / file).write_text(json.dumps({"format": known.replace("/1", "/9"), "unheard_of": 1}))
    with pytest.raises(FluoroError) as caught:
        read_header(tmp_path / file, ARTEFACTS[file])
    assert f"'{known.replace('/1', '/9')}', this version reads '{known}'" in caught.value.problem
    assert "version" in caught.value.hint


def test_another_artefact_is_refused(tmp_path):
    write_json(tmp_path / "case.json", minimal("views"))
    with pytest.raises(FluoroError, match=r"fluoro.views/1.*fluoro.case/1"):
        read_header(tmp_path / "case.json", ARTEFACTS["case.json"])


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"format": 3}', '{"format": "fluoro.case/1"}', "\xff"])
def test_a_damaged_header_is_an_error_in_words(tmp_path, text):
    (tmp_path / "case.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FluoroError) as caught:
        read_header(tmp_path / "case.json", ARTEFACTS["case.json"])
    assert "case.json" in caught.value.problem
    assert "\n" not in caught.value.problem
    assert caught.value.hint


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        MODELS["run"].model_validate({**MINIMAL["run"], "seconds": float("nan")})


def test_info_lists_the_formats_of_the_contracts():
    listed = {file: name for name, file, *_ in FORMATS if name.startswith("fluoro.")}
    known = ARTEFACTS | {"poses.json": Poses}
    assert listed == {file: model.model_fields["format"].default for file, model in known.items()}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_contracts.py --write")
    for name, model in MODELS.items():
        (GOLDEN / f"{name}.json").write_text(schema_text(model))
