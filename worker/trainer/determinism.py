"""The same bits twice: what a deterministic run sets, before torch is there and once it is.

Torch then takes kernels that sum in a fixed order, slower ones where it must, and raises where an
operation has none. Knows neither model nor data.
"""

from app.runs.spec import RunConfig

# Read by cuBLAS when CUDA starts: two workspaces of fixed size, without which torch refuses.
ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def environment(config: RunConfig) -> dict[str, str]:
    """Return the environment variables that must stand before CUDA starts."""
    return dict(ENVIRONMENT) if config.training.deterministic else {}


def settle(config: RunConfig) -> None:
    """Let torch compute as the configuration asks, in this process from now on."""
    import torch

    wanted = config.training.deterministic
    torch.use_deterministic_algorithms(wanted, warn_only=False)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False
