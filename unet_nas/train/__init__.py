"""Brief training: data, the loop, metrics, inference on whole images."""
