"""Every architecture in a small size, for 64 × 64 pixels and five classes."""

from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet

from vizlib.models.architectures.bam_resnet import BAMResNet
from vizlib.models.architectures.cbam_resnet import CBAMBasicBlock
from vizlib.models.architectures.cswin import CSWin
from vizlib.models.architectures.dynamic_vit import DynamicViT
from vizlib.models.architectures.efficient_vit import vit_bigbird, vit_exact, vit_linformer, vit_performer
from vizlib.models.architectures.hybrid_model import HybridModel
from vizlib.models.architectures.lv_vit import LVViT
from vizlib.models.architectures.mobilevit_v3 import MobileViTv3
from vizlib.models.architectures.t2t_vit import T2TViT

VIT = {"dim": 24, "depth": 2, "heads": 3, "image_size": 64, "num_classes": 5}
SMALL = {
    "cswin": lambda: CSWin(8, (1, 1, 1, 1), (2, 2, 2, 4), num_classes=5),
    "t2t_performer": lambda: T2TViT(16, 2, 2, 2.0, num_classes=5, image_size=64),
    "t2t_transformer": lambda: T2TViT(16, 2, 2, 2.0, "transformer", num_classes=5, image_size=64),
    "lv_vit": lambda: LVViT(24, 2, 3, num_classes=5, image_size=64),
    "dynamic_vit": lambda: DynamicViT(24, 4, 3, stages=(1, 2, 3), num_classes=5, image_size=64),
    "mobilevit_v3": lambda: MobileViTv3((8, 8, 12, 12, 16), (16, 16, 16), depths=(1, 1, 1), num_classes=5),
    "cbam_resnet": lambda: ResNet(CBAMBasicBlock, [1, 1, 1, 1], num_classes=5),
    "bam_resnet": lambda: BAMResNet(BasicBlock, [1, 1, 1, 1], num_classes=5),
    "hybrid": lambda: HybridModel(resnet18, 32, 2, 1, image_size=64, num_classes=5),
    "vit_exact": lambda: vit_exact(**VIT),
    "vit_linformer": lambda: vit_linformer(projected=8, **VIT),
    "vit_performer": lambda: vit_performer(features=16, **VIT),
    "vit_bigbird": lambda: vit_bigbird(random=2, **VIT),
}
FIXED = ("vit_linformer", "vit_bigbird")  # their papers fix the number of tokens
