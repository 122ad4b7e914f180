"""`SampleQuantizer`: all of selection as one estimator."""

from dq_fast.select.quantizer.fits import MethodPlan
from dq_fast.select.quantizer.parameters import ALGORITHMS, check_parameters
from dq_fast.select.quantizer.sample_quantizer import SampleQuantizer

__all__ = ["ALGORITHMS", "MethodPlan", "SampleQuantizer", "check_parameters"]
