"""The faults that providers have, as data: a table by name, which a model `sim-fault-NAME` selects."""
