"""Networks that other tools have quantized: ONNX files as integer programs.

Both forms are read: QDQ (a QuantizeLinear and DequantizeLinear pair at every tensor) and QOperator
(QLinearConv and its like), which is unfolded to the first.
"""
