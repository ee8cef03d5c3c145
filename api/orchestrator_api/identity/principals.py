"""Principals, and the one function that says what they may do: nothing, unless it was granted."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

# Stands for every user, or every service, in what administrators write. Nowhere else: a user may
# well be called like that.
ALL = "*"
Role = Literal["user", "portal", "administrator"]
Names = Annotated[tuple[str, ...], Field(max_length=10_000)]


class Strict(BaseModel):
    """What an administrator writes about identity: a misspelt field is an error, not ignored."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


@dataclass(frozen=True)
class Principal:
    """A caller that is known: its name for limits and logs, and whose jobs are its to handle.

    None stands for every user, or every service.
    """

    name: str
    users: Collection[str] | None
    services: Collection[str] | None

    @property
    def only_user(self) -> str:
        """Return the one user that it may act for, or nothing where there are more."""
        return next(iter(self.users)) if self.users is not None and len(self.users) == 1 else ""

    def may(self, user: str, service: str) -> bool:
        """Return whether it may submit, read and stop jobs of *user* on *service*."""
        return _holds(self.users, user) and _holds(self.services, service)


def _holds(granted: Collection[str] | None, name: str) -> bool:
    return granted is None or name in granted


def _granted(names: Collection[str]) -> Collection[str] | None:
    return None if ALL in names else frozenset(names)


class Grant(Strict):
    """What a portal may act for; `*` is everything, nothing written is nothing."""

    users: Names = Field(min_length=1)
    services: Names = Field(min_length=1)

    def principal(self, name: str) -> Principal:
        """Return the portal called *name*."""
        return Principal(name, _granted(self.users), _granted(self.services))


class Entry(Strict):
    """Whom a credential stands for."""

    role: Role
    user: str = Field(default="", description="For the role user: the userID of its jobs.")
    users: Names = Field(default=(), description="For the role portal: users that it acts for.")
    services: Names = Field(default=(), description="For the role portal: services it may use.")

    @model_validator(mode="after")
    def _complete(self) -> "Entry":
        if (self.role == "user") != bool(self.user):
            raise ValueError("user is for the role user, which needs it")
        granted = bool(self.users), bool(self.services)
        if granted != ((True, True) if self.role == "portal" else (False, False)):
            raise ValueError("users and services are for the role portal, which needs both")
        return self

    def principal(self, name: str) -> Principal:
        """Return the principal called *name* with this role."""
        match self.role:
            case "user":
                return user(name, self.user)
            case "portal":
                return Grant(users=self.users, services=self.services).principal(name)
            case "administrator":
                return administrator(name)


def user(name: str, user_id: str) -> Principal:
    """Return a principal that sees and does only what is its own."""
    return Principal(name, frozenset({user_id}), None)


def administrator(name: str) -> Principal:
    """Return a principal that may do everything."""
    return Principal(name, None, None)


# Whoever calls, where nobody is asked who they are: as in the old system.
ANYBODY = administrator("anybody")
