#!/usr/bin/env python3
"""A server of streamed completions that can misbehave: the first folder of the path says how.

usage: server.py PORT [CERT KEY]      ok, garbage, endless, drip, half, empty, refuse, error, slow, nul, short
"""
import asyncio
import json
import re
import ssl
import sys

PER_TOKEN_S = 0.002


def event(text, usage=None):
    o = {"choices": [{"index": 0, "text": text}]}
    if usage:
        o = {"choices": [], "usage": usage}
    return b"data: " + json.dumps(o).encode() + b"\n\n"


async def chunk(w, data):
    w.write(b"%x\r\n%s\r\n" % (len(data), data))
    await w.drain()


async def answer(w, how, body):
    n_words, n = len(body["prompt"].split()), body["max_tokens"]
    w.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    if how == "slow":
        await asyncio.sleep(0.3)
    if how == "garbage":
        await chunk(w, b"\x00\xff\xfe{]\n\n")
    for i in range(10 ** 9 if how == "endless" else 0 if how == "empty" else n):
        await chunk(w, event("\0" if how == "nul" else " w"))
        if how == "half" and i == n // 2:
            w.close()
            return
        if how != "endless":
            await asyncio.sleep(30 if how == "drip" else PER_TOKEN_S)
    await chunk(w, event("", {"prompt_tokens": n_words * 5 // 4, "completion_tokens": 0 if how == "empty" else n}))
    await chunk(w, b"data: [DONE]\n\n")
    await chunk(w, b"")


async def serve(r, w):
    try:
        while True:
            head = await r.readuntil(b"\r\n\r\n")
            method, path = head.split(b" ")[:2]
            how = path.decode().split("/")[1]
            length = re.search(rb"content-length: (\d+)", head, re.I)
            body = await r.readexactly(int(length[1])) if length else b""
            if method == b"GET":
                data = json.dumps({"data": [{"id": "the-model"}]}).encode()
                w.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
            elif how == "refuse":
                w.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
            elif how == "short" and len(json.loads(body)["prompt"].split()) > 100:
                data = b'{"error": {"code": 400, "message": "request exceeds the available context size"}}'
                w.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
            elif how == "error":
                data = b'data: {"error": {"message": "no such model"}}\n\n'
                w.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
            else:
                await answer(w, how, json.loads(body))
            await w.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        w.close()


async def main():
    context = None
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), ssl=context, limit=1 << 20, backlog=4096)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
