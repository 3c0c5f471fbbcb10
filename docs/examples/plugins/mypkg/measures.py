"""An evaluator: called with the model at its own interval; what it returns is logged."""

from openwit.training.api import Evaluation


class Temperature:
    """Log the model's logit scale."""

    def __init__(self, context, *, unit=1.0):
        self.unit = unit

    def __call__(self, model, position):
        """Return metrics for the logs, and a line for the terminal."""
        value = model.logit_scale.exp().item() / self.unit
        return Evaluation({"temperature": value}, f"step {position.step}: temperature {value:.1f}")
