"""A scripted OpenAI-compatible server on loopback: N turns of a trivial command, then the end.

Stateless: which turn it is, it reads from the conversation. Notes when each request had come and when it was answered.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


class Script(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, turns):
        super().__init__(("127.0.0.1", 0), Handler)
        self.turns = turns
        self.seen = []
        self.problems = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        came = time.monotonic()
        turn = sum(1 for m in body["messages"] if m["role"] == "assistant")
        tools = [t["function"]["name"] for t in body.get("tools", [])]
        tool = next((t for t in tools if t.lower() == "bash"), None)
        if tool is None:
            self.server.problems.append(f"no bash among {tools}")
        if turn < self.server.turns:
            message = {"command": f"echo turn {turn}"}
        elif tool == "bash":
            message = {"command": SUBMIT}
        else:
            message = None
        if message is not None and tool == "Bash":
            message["description"] = "Say the turn"
        self.answer(body.get("stream", False), turn, tool, message)
        self.server.seen.append((came, time.monotonic()))

    def answer(self, stream, turn, tool, arguments):
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        base = {"id": f"c{turn}", "created": 1, "model": "fake"}
        if arguments is None:
            said, why = {"role": "assistant", "content": "All turns are done."}, "stop"
        else:
            call = {"id": f"call_{turn}", "type": "function"}
            call["function"] = {"name": tool, "arguments": json.dumps(arguments)}
            said, why = {"role": "assistant", "content": f"Turn {turn}.", "tool_calls": [call]}, "tool_calls"
        if stream:
            if "tool_calls" in said:
                said["tool_calls"][0]["index"] = 0
            chunk = {**base, "object": "chat.completion.chunk"}
            parts = [
                {**chunk, "choices": [{"index": 0, "delta": said, "finish_reason": None}]},
                {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": why}]},
                {**chunk, "choices": [], "usage": usage},
            ]
            text = "".join(f"data: {json.dumps(p)}\n\n" for p in parts) + "data: [DONE]\n\n"
            kind = "text/event-stream"
        else:
            choice = {"index": 0, "message": said, "finish_reason": why}
            text = json.dumps({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
            kind = "application/json"
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass
