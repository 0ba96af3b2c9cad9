import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes that a glance tells apart: reddish and bluish noise."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4)):
        for channel, label in ((2, "blue"), (0, "red")):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (64, 64, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")
    return root


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
