"""Any CSV, TSV or Parquet table and the files it names. How to describe it is in docs/table.md."""

from chiasm.cohort.sources.table.read import ABOUT, read

__all__ = ["ABOUT", "read"]
