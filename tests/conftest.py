"""Shared by all tests."""

import os

import torch
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
# the same examples every time, and none too slow on a busy machine
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
