"""Training: images with labels in, a model with its card and a report out.

The loop is written out in `loop`, in plain torch: it is one page, every step of it is a pure
function of seed and step number (which is what makes a resumed training equal to an uninterrupted
one, bit by bit), and a model file outlives any trainer's releases. A framework such as Lightning
would bring its own checkpoints (pickles), its own logs and a launcher beside Dask and Prefect, to
spare the thirty lines that a step, autocast and DistributedDataParallel take.
"""
