"""Append and read rules of the event log over JetStream."""
