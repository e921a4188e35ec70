"""PyTorch: eager and torch.compile, float32 and bfloat16, channels last for convolutions.

The cases pad strided convolutions as TensorFlow does, all at the end; PyTorch's own
padding lies at the beginning. On mirrored images with mirrored kernels the two are the
same map, so PyTorch gets those, and none of its layers needs padding of its own.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
import torch._inductor.config as inductor
from torch import nn

from benchmarks.cases import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM
from benchmarks.systems.job import Choice, Job, NotApplicable, slices

_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_FUNCTIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "linear": nn.Identity}


def _device(platform: str) -> torch.device:
    if platform == "tpu":
        raise NotApplicable("no TPU")
    if platform == "gpu" and not torch.cuda.is_available():
        raise NotApplicable("this build of torch finds no GPU")
    return torch.device("cuda" if platform == "gpu" else "cpu")


def network(job: Job) -> nn.Sequential:
    """The case's layers with the given weights."""
    modules: list[nn.Module] = []
    for layer, arrays in zip(job.case.layers, job.weights, strict=True):
        inputs, outputs = layer.shape_in[-1], layer.shape_out[-1]
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        module: nn.Module
        if layer.kind in ("dense", "posterior"):
            module = nn.Linear(inputs, outputs)
            tensors = {"kernel": tensors["kernel"].T, "bias": tensors["bias"]}
        elif layer.kind == "conv":
            module = nn.Conv2d(inputs, outputs, layer.kernel, layer.stride, layer.kernel // 2)
            tensors["kernel"] = tensors["kernel"].permute(3, 2, 0, 1).flip(2, 3)
        elif layer.kind == "conv_transpose":
            module = nn.ConvTranspose2d(inputs, outputs, layer.kernel, layer.stride, 1, 1)
            # Flax's kernel is a mirrored one already.
            tensors["kernel"] = tensors["kernel"].permute(2, 3, 0, 1)
        elif layer.kind == "batch_norm":
            kind = nn.BatchNorm2d if job.case.is_image else nn.BatchNorm1d
            module = kind(outputs, BATCH_NORM_EPSILON, 1 - BATCH_NORM_MOMENTUM)
        elif layer.kind == "max_pool":
            module = nn.MaxPool2d(2)
        elif layer.kind == "upsample":
            module = nn.Upsample(scale_factor=2, mode="nearest")
        else:
            module = _FUNCTIONS[layer.function]()
        with torch.no_grad():
            for name, tensor in tensors.items():
                getattr(module, _NAMES.get(name, name)).copy_(tensor)
        modules.append(module)
    return nn.Sequential(*modules)


class Variational(nn.Module):
    """A variational autoencoder; called, it decodes the posterior's mean."""

    def __init__(self, job: Job, place: int) -> None:
        super().__init__()
        layers = network(job)
        self.encoder, self.mean = layers[:place], layers[place]
        # The last layer is the sigmoid, which the loss of logits has in it.
        self.decoder = layers[place + 1 : -1]
        kernel, bias = (job.weights[place][f"log_variance_{n}"] for n in ("kernel", "bias"))
        self.log_variance = nn.Linear(*kernel.shape)
        with torch.no_grad():
            self.log_variance.weight.copy_(torch.from_numpy(kernel).T)
            self.log_variance.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.decoder(self.mean(self.encoder(x))))

    def negative_elbo(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Mean over rows, in nats."""
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        logits = self.decoder(mean + torch.exp(0.5 * log_variance) * noise)
        nats = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (nats + divergence) / len(x)


def mirrored(job: Job, rows: np.ndarray) -> np.ndarray:
    """Images turned by half a circle; other rows as they are."""
    return np.ascontiguousarray(rows[:, ::-1, ::-1]) if job.case.is_image else rows


class Scoring:
    """A loop over batches in inference mode."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, _device(job.platform)
        self.compile = bool(job.options.get("compile"))
        half = job.precision == "bfloat16"
        forms = ["bfloat16", "autocast"] if half else ["float32"]
        if job.case.is_image:
            forms = [f"{form} channels-last" for form in forms] + forms[:1]
        if self.compile:
            # Constant folding and prepacked weights: Inductor's form for inference.
            forms = [f"{forms[0]} freezing", *forms]
        batch_sizes = job.batch_sizes
        if self.compile and len(batch_sizes) > 2:
            # Each is a compilation of many seconds.
            batch_sizes = batch_sizes[1:3]
        self.choices: dict[str, list[Any]] = {"batch_size": batch_sizes, "form": forms}
        self.facts = {"same_weights": True, "torch": torch.__version__}

    def adapt(self, rows: np.ndarray) -> np.ndarray:
        return mirrored(self.job, rows)

    def use(self, choice: Choice) -> None:
        self.batch_size, form = choice["batch_size"], choice["form"]
        torch._dynamo.reset()
        model = network(self.job).eval().to(self.device)
        dtype = torch.bfloat16 if form.startswith("bfloat16") else torch.float32
        autocast = form.startswith("autocast")
        layout = torch.channels_last if "channels-last" in form else torch.contiguous_format
        if self.job.case.is_image:
            model = model.to(memory_format=layout)  # type: ignore[call-overload]
        model = model.to(dtype)
        axes = tuple(range(1, 4 if self.job.case.is_image else 2))

        def errors(x: torch.Tensor) -> torch.Tensor:
            if len(axes) > 1:
                x = x.permute(0, 3, 1, 2).contiguous(memory_format=layout)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
                y = model(x.to(dtype))
            return (x - y.float()).square_().mean(axes)

        self.errors = errors
        if self.compile:
            inductor.freezing = "freezing" in form
            self.errors = torch.compile(errors, dynamic=False)

    def _guard(self) -> contextlib.AbstractContextManager[Any]:
        return torch.no_grad() if self.compile else torch.inference_mode()

    def score(self, rows: np.ndarray) -> np.ndarray:
        with self._guard():
            out = torch.empty(len(rows), device=self.device)
            for part in slices(len(rows), self.batch_size):
                x = torch.from_numpy(rows[part]).to(self.device, non_blocking=True)
                out[part] = self.errors(x)
            return out.cpu().numpy()

    def place(self, rows: np.ndarray) -> Any:
        placed = torch.from_numpy(rows).to(self.device)
        return placed.split(self.batch_size), len(rows)

    def score_placed(self, placed: Any) -> None:
        with self._guard():
            for part in placed:
                self.errors(part)
            if self.device.type == "cuda":
                torch.cuda.synchronize()


class Training:
    """The loop of PyTorch's tutorials on rows held in one tensor, with the fused Adam."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, _device(job.platform)
        rows = torch.from_numpy(mirrored(job, job.rows))
        if job.case.is_image:
            rows = rows.permute(0, 3, 1, 2)
        self.rows = rows.to(self.device)
        self.facts = {"torch": torch.__version__}
        self.model = self._network()
        self.compiled = self._loss
        if job.options.get("compile"):
            self.compiled = torch.compile(self._loss, dynamic=False)

    def _network(self) -> nn.Module:
        place = self.job.case.posterior
        built = network(self.job) if place is None else Variational(self.job, place)
        model = built.to(self.device)
        if self.job.case.is_image:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def _loss(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.model, Variational):
            latent = self.model.mean.out_features
            return self.model.negative_elbo(x, torch.randn(len(x), latent, device=x.device))
        seen, noise = x, self.job.case.noise
        if noise:
            seen = (x + noise * torch.randn_like(x)).clamp(0, 1)
        return nn.functional.mse_loss(self.model(seen), x)

    def fit(self) -> None:
        # The same module all along: a new one would be compiled anew.
        self.model.load_state_dict(self._network().state_dict())
        self.model.train()
        optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=1e-7, fused=True)
        torch.manual_seed(0)
        for _ in range(self.job.epochs):
            order = torch.randperm(len(self.rows), device=self.device)
            for picked in order.split(self.job.batch_size):
                optimizer.zero_grad(set_to_none=True)
                self.compiled(self.rows[picked]).backward()
                optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def loss(self) -> float:
        self.model.eval()
        total = 0.0
        with torch.inference_mode():
            for part in self.rows.split(4096):
                total += float((part - self.model(part)).double().square().sum())
        return total / self.rows.numel()


class Limits:
    """What the machine can do at most, as PyTorch reaches it."""

    def __init__(self, size: int, read_bytes: int) -> None:
        a = torch.randn(size, size)
        self.operations = 2 * size**3
        self.inputs = {"float32": a, "bfloat16": a.bfloat16()}
        self.values = torch.ones(read_bytes // 4)
        self.facts = {"torch": torch.__version__}

    def tasks(self) -> dict[str, tuple[float, Any]]:
        """Amount of work (operations or bytes) and how to do it, by the limit's name."""
        work: dict[str, tuple[float, Any]] = {
            f"product_{name}": (self.operations, lambda a=a: a @ a)
            for name, a in self.inputs.items()
        }
        work["read_0"] = (self.values.nbytes, self.values.sum)
        return work
