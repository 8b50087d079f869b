"""Failures, shown and survived: leak, rollback, crash."""
