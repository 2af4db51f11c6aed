"""
The embedded server: found, started, killed, restarted, and gone afterwards in every case.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_bridge import embedded
from tasks_bridge.embedded import EmbeddedRedis, find_server
from tasks_bridge.errors import SettingsError, StoreError


@pytest.fixture
def server():
    with EmbeddedRedis() as server:
        yield server


def fake_program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def wait_until(condition: Callable[[], bool], expected: str, timeout_s: float = 10.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"expected within {timeout_s:g} s: {expected}"
        time.sleep(0.01)


def setting(url: str, name: str) -> str:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return str(client.config_get(name)[name])


def test_it_answers_at_its_url_and_tells_its_version(server):
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    product, number = server.version.split()
    assert product in {"valkey", "redis"}
    assert int(number.split(".")[0]) >= 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bind", "127.0.0.1"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
        ("save", ""),
    ],
)
def test_it_is_private_and_durable(server, name, value):
    assert setting(server.url, name) == value


def test_stopping_leaves_no_process_and_no_directory():
    children = psutil.Process().children()
    with EmbeddedRedis() as server:
        pid, directory = server.pid, server.directory
        assert pid is not None
        assert directory is not None
        assert psutil.pid_exists(pid)
        assert directory.is_dir()

    assert not psutil.pid_exists(pid)
    assert not directory.exists()
    assert server.pid is None
    assert psutil.Process().children() == children


def test_stopping_twice_and_starting_twice_do_no_harm(server):
    pid = server.pid
    server.start()
    assert server.pid == pid

    server.stop()
    server.stop()
    assert server.pid is None


def test_a_killed_server_restarts_at_its_address_with_its_data(server):
    url, pid = server.url, server.pid
    with redis.Redis.from_url(url) as client:
        client.config_set("appendfsync", "always")  # on disk before it answers
        client.set("kept", "yes")

    server.kill()
    assert server.pid is None
    assert server.url == url

    server.restart()
    assert server.pid not in {None, pid}
    assert server.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_a_crash_is_noticed_and_start_brings_it_back(server):
    url, pid = server.url, server.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None, "the dead server is not reported as running")

    server.start()
    assert server.pid is not None
    assert server.url == url


def test_a_given_directory_stays(tmp_path):
    directory = tmp_path / 'with "quotes" and spaces'
    with EmbeddedRedis(directory=directory) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    assert directory.is_dir()

    with EmbeddedRedis(directory=directory) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def test_a_password_is_asked_for_and_not_shown():
    password = 'a "long\\/@: one'
    with EmbeddedRedis(password=password) as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
        with (
            redis.Redis(
                port=int(server.url.rpartition(":")[2].partition("/")[0]), retry=Retry(NoBackoff(), 0)
            ) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        assert "long" not in repr(server)
        assert not any("long" in word for word in psutil.Process(server.pid).cmdline())
        assert server.directory is not None
        assert (server.directory / "server.conf").stat().st_mode & 0o077 == 0


def test_a_fixed_port_that_is_taken_is_refused(server):
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(StoreError, match=f"port {port} of 127.0.0.1 is taken"):
        EmbeddedRedis(port=port).start()
    with redis.Redis.from_url(server.url) as client:
        assert client.ping(), "expected the first server to be left alone"


def test_a_port_that_was_taken_meanwhile_is_replaced_by_another(server, monkeypatch):
    taken = int(server.url.rpartition(":")[2].partition("/")[0])
    free = embedded.free_port
    answers = iter([taken])
    monkeypatch.setattr(embedded, "free_port", lambda: next(answers, None) or free())

    with EmbeddedRedis() as second:
        assert second.url != server.url
        assert second.pid != server.pid


def test_servers_started_at_once_from_threads_do_not_collide():
    servers = [EmbeddedRedis() for _ in range(4)]
    threads = [threading.Thread(target=server.start) for server in servers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # The threads are gone and the servers must not be.
        assert len({server.url for server in servers}) == len(servers)
        assert all(server.pid is not None for server in servers)
    finally:
        for server in servers:
            server.stop()


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGTERM)", "sys.exit()"]
)
def test_it_does_not_outlive_the_process_that_started_it(end):
    script = f"""
import os, signal, sys
from tasks_bridge.embedded import EmbeddedRedis
server = EmbeddedRedis()
server.start()
print(server.pid, server.directory, flush=True)
{end}
"""
    answer = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    pid, directory = answer.stdout.split()
    wait_until(lambda: not psutil.pid_exists(int(pid)), f"server {pid} is gone with its parent")
    wait_until(lambda: not Path(directory).exists(), f"{directory} is gone with its owner")


def test_a_fork_of_the_process_that_exits_does_not_stop_it():
    script = """
import os, sys
from tasks_bridge.embedded import EmbeddedRedis
with EmbeddedRedis() as server:
    if os.fork() == 0:
        sys.exit()
    os.wait()
    assert server.version
    print("still there")
"""
    answer = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert answer.stdout == "still there\n"


def test_a_given_url_is_used_as_it_is_and_never_stopped(server):
    with EmbeddedRedis(url=server.url) as same:
        assert same.url == server.url
        assert same.version == server.version
        assert same.pid is None
        with pytest.raises(SettingsError, match="cannot be killed"):
            same.kill()
        with pytest.raises(SettingsError, match="cannot be restarted"):
            same.restart()
    assert server.pid is not None


def test_a_given_url_that_does_not_answer_is_an_error_without_its_password():
    port = embedded.free_port()
    with pytest.raises(StoreError) as caught:
        EmbeddedRedis(url=f"redis://:hunter2@127.0.0.1:{port}/0").start()
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_program_that_does_not_start_is_an_error_with_its_words(tmp_path):
    program = fake_program(tmp_path, "valkey-server", "echo 'Fatal: out of luck'; exit 1")
    with pytest.raises(StoreError, match="valkey-server did not start: Fatal: out of luck"):
        EmbeddedRedis(program=program).start()


def test_the_first_recent_server_on_path_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_program(tmp_path, "redis-server", "echo 'Redis server v=7.2.4 sha=00000000:0'")
    assert find_server().path == tmp_path / "redis-server"

    fake_program(tmp_path, "valkey-server", "echo 'Valkey server v=8.1.0 sha=00000000:0'")
    assert find_server().path == tmp_path / "valkey-server"


@pytest.mark.parametrize("script", ["echo 'Redis server v=6.0.16 sha=0'", "exit 1", "echo something else"])
def test_a_server_on_path_that_is_old_or_broken_is_passed_over(tmp_path, monkeypatch, script):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = fake_program(tmp_path, "redis-server", script)
    assert find_server().path != program


def test_only_an_old_server_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "packaged_server", lambda: None)
    program = fake_program(tmp_path, "redis-server", "echo 'Redis server v=6.0.16 sha=0'")
    with pytest.raises(SettingsError, match=f"{program} is redis 6.0.16, which is too old"):
        find_server()


def test_no_server_at_all_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "packaged_server", lambda: None)
    with pytest.raises(SettingsError, match=r"pip install tasks-bridge\[embedded\]"):
        find_server()
