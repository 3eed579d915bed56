"""Fetches http://NAME/ from several hosts at once by asyncio, and has the loop's heart beat meanwhile: fetch.py NAME...
What a host sends goes into the file NAME; what goes wrong, and the longest time between two beats, are said on stdout."""

import asyncio
import errno
import socket
import sys
import time

BEAT_S = 0.005


async def heart():
    longest, last = 0.0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
    finally:
        print(f"longest gap {longest * 1000:.0f} ms")


async def fetch(name):
    try:
        reader, writer = await asyncio.open_connection(name, 80, family=socket.AF_INET)
    except OSError as error:
        print(f"{name}: {errno.errorcode.get(error.errno, error)}")
        return
    writer.write(f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
    _head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    with open(name, "wb") as file:
        file.write(body)


async def main(names):
    beating = asyncio.create_task(heart())
    await asyncio.gather(*map(fetch, names))
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)


asyncio.run(main(sys.argv[1:]))
