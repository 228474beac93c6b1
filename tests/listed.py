"""An algorithm that proposes what a known-answer test names, and remembers what it is told."""

from __future__ import annotations

from mutandis.algorithms import Algorithm, Search, settings
from mutandis.errors import SpaceExhausted
from mutandis.hyper import Proposal


@settings
class Listed(Algorithm):
    """Proposes the listed decisions in turn, then nothing more.

    Args:
        decisions: A dict of decisions for each proposal.
        told: Gets (id, first decision, fidelity, reward) of every result.
    """

    decisions: tuple = ()
    told: list | None = None

    def start(self, space, *, seed, num_objectives=1):
        return ListedSearch(space, self)


class ListedSearch(Search):
    def __init__(self, space, settings):
        self.space, self.settings, self.count = space, settings, 0

    def propose(self):
        if self.count >= len(self.settings.decisions):
            raise SpaceExhausted("cannot propose: the list is over")
        self.count += 1
        return Proposal(self.count - 1, self.space.dna(self.settings.decisions[self.count - 1]))

    def feedback(self, feedback):
        if self.settings.told is not None:
            self.settings.told.append((feedback.id, feedback.dna.values[0], feedback.fidelity, feedback.reward))

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def numbered(count, name="x"):
    """Returns the decisions of `count` configurations that differ in one choice."""
    return tuple({name: number} for number in range(count))
