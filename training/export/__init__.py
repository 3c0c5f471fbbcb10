"""Export trained models to other programs: open_clip, Hugging Face's transformers, ONNX runtimes."""
