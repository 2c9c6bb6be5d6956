"""Other people's networks behind the calls of our predictor, so that all answer to the same protocol.

One module for each family of weights. Files are read as weights only: no pickled code, no custom ONNX operators.
"""
