"""Local models; torch and onnxruntime live here and nowhere else."""
