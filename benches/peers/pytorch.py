"""The reference works in PyTorch: pytorch.py WORK [--threads N] [--seconds S]. Eager, f32.

Channels last and the fused SGD with momentum: the fastest of the forms that were tried, by a third.
"""

import protocol

name, threads, seconds = protocol.arguments()

import torch
from torch import nn
from torch.nn import functional

base = protocol.rss_mib()
torch.set_num_threads(threads)
torch.set_num_interop_threads(1)
torch.manual_seed(0)


def layer(inputs, outputs, stride):
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.ReLU(inplace=True)]


layers = [*layer(3, 16, 1), *layer(16, 32, 2), *layer(32, 64, 2), *layer(64, 128, 2)]
encoder = nn.Sequential(*layers).to(memory_format=torch.channels_last)
head = nn.Sequential(nn.Linear(128, 128, bias=False), nn.ReLU(inplace=True), nn.Linear(128, 64, bias=False))


def features(images):
    return encoder(images).mean((2, 3))


def training(count):
    views = torch.rand(count, 3, 32, 32).to(memory_format=torch.channels_last)
    itself = torch.eye(count, dtype=torch.bool)
    # Rows 2n and 2n + 1 are the views of one sample.
    partners = torch.arange(count) ^ 1
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        z = functional.normalize(head(features(views)))
        similar = (z @ z.T / 0.25).masked_fill(itself, -1e9)
        functional.cross_entropy(similar, partners).backward()
        optimizer.step()

    return step


def perceiving(side):
    encoder.eval()
    image = torch.rand(1, 3, side, side).to(memory_format=torch.channels_last)

    def perceive():
        with torch.inference_mode():
            return features(image)

    return perceive


works = {"W": (training, 128), "V": (training, 2), "I32": (perceiving, 32), "I96": (perceiving, 96)}
if name not in works:
    protocol.not_yet("pytorch", name)
prepare, size = works[name]
protocol.measure("pytorch", torch.__version__, name, threads, seconds, prepare(size), base)
