"""One page that shows what a run did: pictures, bins in the plane, counts, bytes, times."""

from dq_fast.report.data import Bar, Map, Picture, Report, Sheet
from dq_fast.report.page import check_path, render, write_page

__all__ = ["Bar", "Map", "Picture", "Report", "Sheet", "check_path", "render", "write_page"]
