"""What a trained model can do, measured on data it has not seen."""
