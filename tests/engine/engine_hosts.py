"""A replica driven step by step, with invariants asserted after each."""

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.decide.machine import Machine
from sojourn.decide.slots import Services
from sojourn.engine.replica import Replica
from sojourn.recipes import load_recipe
from sojourn.sim.check import Invariants
from sojourn.sim.recorder import RunRecorder

COST = Fitted(Coefficients(fixed=0.01, prefill_token=0.001))
LIMITS = EngineLimits(
    num_gpu_blocks=60,
    block_size=2,
    max_num_seqs=3,
    max_num_batched_tokens=16,
    max_model_len=120,
    swap_blocks=200,
    block_tokens=2,
)


class Lengths:
    def __init__(self, replica):
        self.replica = replica

    def output_tokens(self, request):
        return self.replica.outputs[request.id]


class Host:
    """A replica driven step by step by a test, with invariants asserted."""

    def __init__(self, recipe, host="vllm"):
        self.now = 0
        self.ended = {}
        self.open = []
        machine = Machine(LIMITS)
        self.truth = Lengths(None)
        machine.install(load_recipe(recipe, host).build(Services(machine, COST, self.truth)))
        self.replica = Replica(0, machine, COST, self.end, RunRecorder(), SECOND // 200, 1)
        self.truth.replica = self.replica
        self.check = Invariants()

    def end(self, request, _now, reason):
        assert request.id not in self.ended, "ended twice"
        self.ended[request.id] = reason
        self.open.remove(request)

    def submit(self, request, output):
        self.open.append(request)
        self.replica.submit(request, output, self.now)

    def step(self, cancel=()):
        """Go to the next boundary, cancel there, and plan again."""
        if self.replica.steps:
            self.now = self.replica.advance()
        for request in cancel:
            if request in self.open:
                self.replica.cancel(request, self.now)
                self.check(self.replica)
        again = self.replica.begin(self.now)
        self.check(self.replica)
        if not self.replica.steps and again < NEVER:
            self.now = again
