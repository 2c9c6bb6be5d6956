"""From cases to radiographs. Here stands what the command's help also says, which is to be had without NumPy."""

TERMS = ("scatter", "grid", "falloff", "heel", "collimation", "blur", "noise")  # of the physics, to be left out
MIN_PATH_MM = 1.0  # a structure shows where a ray runs through this much of it; below is the staircase of the voxels
RANDOM_SHARE = 0.4  # of the views, where none are named
