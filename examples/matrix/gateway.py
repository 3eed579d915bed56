#!/usr/bin/python3
"""A SOCKS5 gateway (RFC 1928) that takes its time, and the web server behind it: gateway.py ADDRESS ORIGIN

It listens on ADDRESS, port 1080. The name that is asked for says what happens: a label slowN has it wait N seconds before
its reply, a label repN has it refuse with REP N; every other connection is relayed to the same port of ORIGIN. Each reply
goes out in two pieces, cut behind the first octet on the first connection, behind the second on the next, and so on.
"""

import asyncio
import re
import socket
import struct
import sys

PAUSE_S = 0.02
PAYLOAD = bytes(i * 7 % 251 for i in range(300_000))
PAGE = b"""<!doctype html><meta charset="utf-8"><body><script>
const names = location.search.slice(1).split(",");
const hash = async name => {
    const octets = await (await fetch(`http://${name}/`)).arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", octets));
    return `${name} ${Array.from(digest, o => o.toString(16).padStart(2, "0")).join("")}`;
};
Promise.all(names.map(hash)).then(lines => { document.body.textContent = lines.join("\\n"); },
    error => { document.body.textContent = error; });
</script></body>"""


async def send_cut(writer, octets, at):
    """Sends `octets` in two segments, the first with `at` of them."""
    writer.write(octets[:at])
    await writer.drain()
    await asyncio.sleep(PAUSE_S)
    writer.write(octets[at:])
    await writer.drain()


def number_behind(label, name):
    found = re.search(rf"\b{label}(\d+)\b", name)
    return int(found[1]) if found else 0


async def receive_request(reader):
    """RFC 1928 §4: the name or address that is asked for, as text, and the port."""
    _version, _command, _reserved, kind = await reader.readexactly(4)
    if kind == 3:
        name = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    elif kind == 1:
        name = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
    else:
        name = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
    return name, *struct.unpack("!H", await reader.readexactly(2))


def reply(code, bound=("::", 0)):
    """RFC 1928 §6, BND.ADDR an IPv6 address."""
    return bytes([5, code, 0, 4]) + socket.inet_pton(socket.AF_INET6, bound[0]) + struct.pack("!H", bound[1])


async def relay(reader, writer):
    while octets := await reader.read(1 << 16):
        writer.write(octets)
        await writer.drain()
    writer.write_eof()


class Gateway:
    def __init__(self, origin):
        self.origin = origin
        self.connections = 0

    async def serve(self, reader, writer):
        try:
            await self.one(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def one(self, reader, writer):
        number = self.connections
        self.connections += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _version, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        await send_cut(writer, b"\x05\x00", 1)
        name, port = await receive_request(reader)
        await asyncio.sleep(number_behind("slow", name))
        code, cut = number_behind("rep", name), 1 + number % (len(reply(0)) - 1)
        if code:
            await send_cut(writer, reply(code), cut)
            return
        try:
            from_origin, to_origin = await asyncio.open_connection(self.origin, port)
        except OSError:
            await send_cut(writer, reply(5), cut)
            return
        try:
            await send_cut(writer, reply(0, to_origin.get_extra_info("sockname")), cut)
            await asyncio.gather(relay(reader, to_origin), relay(from_origin, writer))
        finally:
            to_origin.close()


async def web(reader, writer):
    """GET /page is the page for browsers, everything else the payload."""
    try:
        request = await reader.readuntil(b"\r\n\r\n")
        body = PAGE if request.startswith(b"GET /page") else PAYLOAD
        kind = b"text/html" if body is PAGE else b"application/octet-stream"
        writer.write(
            b"HTTP/1.0 200 OK\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n"
            b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)
        )
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass  # the client has gone
    finally:
        writer.close()


async def main(address, origin):
    servers = [
        await asyncio.start_server(Gateway(origin).serve, address, 1080, backlog=256),
        await asyncio.start_server(web, origin, 80, backlog=256),
    ]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
