"""Leaderboards: tables, documents and pages made of records."""
