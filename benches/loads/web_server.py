"""A small application on the web: `web_server.py PORT` by http.server, or `app` by Flask."""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORD = re.compile(r"\w+")
TEXT = "the quick brown fox jumps over the lazy dog " * 200


def count_words(text):
    counts = {}
    for word in WORD.findall(text):
        counts[word] = counts.get(word, 0) + 1
    return counts


def render(counts):
    rows = ["<tr><td>%s</td><td>%d</td></tr>" % each for each in sorted(counts.items())]
    return "<table>" + "".join(rows) + "</table>" + json.dumps(counts)


def page():
    return render(count_words(TEXT))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # header and body in one packet

    def do_GET(self):
        body = page().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


try:
    import flask

    app = flask.Flask(__name__)
    app.add_url_rule("/", "page", page)
except ImportError:
    pass

if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
