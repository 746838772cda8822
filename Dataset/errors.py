"""Errors that callers tell apart."""
from __future__ import annotations


class NotFittable(ValueError):
    """Data that show too little of a face for a fit: no fault of the caller's arguments."""
