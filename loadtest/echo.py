"""The bare grpc.aio echo: what the transport alone costs for the same bytes in and out.

Run as `python -m loadtest.echo`: prints its port, ends when its standard input closes. A call of
`/topnode.Echo/<bytes>` is answered with that many bytes, made once.
"""

import asyncio
import functools
import sys

import grpc
import uvloop


@functools.cache
def _payload(length: int) -> bytes:
    return b"\x0a" * length


class _Echo(grpc.GenericRpcHandler):
    """Answers every method with as many bytes as its name says."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        payload = _payload(int(details.method.rpartition("/")[2]))

        async def echo(_request: bytes, _context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            return payload

        return grpc.unary_unary_rpc_method_handler(echo)


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(grace=0)


if __name__ == "__main__":
    uvloop.run(_serve())
