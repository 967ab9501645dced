"""Stand-ins for what verl passes: tensors as lists, servers, and clients of them."""

from __future__ import annotations

from types import SimpleNamespace


class Grid:
    """A matrix with the few methods of a tensor that the adapter calls."""

    def __init__(self, rows):
        self.rows = rows

    def sum(self, dim):
        assert dim == -1
        return Grid([sum(row) for row in self.rows])

    def tolist(self):
        return self.rows

    def new_tensor(self, values):
        return Grid(list(values))

    def unsqueeze(self, dim):
        assert dim == -1
        return Grid([[value] for value in self.rows])

    def __mul__(self, other):
        pairs = zip(self.rows, other.rows, strict=True)
        return Grid([[column[0] * cell for cell in row] for column, row in pairs])


def rows(rewards, counted=None, tokens=3):
    """Return token-level rewards, the reward at the last token, and the mask of each row."""
    counted = [True] * len(rewards) if counted is None else counted
    scores = Grid([[0.0] * (tokens - 1) + [reward] for reward in rewards])
    mask = Grid([[int(one)] * tokens for one in counted])
    return scores, mask


class Server:
    """An engine's actor; what is asked of it is remembered."""

    def __init__(self, name, answer=None):
        self.name = name
        self.asked = []
        self.aborted = []
        self.answer = answer
        self.generate = SimpleNamespace(remote=self._generate)
        self.abort_request = SimpleNamespace(remote=self._abort)

    async def _generate(self, **asked):
        self.asked.append(asked)
        if self.answer is not None:
            return await self.answer(self)
        return SimpleNamespace(text=f"from {self.name}", extra_fields={"global_steps": 3})

    async def _abort(self, request_id, reset_prefix_cache=True):
        self.aborted.append((request_id, reset_prefix_cache))
        return {"aborted": request_id.endswith("t0")}


class Client:
    """verl's client as the contract has it: it takes a server, names a request, gives it back."""

    config = "verl's"

    def __init__(self, servers):
        self.servers = servers
        self.released = []
        self.sessions = []

    async def _acquire_server(self, request_id, **extra):
        self.sessions.append((request_id, sorted(extra)))
        return self.servers[0].name, self.servers[0]

    def _release_server(self, server_id, request_id=None):
        self.released.append((server_id, request_id))

    def _vllm_request_id(self, _):
        raise AssertionError("requests have names of ours")

    async def generate(self, request_id, *, prompt_ids, sampling_params, **more):
        server_id, server = await self._acquire_server(request_id, prompt_ids=prompt_ids)
        try:
            return await server.generate.remote(
                request_id=self._vllm_request_id(request_id),
                prompt_ids=prompt_ids,
                sampling_params=sampling_params,
                **more,
            )
        finally:
            self._release_server(server_id, request_id=request_id)


class OldClient:
    """A client of before there was a place to name requests."""

    def __init__(self):
        self.generate = None
