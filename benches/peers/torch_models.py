"""The same networks and optimiser in PyTorch: what `final.safetensors` loads into, and what we compare with.

Names, shapes and order of parameters are those of fishmask's weight files. `python torch_models.py` checks
the parameter counts at width 64.
"""
import torch
import torch.nn.functional as F
from torch import nn

PARAMETERS_AT_64 = {"resnet9": 6_573_120, "resnet18": 11_173_962, "resnet34": 21_282_122}
STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
CLASSES = 10


class ResNet9(nn.Module):
    """cifar10-fast's DAWNBench network: eight conv-BN-ReLU blocks, two of the stages with a residual."""

    def __init__(self, width=64):
        super().__init__()
        w = width
        for name, c, k in [
            ("prep", 3, w),
            ("layer1", w, 2 * w),
            ("layer1_residual_res1", 2 * w, 2 * w),
            ("layer1_residual_res2", 2 * w, 2 * w),
            ("layer2", 2 * w, 4 * w),
            ("layer3", 4 * w, 8 * w),
            ("layer3_residual_res1", 8 * w, 8 * w),
            ("layer3_residual_res2", 8 * w, 8 * w),
        ]:
            # PyTorch's own initial weights are U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as specified.
            self.add_module(f"{name}_conv", nn.Conv2d(c, k, 3, padding=1, bias=False))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(k))
        self.linear = nn.Linear(8 * w, CLASSES, bias=False)

    def block(self, name, x):
        conv, bn = getattr(self, f"{name}_conv"), getattr(self, f"{name}_bn")
        return F.relu(bn(conv(x)))

    def residual(self, name, x):
        return x + self.block(f"{name}_res2", self.block(f"{name}_res1", x))

    def forward(self, x):  # (N, 3, 32, 32) -> (N, 10)
        x = self.block("prep", x)
        x = self.residual("layer1_residual", F.max_pool2d(self.block("layer1", x), 2))
        x = F.max_pool2d(self.block("layer2", x), 2)
        x = self.residual("layer3_residual", F.max_pool2d(self.block("layer3", x), 2))
        return self.linear(F.max_pool2d(x, 4).flatten(1)) * 0.125


class BasicBlock(nn.Module):
    """torchvision's basic block, with its names."""

    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv2 = nn.Conv2d(k, k, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(k)
        self.downsample = None
        if stride != 1 or c != k:
            self.downsample = nn.Sequential(nn.Conv2d(c, k, 1, stride=stride, bias=False), nn.BatchNorm2d(k))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    """torchvision's ResNet of basic blocks; only the stem's convolution differs: 3x3, stride 1."""

    def __init__(self, blocks, width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        c = width
        for i, count in enumerate(blocks):
            k = width << i
            strides = [1 if i == 0 else 2] + [1] * (count - 1)
            stage = []
            for stride in strides:
                stage.append(BasicBlock(c, k, stride))
                c = k
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(c, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):  # (N, 3, 32, 32) -> (N, 10)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def make(name, width=64):
    """The network `name` (resnet9, resnet18, resnet34) with `width` stem channels."""
    if name == "resnet9":
        return ResNet9(width)
    if name in STAGES:
        return ResNet(STAGES[name], width)
    raise ValueError(f"no model {name!r}; there are {', '.join(PARAMETERS_AT_64)}")


class NesterovSGD:
    """d = -lr (g + wd w);  v = momentum v + d;  w = w + d + momentum v.

    Written out because torch.optim.SGD keeps the learning rate out of its velocity: where the rate changes
    from step to step, as here, the two differ.
    """

    def __init__(self, parameters, weight_decay, momentum=0.9):
        self.weights = list(parameters)
        self.velocity = [torch.zeros_like(w) for w in self.weights]
        self.weight_decay, self.momentum = weight_decay, momentum

    @torch.no_grad()
    def step(self, lr):
        """One update from `.grad`, which it leaves empty."""
        d = [w.grad for w in self.weights]
        torch._foreach_add_(d, self.weights, alpha=self.weight_decay)
        torch._foreach_mul_(d, -lr)
        torch._foreach_mul_(self.velocity, self.momentum)
        torch._foreach_add_(self.velocity, d)
        torch._foreach_add_(self.weights, d)
        torch._foreach_add_(self.weights, self.velocity, alpha=self.momentum)
        for w in self.weights:
            w.grad = None


def schedule(epoch, peak=0.4, peak_epoch=5.0, epochs=24.0):
    """Piecewise linear through (0, 0), (peak_epoch, peak), (epochs, 0); `epoch` may be a fraction."""
    if epoch <= peak_epoch:
        return peak * epoch / peak_epoch
    return peak * max(0.0, epochs - epoch) / (epochs - peak_epoch)


if __name__ == "__main__":
    for model, expected in PARAMETERS_AT_64.items():
        found = sum(p.numel() for p in make(model).parameters())
        assert found == expected, f"{model}: {found} parameters, expected {expected}"
        print(f"{model}: {found} parameters")
