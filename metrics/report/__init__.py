"""Writes the report: one HTML file on where the larger model helps, what deferral saves, and how sure that is."""

from metrics.report.page import ReportContent, write_report

__all__ = ["ReportContent", "write_report"]
