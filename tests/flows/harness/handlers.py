"""weir with handlers: puppets (tests/plugins/puppet.c), which do what a field of the request says."""

import json

from .env import BINARY
from .weir import base_config, merged

PLUGINS = BINARY.parent / "tests" / "plugins"


def handler(name="a", plugin="puppet", **more):
    """Patient, because a test machine may be late."""
    made = {"name": name, "plugin": str(PLUGINS / f"{plugin}.so"), "timeout": "5s", "config": {"tag": name}}
    return merged(made, more)


def start(weir, upstream, *handlers, server=None, listener=None, pipeline=None, route=None, routes=(), **more):
    """A weir with a route that passes all @handlers, and the other @routes."""
    handlers = handlers or (handler(),)

    def config(directory):
        made = base_config(directory, [upstream.endpoint])
        route_ = merged({"handlers": [h["name"] for h in handlers]}, route)
        return made | {
            "server": merged(made["server"], server),
            "listener": [merged(made["listener"][0], listener)],
            "pipeline": [merged(made["pipeline"][0], pipeline)],
            "handler": list(handlers),
            "route": [merged(made["route"][0], route_), *routes],
        }

    return weir(config=config, **more)


def do(*commands, tag="a"):
    return f"x-do-{tag}: {'|'.join(commands)}"


def problem(reply):
    assert reply.fields.get("content-type") == "application/problem+json"
    assert reply.fields.get("x-request-id") == json.loads(reply.body)["request_id"]
    return json.loads(reply.body)
