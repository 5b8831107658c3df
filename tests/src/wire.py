"""Frames as no honest stack sends them, and a witness of what came of them.

wire.py witness SECONDS MARKER                              one line for each packet that carries the marker
wire.py throw LINK MAC SOURCE DESTINATION PROTOCOL PORT MARKER   one packet in a frame to this hardware address

The marker is the sequence number of a TCP SYN and the payload of a UDP datagram. A TCP answer acknowledges the marker;
a reset is none, since no program of this host has seen the packet then.
"""
import ipaddress
import select
import socket
import struct
import sys
import time


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, destination, protocol, port, marker):
    number = 6 if protocol == "tcp" else 17
    if protocol == "tcp":
        payload = struct.pack("!HHIIBBHHH", 40000, port, marker, 0, 5 << 4, 2, 64240, 0, 0)
        place = 16
    else:
        payload = struct.pack("!HHHH", 40000, port, 12, 0) + struct.pack("!I", marker)
        place = 6
    if source.version == 4:
        pseudo = source.packed + destination.packed + struct.pack("!BBH", 0, number, len(payload))
    else:
        pseudo = source.packed + destination.packed + struct.pack("!IHBB", len(payload), 0, 0, number)
    check = checksum(pseudo + payload) or 0xFFFF
    payload = payload[:place] + struct.pack("!H", check) + payload[place + 2 :]
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, number, 0)
        head += source.packed + destination.packed
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload
    head = struct.pack("!IHBB", 6 << 28, len(payload), number, 64)
    return head + source.packed + destination.packed + payload


def throw(link, mac, source, destination, protocol, port, marker):
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((link, 0))
    kind = 0x0800 if source.version == 4 else 0x86DD
    head = bytes.fromhex(mac.replace(":", "")) + wire.getsockname()[4] + struct.pack("!H", kind)
    wire.send(head + packet(source, destination, protocol, int(port), int(marker)))


def witness(seconds, marker):
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not select.select([wire], [], [], left)[0]:
            break
        frame, (link, *_) = wire.recvfrom(65535)
        kind = frame[12:14]
        if kind == b"\x08\0":
            size, number = (frame[14] & 15) * 4, frame[23]
            source, destination = frame[26:30], frame[30:34]
        elif kind == b"\x86\xdd":
            size, number, source, destination = 40, frame[20], frame[22:38], frame[38:54]
        else:
            continue
        data = frame[14 + size :]
        if len(data) < 12 or (number == 6 and len(data) < 14):
            continue
        first, second = struct.unpack("!II", data[4:12])
        verdict = None
        if number == 6 and first == marker:
            verdict = "request"
        elif number == 6 and second == marker + 1 and not data[13] & 4:
            verdict = "answer"
        elif number == 17 and second == marker:
            verdict = "request"
        if verdict:
            pair = (ipaddress.ip_address(source), ipaddress.ip_address(destination))
            print(f"{verdict} on {link}: {pair[0]} -> {pair[1]}", flush=True)


if sys.argv[1] == "witness":
    witness(float(sys.argv[2]), int(sys.argv[3]))
else:
    throw(*sys.argv[2:])
