"""How good a segmentation is: plain functions on arrays."""
