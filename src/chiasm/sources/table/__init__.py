"""Your own table, mapped to studies by a YAML file."""
