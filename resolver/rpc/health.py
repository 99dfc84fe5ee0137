"""The standard health service (grpc.health.v1) of one process: serving, or not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

NO_SUCH_SERVICE: Final = "This process has no such service."

HEALTH_SERVICE: Final = str(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # the package ships no types
    """Answers for the process ("") and for each of its services; they are healthy together or not at all.

    Not the package's own servicer: with that one a watching client keeps its stream, and so a drain, open to the end
    of the grace. Here `drain` is the last thing that a watcher is told.
    """

    def __init__(self, services: frozenset[str]) -> None:
        self._services = services | {""}
        self._is_serving = True
        self._is_draining = False
        self._changed = asyncio.Event()

    def set_serving(self, *, is_serving: bool) -> None:
        """Say whether calls are answered as they should be; has no effect once the process drains."""
        if not self._is_draining and is_serving != self._is_serving:
            self._is_serving = is_serving
            self._tell()

    def drain(self) -> None:
        """Say NOT_SERVING for good, and end the streams of those who watch."""
        self._is_serving = False
        self._is_draining = True
        self._tell()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the method's name on the wire
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, NO_SUCH_SERVICE)
        return self._status(request.service)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802 - as above
        told = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                yield status
                told = status
            if self._is_draining:
                return
            await changed.wait()

    def _status(self, service: str) -> Any:
        status = health_pb2.HealthCheckResponse
        if service not in self._services:
            return status(status=status.SERVICE_UNKNOWN)
        return status(status=status.SERVING if self._is_serving else status.NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
