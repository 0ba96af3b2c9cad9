"""A classifier from a dual encoder (CLIP, ALIGN, SigLIP …): the classes are texts, encoded once.

Source: Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020,
section 3.1.4; Jia et al. 2021 (ALIGN), arXiv 2102.05918.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROMPT = "a photo of a {}."


class ZeroShot(nn.Module):
    """Photographs to logits over given label texts: scale · cos(image, text) + bias.

    Takes the dual encoder over and drops its text tower, which has done its work; module paths are the encoder's own,
    under `model`.
    """

    texts: Tensor

    def __init__(self, model: nn.Module, texts: Tensor) -> None:
        """
        Args:
            model: of transformers' zero-shot image classification models.
            texts: (classes, d) embeddings of the label texts.
        """
        super().__init__()
        self.model: Any = model
        self.model.text_model = nn.Identity()
        self.register_buffer("texts", F.normalize(texts.detach(), dim=-1))
        self.num_classes = len(texts)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(b, c, h, w) to logits (b, classes)."""
        images = _embedding(self.model.get_image_features(pixel_values=pixel_values))
        cosines = F.normalize(images, dim=-1) @ self.texts.T
        if hasattr(self.model, "temperature"):  # ALIGN
            return cosines / self.model.temperature
        return cosines * self.model.logit_scale.exp() + getattr(self.model, "logit_bias", 0)


def zero_shot(model: Any, tokenizer: Any, labels: Sequence[str], prompt: str = PROMPT) -> ZeroShot:
    """A zero-shot classifier over the labels.

    Args:
        model: a dual encoder of transformers, with `get_image_features` and `get_text_features`.
        tokenizer: its tokenizer.
        labels: class names; underscores are read as spaces.
        prompt: the sentence a name is put into, "{}" in its place.
    """
    sentences = [prompt.format(label.replace("_", " ")) for label in labels]
    longest = getattr(tokenizer, "model_max_length", 0)
    # SigLIP was trained on texts padded to full length; CLIP and ALIGN do not mind, but a fast tokenizer of an unknown
    # length gives an absurd one
    fixed = {"padding": "max_length", "truncation": True} if longest < 1024 else {"padding": True}
    tokens = tokenizer(sentences, return_tensors="pt", **fixed)
    training = model.training
    with torch.no_grad():
        texts = _embedding(model.eval().get_text_features(**tokens))
    model.train(training)
    return ZeroShot(model, texts)


def _embedding(features: Any) -> Tensor:
    """Transformers 5 returns a whole output, earlier ones the tensor."""
    return features if isinstance(features, Tensor) else features.pooler_output
