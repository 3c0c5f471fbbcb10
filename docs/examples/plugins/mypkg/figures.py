"""A measurement of a suite: called with a model and a dataset; what it returns is a row of the table."""

import torch

from openwit.training.evaluation.measurements.registry import Figure, Measurement


def spread(context, *, images=100):
    """Measure how far the embeddings of images are from each other."""
    data = context.labelled().limited(images)
    embedded = context.model.encode_image([data.sample(index).image for index in range(len(data))])
    return Measurement({"spread": Figure(torch.pdist(embedded).mean().item())}, len(data))


spread.kind = "labelled"
