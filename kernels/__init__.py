"""The projector's kernels: one NVIDIA Warp source, compiled for CPU and for CUDA.

Called by `render/projector.py` and, those of meshes, by `render/tools.py`.

The folder stands at the top of the source tree and is installed as `fluorosam_cli.kernels`.
"""

ROW_OFFSET = 1024  # row of the material table = value of the voxel + ROW_OFFSET
