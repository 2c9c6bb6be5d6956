import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Answers = Callable[[str], list[str]]


class LlmServer:
    """A chat-completions server on this machine; `script` holds what it does with its next requests.

    `delay_s` is what an answer takes; `most_at_once` counts the requests that were under way together.
    """

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.script: list[str] = []  # "429", "500", "401", "garbage", "hang"
        self.phrases: Answers = lambda name: []
        self.hanging = threading.Event()
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.began_s: list[float] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    server.began_s.append(time.monotonic())
                    server.requests.append(body)
                    step = server.script.pop(0) if server.script else "answer"
                    server.at_once += 1
                    server.most_at_once = max(server.at_once, server.most_at_once)
                time.sleep(server.delay_s)
                with server._lock:
                    server.at_once -= 1
                if step == "hang":
                    server.hanging.set()
                    threading.Event().wait(60)
                elif step.isdigit():
                    self._send(int(step), {"error": {"message": f"scripted {step}"}})
                else:
                    self._send(200, completion("{ not json" if step == "garbage" else server.answer(body)))

            def _send(self, status: int, content: dict) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.send_header("retry-after-ms", "5")
                self.end_headers()
                self.wfile.write(data)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def answer(self, body: dict) -> str:
        user = body["messages"][1]["content"]
        asked = json.loads(user[user.index("[") :])
        answers = [
            {"name": part["name"], "phrases": [{"text": text, "kind": "lay"} for text in self.phrases(part["name"])]}
            for part in asked
        ]
        return json.dumps({"answers": answers})

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def completion(content: str) -> dict:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}


@pytest.fixture
def llm_server(monkeypatch, tmp_path):
    monkeypatch.setenv("FLUORO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "FLUORO_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    server = LlmServer()
    yield server
    server.close()
