"""What can be set about the web app; every default works without configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` requests at once, `per_second` on average."""

    burst: int
    """Requests allowed at once."""
    per_second: float
    """Requests allowed per second in the long run."""


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings of one server process."""

    project: str = "default"
    """Project a request is about when it names none."""
    base_url: str | None = None
    """Address people reach the site at, for links in invitations; None takes it from the request."""
    secure_cookies: bool | None = None
    """Whether cookies are for HTTPS only; None follows the scheme of each request."""
    max_body: int = MIB
    """Bytes of an ordinary request body."""
    max_upload: int = 512 * MIB
    """Bytes of an uploaded file."""
    session_hours: float = 12.0
    """Hours after which a person has to log in again."""
    threads: int = 16
    """Requests worked on at the same time; more wait their turn."""
    password_threads: int = 2
    """Password checks at the same time: each takes a processor and 16 MiB for a moment, by design."""
    password_wait_s: float = 5.0
    """Seconds a login waits for its turn before it is told to come back."""
    per_caller: Rate = field(default_factory=lambda: Rate(burst=100, per_second=20.0))
    """Requests of one person or key."""
    per_address: Rate = field(default_factory=lambda: Rate(burst=2000, per_second=400.0))
    """Requests from one address; a whole office may share one."""
    logins_per_name: Rate = field(default_factory=lambda: Rate(burst=8, per_second=1 / 30))
    """Failed logins of one name, from anywhere."""
    logins_per_address: Rate = field(default_factory=lambda: Rate(burst=40, per_second=0.2))
    """Failed logins, keys and invitations from one address."""
    reload_pages: bool = False
    """Read templates and static files anew for each request; for those who write them."""


def unlimited(settings: AppSettings) -> AppSettings:
    """The same settings without rate limits, for measurements."""
    free = Rate(burst=10**9, per_second=1e9)
    return replace(settings, per_caller=free, per_address=free)
