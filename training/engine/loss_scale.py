"""Scale the loss so that gradients fit into float16's range, on the device.

PyTorch's GradScaler does the same (Micikevicius et al., arXiv 1710.03740), but checks each rank's own gradients for
overflow and synchronises with the host in every step. Here the norm of the whole gradient, which is computed anyway,
shows an overflow on any rank, and nothing waits.
"""

import torch
from torch import Tensor

# As in GradScaler: a large initial factor that halves at each overflow and doubles after this many finite steps.
INITIAL = 65_536.0
GROWTH_INTERVAL = 2_000


class LossScale:
    """A factor on the loss, adjusted after each step.

    Args:
        device: of the loss.
    """

    def __init__(self, device: torch.device) -> None:
        self.value = torch.tensor(INITIAL, device=device)
        self._good = torch.tensor(0.0, device=device)

    def update(self, overflow: Tensor) -> None:
        """Halve after a step whose gradients overflowed (1, else 0); double after `GROWTH_INTERVAL` finite steps."""
        good = torch.where(overflow > 0, 0.0, self._good + 1)
        grown = good >= GROWTH_INTERVAL
        self.value = torch.where(overflow > 0, self.value * 0.5, torch.where(grown, self.value * 2, self.value))
        self._good = torch.where(grown, 0.0, good)

    def state(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        return {"value": self.value, "good": self._good}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.value = state["value"].to(self.value.device)
        self._good = state["good"].to(self.value.device)
