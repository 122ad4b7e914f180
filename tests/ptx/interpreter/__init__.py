"""Executes the PTX that nvcc emits, in numpy, on the memory of this process. For tests: no GPU, no driver, no speed.

The kernel that runs is the compiled one: `parse` reads the text, `opcodes` turns each instruction into a function on
whole arrays of threads, `machine` steps the threads of all blocks, basic block by basic block, and `memory` refuses
what a GPU would silently do: reads and writes outside of an allocation, misaligned ones, reads of shared memory that
nobody wrote, and accesses of it that no barrier orders. Barriers that some threads miss, warp operations whose mask
names lanes that never come, and loops without end raise too. An instruction that is not in the table raises.
"""

from .errors import PtxError
from .machine import Machine
from .parse import Kernel, Module, parse

__all__ = ["Kernel", "Machine", "Module", "PtxError", "parse"]
