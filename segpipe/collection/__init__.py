"""Collections: many images, each with a run folder of its own, and a table and a page of all.

A bad image is set aside with the reason, and the rest finishes. What an image's labels are does not
depend on the collection: they are those of a run of that image alone.
"""
