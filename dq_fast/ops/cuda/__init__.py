"""The ops on CUDA tensors: Python that allocates and orders the launches of the native kernels (csrc/cuda).

Nothing here asks for a CUDA device by name. Tensors are made where the inputs are, and `launch` finds kernels and
stream, so that tests run the very same code on CPU tensors with the kernels' emulated build (tests/cuda_emulator).
"""
