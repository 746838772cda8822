"""Errors that callers tell apart."""
from __future__ import annotations


class NotFittable(ValueError):
    """The data show too little of a face for a fit; the arguments are valid."""
