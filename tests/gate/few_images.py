"""The rendered test images, but few: what is run on them takes seconds."""

from quantbench.data import decoded
from quantbench.data.procedural import shapes
from quantbench.tasks.images import _images


def few_images(patch, cache, images):
    """Render so many test images, 512 at least, into a cache of their own; forget them after."""
    _images.cache_clear()
    patch.setitem(shapes.SPLITS, "test", (2, images))
    digest = decoded.content_digest(*shapes.render("test"))
    patch.setitem(shapes.DIGESTS, "test", digest)
    patch.setenv("QUANTBENCH_CACHE", str(cache))
