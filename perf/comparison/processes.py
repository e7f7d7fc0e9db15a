"""Children of this script: started in sessions of their own, watched, and always stopped by their pids."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

STOP_SECONDS_MAX = 15
# A command that hangs must not hang the run.
COMMAND_SECONDS_MAX = 900
POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 12


class Failed(Exception):
    """One line for people; more lines may follow it."""

    def first_line(self):
        return str(self).splitlines()[0]


def step(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def note(text):
    print(f"    {text}", file=sys.stderr, flush=True)


class Process:
    """A child in a session of its own, so that Ctrl-C reaches this script alone, which then stops it in good order."""

    running = []

    def __init__(self, name, command, log, environment=None, stdin=subprocess.DEVNULL):
        self.name, self.log = name, pathlib.Path(log)
        self.output = open(log, "ab")
        self.popen = subprocess.Popen(
            [str(part) for part in command], stdin=stdin, stdout=self.output, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, **(environment or {})})
        Process.running.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def is_alive(self):
        return self.popen.poll() is None

    def stop(self, how=signal.SIGTERM):
        if self.is_alive():
            self.popen.send_signal(how)
            try:
                self.popen.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                note(f"{self.name} (pid {self.pid}) did not stop within {STOP_SECONDS_MAX} s: killing it")
                self.popen.kill()
                self.popen.wait()
        self.output.close()
        if self in Process.running:
            Process.running.remove(self)
        return self.popen.returncode

    def kill(self):
        """SIGKILL, and gone when this returns. The time of the signal, in ns since the Unix epoch."""
        killed_ns = time.time_ns()
        self.popen.kill()
        self.stop()
        return killed_ns

    def end_of_log(self):
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(f"    | {line}" for line in lines)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        return self.memory_bytes("VmRSS")

    def rss_peak_bytes(self):
        """The highest since the process began, or since the last `forget_rss_peak`."""
        return self.memory_bytes("VmHWM")

    def forget_rss_peak(self):
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def memory_bytes(self, key):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) * 1024


def stop_all():
    for process in list(Process.running):
        process.stop(signal.SIGKILL)


def run(command, seconds_max=COMMAND_SECONDS_MAX, accepted=(0,)):
    """A command whose stdout is returned; Failed with its end if it hangs or its exit code is not accepted."""
    command = [str(part) for part in command]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             start_new_session=True)
    try:
        stdout, stderr = child.communicate(timeout=seconds_max)
    except BaseException as e:
        # Its results are not wanted any more: it need not wait for answers.
        child.kill()
        child.wait()
        if isinstance(e, subprocess.TimeoutExpired):
            raise Failed(f"{pathlib.Path(command[0]).name} did not end within {seconds_max} s") from e
        raise
    if child.returncode not in accepted:
        end = "\n".join((stderr or stdout).splitlines()[-LOG_LINES_SHOWN:])
        raise Failed(f"{pathlib.Path(command[0]).name} ended with {child.returncode}: {end}")
    return stdout


def said(command):
    """Output of a command that may be missing."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=20)
        return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def http_get(port, path):
    """The body, or None where nobody answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


def wait_until(what, is_true, seconds, processes=()):
    """The first true value of is_true(); Failed if it does not come, or if one of the processes ends by itself."""
    processes = list(processes)
    deadline = time.monotonic() + seconds
    while not (value := is_true()):
        for process in processes:
            if not process.is_alive():
                raise Failed(f"{process.name} stopped by itself. The end of its log:\n{process.end_of_log()}")
        if time.monotonic() > deadline:
            logs = "".join(f"\n{process.name}:\n{process.end_of_log()}" for process in processes)
            raise Failed(f"{what}: not within {seconds} s{logs}")
        time.sleep(POLL_SECONDS)
    return value
