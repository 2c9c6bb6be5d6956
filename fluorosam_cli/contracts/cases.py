"""The contract of a case: one CT with its labels."""

from typing import Literal

from pydantic import Field

from fluorosam_cli.contracts.schema import Matrix4x4, Model, Sha256


class Segmenter(Model):
    name: str  # "TotalSegmentator", "imported"
    version: str
    task: str
    source_sha256: Sha256 | None = None  # of the imported labels (of several files: of their digests in order)


class CaseStructure(Model):
    label_id: int = Field(ge=1, le=65535)
    name: str
    snomed_ct: str | None
    volume_ml: float
    cut_by: list[Literal["superior", "inferior", "left", "right", "anterior", "posterior"]]  # borders of the scan


class Finding(Model):
    gate: Literal["structures", "volume", "side", "order", "fit"]
    structure: str | None
    text: str  # what a person has to look at


class CaseQuality(Model):
    suspicious: bool
    findings: list[Finding]
    body_ml: float  # denser than -400 HU
    table_ml: float  # of that density, outside the body and set to air
    metal_ml: float  # at 3000 HU or more: metal, or undiluted contrast medium


class Case(Model):
    format: Literal["fluoro.case/1"] = "fluoro.case/1"
    name: str
    ct: str = "ct.nii.gz"
    labels: str = "labels.nii.gz"
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    world_from_voxel: Matrix4x4  # LPS mm from voxel (x, y, z)
    source_sha256: Sha256
    ct_sha256: Sha256
    labels_sha256: Sha256
    segmenter: Segmenter
    structures: list[CaseStructure]
    quality: CaseQuality | None = None
