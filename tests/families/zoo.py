"""One member of every family, the smallest, with random weights in which nothing is degenerate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantbench.network.plain.given import Output
from quantbench.network.sources.torchvision import SCORES, Scores

SIDE = 64  # pixels of an image, where a network takes it

CLASSES = 10


@dataclass(frozen=True)
class Member:
    """A network to look at.

    Attributes:
        source: where it comes from: torchvision or timm.
        family: what the source calls the family.
        name: the member's name there.
        side: pixels of its images; 0 lets it choose.
        output: which of its outputs is looked at; None for the only one.

    """

    source: str
    family: str
    name: str
    side: int = SIDE
    output: Output | None = None

    @property
    def label(self) -> str:
        """Its name in tables and on the command line."""
        return f"{self.source}/{self.name}"


def _torchvision() -> Iterator[Member]:
    plain = (
        "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet "
        "inception_v3 maxvit_t mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_x_400mf "
        "regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t "
        "swin_v2_t vgg11 vgg11_bn vit_b_32 wide_resnet50_2"
    )
    sides = {"inception_v3": 96, "maxvit_t": 224, "vit_b_32": 64, "alexnet": 96}
    for name in plain.split():
        yield Member("torchvision", name.split("_")[0], name, sides.get(name, SIDE))
    for name in ("deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"):
        yield Member("torchvision", name, name, SIDE, "out")
    for name in _DETECTORS:  # one takes no smaller images than its own
        yield Member("torchvision", name, name, 300 if name.startswith("ssd300") else 96, SCORES)


_DETECTORS = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)

_TIMM = """
byoanet eca_botnext26ts_256
byobnet test_byobnet
cait cait_xxs24_224
coat coat_tiny
convit convit_tiny
convmixer convmixer_768_32
convnext test_convnext
cpubone cpubone_nano
crossvit crossvit_tiny_240
cspnet cs3darknet_s
cspnext cspnext_tiny
davit davit_tiny
deit deit_tiny_patch16_224
densenet densenet121
dla dla46x_c
dpn dpn48b
edgenext edgenext_xx_small
efficientformer efficientformer_l1
efficientformer_v2 efficientformerv2_s0
efficientnet test_efficientnet
efficientvit_mit efficientvit_b0
efficientvit_msra efficientvit_m0
eva eva02_tiny_patch14_224
fasternet fasternet_t0
fastvit fastvit_t8
focalnet focalnet_tiny_srf
gcvit gcvit_xxtiny
ghostnet ghostnet_050
hardcorenas hardcorenas_b
hgnet hgnetv2_b0
hiera hiera_tiny_224
hrnet hrnet_w18_small
iformer iformer_t
inception_next inception_next_atto
inception_v3 inception_v3
lcnetv2 lcnetv2_small
levit levit_128s
lowformer lowformer_b0
mambaout test_mambaout
maxxvit test_maxvit
metaformer poolformer_s12
mlp_mixer gmlp_ti16_224
mobilenetv3 mobilenetv3_small_050
mobilevit mobilevit_xxs
mvitv2 mvitv2_tiny
nest nest_tiny
nextvit nextvit_small
nfnet test_nfnet
pit pit_ti_224
pvt_v2 pvt_v2_b0
rdnet rdnet_tiny
regnet regnetx_002
repghost repghostnet_050
repvit repvit_m0_9
res2net res2next50
resnest resnest14d
resnet test_resnet
resnetv2 resnetv2_18
rexnet rexnet_100
selecsls selecsls42
senet legacy_seresnet18
sequencer sequencer2d_s
shvit shvit_s1
sknet skresnet18
starnet starnet_s050
swiftformer swiftformer_xs
swin_transformer swin_tiny_patch4_window7_224
swin_transformer_v2 swinv2_tiny_window8_256
tiny_vit tiny_vit_5m_224
tnt tnt_s_patch16_224
tresnet tresnet_m
twins twins_svt_small
visformer visformer_tiny
vision_transformer test_vit
vision_transformer_hybrid vit_tiny_r_s16_p8_224
vision_transformer_relpos test_vit_relpos
volo volo_d1_224
vovnet ese_vovnet19b_dw
xception xception41
xcit xcit_nano_12_p8_224
"""


def _timm() -> Iterator[Member]:
    for line in _TIMM.split("\n"):
        if line:
            family, name = line.split()
            yield Member("timm", family, name)


MEMBERS = (*_torchvision(), *_timm())


def build(member: Member) -> tuple[nn.Module, int]:
    """The network, and the side of its images.

    Its own size where it takes no other.
    """
    torch.manual_seed(0)
    if member.source == "torchvision":
        from torchvision.models import get_model

        given = {"num_classes": CLASSES, "weights": None}
        if member.output:
            given["weights_backbone"] = None
        elif member.name.startswith("vit"):
            given["image_size"] = member.side
        elif member.name in ("googlenet", "inception_v3"):
            given |= {"init_weights": False}
        model = get_model(member.name, **given)
        return Scores(model) if member.output == SCORES else model, member.side
    import timm

    for more in ({"img_size": member.side}, {}):
        try:
            model = timm.create_model(member.name, num_classes=CLASSES, **more).eval()
            own: int = model.pretrained_cfg["input_size"][-1]
            fixed = model.pretrained_cfg.get("fixed_input_size") and not more
            side = own if fixed else member.side
            with torch.no_grad():
                model(torch.zeros(1, 3, side, side))
        except (TypeError, AssertionError, ValueError, RuntimeError):
            continue
        return model, side
    model = timm.create_model(member.name, num_classes=CLASSES)
    return model, model.pretrained_cfg["input_size"][-1]


def images(n: int, side: int, seed: int) -> Tensor:
    """Smooth noise (n, 3, side, side): images that differ in more than their pixels."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 4, 4, generator=rng)
    fine = torch.randn(n, 3, side, side, generator=rng)
    return nn.functional.interpolate(coarse, (side, side), mode="bilinear") + 0.5 * fine


@torch.no_grad()
def from_noise(model: nn.Module, side: int) -> nn.Module:
    """Weights that are all alike become random, then batch norms see noise."""
    rng = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        first = float(p.flatten()[0])
        if bool((p == first).all()):  # of a scale 1, and of a branch that starts switched off
            noise = torch.rand(p.shape, generator=rng)
            shift = name.endswith("bias")
            p.copy_(
                0.2 * noise - 0.1
                if shift
                else (first if first > 0.3 else 0.2) * (0.8 + 0.4 * noise)
            )
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms:
        was = [(m, m.momentum) for m in norms]
        model.eval()
        for m in norms:
            m.train()
            m.momentum = None
            m.reset_running_stats()
        model(images(8, side, 2))
        for m, momentum in was:
            m.momentum = momentum
            # few small images leave channels all but constant: no trained network is full of them
            m.running_var += 0.5 * m.running_var.mean()
    return model.eval()
