"""A classifier as an ONNX file, which runs without PyTorch.

examples:
  vizlib export zoo/vit --out vit.onnx
  vizlib export zoo/resnet --batch 1 --out resnet.onnx

Input "image" (b, c, h, w), preprocessed; output "logits" (b, classes).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vizlib.commands import options
from vizlib.commands.inputs import how, loaded
from vizlib.show.files import writable


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="zoo/…, timm/…, torchvision/…, hf/… or arch/…")
    parser.add_argument("--out", type=Path, required=True, help="the file, which ends in .onnx")
    parser.add_argument("--batch", type=int, help="a fixed number of photographs; default: any")
    options.loading(parser)


def run(arguments: argparse.Namespace) -> int:
    out = writable(arguments.out, (".onnx",))
    from vizlib.models.export import to_onnx

    clf = loaded([arguments.model], how([arguments.model], arguments))[arguments.model]
    print(to_onnx(clf, out, batch=arguments.batch))
    return 0
