"""The report: one HTML file that answers where the larger model helps, what deferral saves, and how sure that is."""

from metrics.report.page import write_report

__all__ = ["write_report"]
