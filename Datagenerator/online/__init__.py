"""Subjects rendered while a network trains."""
