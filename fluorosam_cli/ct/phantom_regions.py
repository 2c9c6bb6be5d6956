"""What parts of the body a phantom may be cut to; in a module of its own, as `fluoro --help` names them at once."""

REGIONS: dict[str, tuple[float, float]] = {  # z of the standing human, mm
    "head": (1395, 1665),
    "chest": (1060, 1425),
    "abdomen": (865, 1225),
    "pelvis": (690, 1000),
    "torso": (600, 1440),
    "legs": (-25, 880),
    "body": (-25, 2100),
}
DEFAULT_REGION = "torso"
