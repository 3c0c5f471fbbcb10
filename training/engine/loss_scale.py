"""The factor that keeps gradients inside float16's range, kept on the device.

PyTorch's GradScaler does the same (Micikevicius et al., arXiv 1710.03740), but looks for overflow in each rank's own
gradients and asks the host every step. Here the norm of the whole gradient, which is computed anyway, says it for all
ranks at once, and nothing waits.
"""

import torch
from torch import Tensor

# As GradScaler's: a large start that halves at each overflow and doubles after this many finite steps.
INITIAL = 65_536.0
GROWTH_INTERVAL = 2_000


class LossScale:
    """A factor on the loss, and how it moves.

    Args:
        device: of the loss.
    """

    def __init__(self, device: torch.device) -> None:
        self.value = torch.tensor(INITIAL, device=device)
        self._good = torch.tensor(0.0, device=device)

    def update(self, overflow: Tensor) -> None:
        """Halve after a step whose gradients overflowed (1, else 0); doubles after `GROWTH_INTERVAL` good ones."""
        good = torch.where(overflow > 0, 0.0, self._good + 1)
        grown = good >= GROWTH_INTERVAL
        self.value = torch.where(overflow > 0, self.value * 0.5, torch.where(grown, self.value * 2, self.value))
        self._good = torch.where(grown, 0.0, good)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"value": self.value, "good": self._good}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` answered."""
        self.value = state["value"].to(self.value.device)
        self._good = state["good"].to(self.value.device)
