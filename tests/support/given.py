"""Features that are known beforehand."""


class Given:
    """A provider that gives what it was made of, whatever it is asked."""

    def __init__(self, levels=None, states=None):
        self.levels, self.states = levels, states

    def images(self, pixels):
        return self.levels

    def texts(self, ids):
        return None if self.states is None else self.states(ids)
