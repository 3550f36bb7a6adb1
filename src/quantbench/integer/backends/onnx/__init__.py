"""Programs as ONNX files: layers as QDQ nodes, islands as float nodes."""
