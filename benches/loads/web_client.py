"""Requests a page again and again, by two connections: `web_client.py PORT`."""

import http.client
import sys
import threading
import time


def request_forever():
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
            while True:
                connection.request("GET", "/")
                connection.getresponse().read()
        except OSError:
            time.sleep(0.1)  # the server does not listen yet


for _ in range(2):
    threading.Thread(target=request_forever).start()
