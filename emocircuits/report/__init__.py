"""`report.html`: one page that tells a run from question to provenance, with no request to anywhere."""

from emocircuits.report.page import build_report, report_page

__all__ = ["build_report", "report_page"]
