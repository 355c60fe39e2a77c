"""From finished runs to tables and pictures: nothing here runs a model."""
