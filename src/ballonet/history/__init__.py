"""Snapshots and plans on disk: any decision can be explained and replayed."""
