"""Train small networks of PyTorch as a portable run does, and print a hash of the weights of each: python portable_torch.py

    python portable_torch.py                                     this processor
    qemu-x86_64 -cpu Haswell -E ... python portable_torch.py     another one, emulated (Debian: qemu-user)

The limits of `choose_limits` have to be in the environment. With `--plain` nothing is limited, for a comparison.
"""
import hashlib
import sys

from ml_repo.provenance.operations import fix_operations

if "--plain" not in sys.argv:
    fix_operations()
import torch  # noqa: E402
from torch import nn  # noqa: E402

COUNT = 128
torch.manual_seed(0)
NUMBERS = torch.randn(COUNT, 64)
CLASSES = (NUMBERS[:, 0] + NUMBERS[:, 1] > 0).long()


class LastStep(nn.Module):
    """The output of a recurrent layer at its last step."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0][:, -1]


class RootMeanSquare(nn.Module):
    """A layer of somebody's own, which takes its root as a power."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5) ** 0.5


def residual() -> list[nn.Module]:
    return [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.SiLU(), nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.Conv2d(32, 64, 1), nn.GroupNorm(4, 64), nn.GELU(), nn.ConvTranspose2d(64, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 2)]


NETWORKS = {
    "dense": lambda: [nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 256), nn.Tanh(), RootMeanSquare(), nn.Linear(256, 2)],
    "normalised": lambda: [nn.Linear(64, 32), nn.BatchNorm1d(32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 2)],
    "convolution": lambda: [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 2)],
    "residual": residual,
    "attention": lambda: [nn.Unflatten(1, (8, 8)), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(64, 2)],
    "lstm": lambda: [nn.Unflatten(1, (8, 8)), LastStep(nn.LSTM(8, 16, batch_first=True, num_layers=2)), nn.Linear(16, 2)],
    "gru": lambda: [nn.Unflatten(1, (8, 8)), LastStep(nn.GRU(8, 16, batch_first=True)), nn.Linear(16, 2)],
    "words": lambda: [nn.EmbeddingBag(100, 16), nn.Linear(16, 2)]}
OPTIMISERS = ("Adam", "AdamW", "RMSprop", "SGD", "NAdam", "Adagrad", "Adam", "Adam")


def train(network: nn.Module, optimiser: torch.optim.Optimizer, data: torch.Tensor, steps: int = 10) -> str:
    """Take steps, and return a hash of the weights."""
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(data), CLASSES).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in network.state_dict().values())).hexdigest()[:16]


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    for (name, make), kind in zip(NETWORKS.items(), OPTIMISERS, strict=True):
        torch.manual_seed(0)
        network = nn.Sequential(*make())
        options = {"momentum": 0.9, "nesterov": True} if kind == "SGD" else {}
        data = (NUMBERS.abs() * 30).long() % 100 if name == "words" else NUMBERS
        print(f"{name:<12} {train(network, getattr(torch.optim, kind)(network.parameters(), lr=0.01, **options), data)} {kind}", flush=True)
