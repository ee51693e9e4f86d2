"""The commands of the program `chiasm`."""
