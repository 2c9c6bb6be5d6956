"""A TotalSegmentator home folder whose networks are tiny and random, so that its real API runs offline in seconds.

What it segments is nonsense; that it is called rightly, and what comes back, is what tests can see.
"""

import json
from pathlib import Path

from fluorosam_cli.ct.segment import TASKS

FEATURES = (4, 8, 16)
PATCH = (32, 32, 32)
PLANS = "nnUNetPlans"
CONFIGURATION = "3d_fullres"
NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
LICENCE = "aca_12345678901234"  # of the right length, and nobody's


def build(home: Path, task: str = "total --fastest") -> None:
    """Write the weights of a key of `TASKS` into `home`, as nnU-Net v2 result folders."""
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    name, _, mode = task.partition(" --")
    config = TASK_CONFIGS[name]
    config = config["sub_modes"][mode or "default"] if "sub_modes" in config else config
    spacing = config["resample"]
    for dataset in TASKS[task].weights:
        folder = home / "nnunet" / "results" / dataset / f"{config['trainer']}__{PLANS}__{CONFIGURATION}"
        _write_network(folder, _labels(name, int(dataset[7:10])), spacing[0] if isinstance(spacing, list) else spacing)


def give_licence(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.json").write_text(json.dumps({"license_number": LICENCE, "send_usage_stats": True}))


def _labels(task: str, dataset: int) -> dict[str, int]:
    from totalsegmentator.map_to_binary import class_map, class_map_5_parts, map_taskid_to_partname_ct

    classes = dict(class_map[task])
    if dataset in map_taskid_to_partname_ct:
        classes = class_map_5_parts[map_taskid_to_partname_ct[dataset]]
    classes |= class_map.get(f"{task}_auxiliary", {})
    return {"background": 0, **{name: label_id for label_id, name in classes.items()}}


def _write_network(folder: Path, labels: dict[str, int], spacing_mm: float) -> None:
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    plans = _plans(folder.parent.name, spacing_mm)
    network = plans["configurations"][CONFIGURATION]["architecture"]
    torch.manual_seed(0)
    net = get_network_from_plans(
        NETWORK, network["arch_kwargs"], network["_kw_requires_import"], 1, len(labels), deep_supervision=True
    )
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": net.state_dict(),
        "init_args": {"plans": plans, "configuration": CONFIGURATION, "fold": 0, "dataset_json": dataset},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def _plans(dataset_name: str, spacing_mm: float) -> dict:
    stages = len(FEATURES)
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [64.0] * 3,
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities_kwargs": resampling,
        "batch_dice": False,
        "architecture": {
            "network_class_name": NETWORK,
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": list(FEATURES),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [1] * stages,
                "n_conv_per_stage_decoder": [1] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    intensities = {"mean": 50.0, "median": 40.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}
    return {
        "dataset_name": dataset_name,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": [64] * 3,
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {"min": -1024.0, "max": 3071.0, **intensities}},
    }
