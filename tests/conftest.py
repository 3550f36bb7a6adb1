"""Settings of the whole suite: quick, repeatable property tests on one thread."""

import torch
from hypothesis import settings

settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("suite")
torch.set_num_threads(1)
