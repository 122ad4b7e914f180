"""Certificates: a few picks of a ranking, computed again from the definition, against what was reported."""

from dq_fast.select.certificate.certify import certify
from dq_fast.select.certificate.picks import Certificate, Pick

__all__ = ["Certificate", "Pick", "certify"]
