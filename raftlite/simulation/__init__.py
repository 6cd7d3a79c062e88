"""Whole clusters of the real `Election` on a virtual clock: one seed, no threads, every step checked.

from raftlite.simulation import Faults, Network, Simulation

simulation = Simulation(nodes=5, seed=7, network=Network.rough(), faults=Faults())
simulation.run(60.0)            # virtual seconds; raises Violation where an invariant does not hold
print(simulation.coverage)
"""

from raftlite.simulation.faults import Faults
from raftlite.simulation.invariants import Invariants, Violation
from raftlite.simulation.network import Network
from raftlite.simulation.simulation import Coverage, Simulation

__all__ = ["Coverage", "Faults", "Invariants", "Network", "Simulation", "Violation"]
