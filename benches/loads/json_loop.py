"""Encodes and decodes JSON, and sorts what comes out, forever."""

import json


def document(number):
    return {"id": number, "tags": [str(n) for n in range(30)], "nested": {"values": [number] * 50}}


def encode(number):
    return json.dumps(document(number), sort_keys=True)


def encode_by_python(number):
    return json.dumps(document(number), indent=1)


def decode(text):
    return json.loads(text)


def order(documents):
    return sorted(documents, key=lambda each: -each["id"])


def main():
    while True:
        texts = [encode(number) for number in range(100)] + [encode_by_python(1) for _ in range(5)]
        order([decode(text) for text in texts])


main()
