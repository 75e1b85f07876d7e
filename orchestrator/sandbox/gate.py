"""Open the way out of a sandbox without a network, then become the command.

Handed to Python as text, inside the sandbox; its arguments are a socket's number and the command. It listens
on the sandbox's own loopback, which nobody outside and no other sandbox can reach, and hands the listener
to the proxy through the socket. Nothing but that listener leads out.
"""

import os
import socket
import sys


def _listener(control: int) -> int:
    """Listen, hand the listener over, and return its port."""
    with socket.socket() as listener, socket.socket(fileno=control) as outside:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        socket.send_fds(outside, [b"."], [listener.fileno()])
        port: int = listener.getsockname()[1]
        return port


def _main() -> None:
    try:
        proxy = "http://127.0.0.1:%d" % _listener(int(sys.argv[1]))  # noqa: UP031
    except OSError as error:
        sys.stderr.write(f"the way to the granted hosts could not be opened: {error}\n")
        sys.exit(125)
    here = "localhost,127.0.0.1,::1"
    for name, value in (("http_proxy", proxy), ("https_proxy", proxy), ("no_proxy", here)):
        os.environ[name] = os.environ[name.upper()] = value
    command = sys.argv[2:]
    try:
        os.execvp(command[0], command)  # noqa: S606 - it becomes the command
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


_main()
