"""fluoro: language-promptable X-ray segmentation, from a folder of CTs to a mask."""

__version__ = "0.1.0"
