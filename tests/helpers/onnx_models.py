"""Small ONNX models: written node by node, or exported from torch without other packages."""

import io

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Mixed(nn.Module):
    """Strided, depthwise, grouped and dilated convolutions, an add, a concatenation, pools."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.left = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.right = nn.Conv2d(8, 6, 3, padding=1, groups=2)
        self.fc = nn.Linear(10, 5)

    def forward(self, x):
        y = F.relu(self.norm(self.stem(x)))
        z = F.relu(self.point(F.relu6(self.depthwise(y))) + y)
        z = F.max_pool2d(z, 2)
        both = torch.cat([F.relu(self.left(z)), F.relu(self.right(z))], 1)
        pooled = F.avg_pool2d(both, 2)
        return self.fc(F.adaptive_avg_pool2d(pooled, 1).flatten(1))


def seeded(make, seed=0):
    """A module with batch norm statistics that matter, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(std=0.2)
                m.running_var.uniform_(0.5, 2)
    return model.eval()


def images(n, size=16, seed=1):
    """(N, 3, size, size), neighbours alike, as in images."""
    rng = torch.Generator().manual_seed(seed)
    return F.avg_pool2d(torch.randn(n, 3, size + 2, size + 2, generator=rng), 3, 1) * 2


def export(model, path, sample, *, fixed=False, opset=17):
    """Write a module with torch's own exporter."""
    axes = {} if fixed else {"images": {0: "N"}, "logits": {0: "N"}}
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        sample[:1] if fixed else sample,
        buffer,
        dynamo=False,
        opset_version=opset,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes=axes,
    )
    path.write_bytes(buffer.getvalue())
    return path


def graph(nodes, stored, *, shape=("N", 3, 8, 8), out=("N", 4), opset=17, imports=()):
    """A model of nodes ``(type, inputs, outputs, attributes)`` from ``x`` to ``y``."""
    from onnx import TensorProto, helper, numpy_helper

    made = [
        helper.make_node(kind, ins, outs, name=f"{kind.lower()}_{i}", **attributes)
        for i, (kind, ins, outs, attributes) in enumerate(nodes)
    ]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        made,
        "test",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in imports)]
    model = helper.make_model(body, opset_imports=opsets)
    model.ir_version = 8
    return model
