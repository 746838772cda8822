"""From predictions to numbers, figures and pages."""
