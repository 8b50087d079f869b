"""Numbered schema migrations of the registry database, run by `backends/sql_engine.py` through alembic."""
