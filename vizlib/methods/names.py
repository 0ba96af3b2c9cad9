"""The names of the rows of METHODS, for who must know a name before torch is imported: the command line."""

from __future__ import annotations

import difflib

NAMES = (
    "gradcam", "gradcam++", "hirescam", "gradcam_elementwise", "layercam", "xgradcam", "eigencam", "eigengradcam",
    "cam", "scorecam", "ablationcam", "saliency", "input_x_gradient", "integrated_gradients", "smoothgrad",
    "occlusion", "gradientshap", "rollout", "gradient_rollout", "chefer", "attention",
)  # fmt: skip
AUTO = "auto"


def must_be_known(name: str) -> None:
    """Raises ValueError where no method has this name; the message names near ones."""
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, 3, 0.4)
        hint = f"Near ones: {', '.join(near)}." if near else f"There are: {', '.join(NAMES)}."
        raise ValueError(f"a method is needed; got {name!r}. {hint}")
